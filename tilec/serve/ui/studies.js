// All studies.

import { get } from "./api.js";
import { chip, grid, h, meter, none, nothing, said, studyLink } from "./dom.js";
import { config, time, when } from "./format.js";
import { poll } from "./poll.js";

const ENDED = ["done", "cancelled", "failed"];

export function studiesView(signal, failed) {
  const words = h("input", {
    type: "search",
    placeholder: "Filter by name, device, state …",
    "aria-label": "Filter studies",
    oninput: () => redraw(),
  });
  const list = h("div", { "aria-busy": "true" }, none("Loading …"));
  const more = h(
    "button",
    { type: "button", class: "small", hidden: true, onclick: older },
    "Older studies",
  );
  let newest = [];
  let rest = [];
  let cursor = null;

  async function older() {
    try {
      const page = await get(`studies?cursor=${encodeURIComponent(cursor)}`, signal);
      rest.push(...page.studies);
      cursor = page.cursor;
      redraw();
    } catch (error) {
      failed(error);
    }
  }

  function redraw() {
    const known = new Set(newest.map((s) => s.id));
    const all = [...newest, ...rest.filter((s) => !known.has(s.id))];
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = all.filter((s) => {
      const text = [s.name, s.state, device(s), config(s.shape), s.tenant, s.kernel]
        .join(" ")
        .toLowerCase();
      return wanted.every((w) => text.includes(w));
    });
    list.setAttribute("aria-busy", "false");
    more.hidden = cursor === null;
    if (!all.length) {
      list.replaceChildren(
        nothing(
          "There are no studies yet.",
          h("p", {}, "Submit one with ", h("code", {}, "tilec tune submit"), "."),
        ),
      );
      return;
    }
    list.replaceChildren(found.length ? table(found) : nothing("No study matches."));
  }

  poll(
    async () => {
      const page = await get("studies", signal);
      newest = page.studies;
      if (!rest.length) cursor = page.cursor;
      redraw();
    },
    signal,
    failed,
  );
  return h(
    "div",
    {},
    h("div", { class: "row" }, h("h1", { class: "grow" }, "Studies"), words),
    h("div", { class: "card flush" }, list),
    h("div", { class: "row" }, more),
  );
}

function device(study) {
  return study.measured_on?.name ?? `${study.device.kind}: ${study.device.name}`;
}

function table(studies) {
  const heads = [
    "study",
    "state",
    "trials",
    ["best", "number"],
    "device",
    "shape",
    ["created", "number"],
  ];
  return grid("Studies", "studies", heads, studies.map(row));
}

function row(study) {
  const { done, failed, poison } = study.trials;
  const gain = study.winner?.provenance.default_ms
    ? study.winner.provenance.default_ms / study.winner.time_ms
    : null;
  const best = study.winner?.time_ms ?? study.best?.time_ms;
  const ended = done + failed + poison;
  const isOver = ENDED.includes(study.state);
  const open = study.trials.pending + study.trials.leased;
  return h(
    "tr",
    { "data-study": study.id },
    h("td", {}, studyLink(study, "strong")),
    h("td", {}, chip(study.state)),
    h(
      "td",
      {},
      meter(
        isOver ? ended : Math.min(ended, study.budget),
        isOver ? ended + open : study.budget,
        "trials that ended",
      ),
    ),
    h(
      "td",
      { class: "number" },
      time(best),
      gain ? h("span", { class: "quiet" }, ` ${gain.toFixed(2)}×`) : null,
    ),
    h("td", {}, said(device(study))),
    h("td", { class: "mono" }, config(study.shape)),
    h("td", { class: "number" }, when(study.created)),
  );
}
