// All studies.

import { get } from "./api.js";
import { chip, grid, h, meter, none, nothing, said, studyLink } from "./dom.js";
import { config, time, when } from "./format.js";
import { poll } from "./poll.js";

const ENDED = ["done", "cancelled", "failed"];
const PAUSE_MS = 250; // after the last letter, before the service is asked

export function studiesView(signal, failed) {
  const view = { newest: [], rest: [], found: [], cursor: null, signal, failed };
  view.words = h("input", {
    type: "search",
    placeholder: "Filter by name, device, state …",
    "aria-label": "Filter studies",
    oninput: () => typed(view),
  });
  view.list = h("div", { "aria-busy": "true" }, none("Loading …"));
  const more = { type: "button", class: "small", hidden: true, onclick: () => older(view) };
  view.more = h("button", more, "Older studies");
  poll(() => newest(view), signal, failed);
  return h(
    "div",
    {},
    h("div", { class: "row" }, h("h1", { class: "grow" }, "Studies"), view.words),
    h("div", { class: "card flush" }, view.list),
    h("div", { class: "row" }, view.more),
  );
}

async function newest(view) {
  const page = await get("studies", view.signal);
  view.newest = page.studies;
  if (!view.rest.length) view.cursor = page.cursor;
  redraw(view);
}

async function older(view) {
  try {
    const page = await get(`studies?cursor=${encodeURIComponent(view.cursor)}`, view.signal);
    view.rest.push(...page.studies);
    view.cursor = page.cursor;
    redraw(view);
  } catch (error) {
    view.failed(error);
  }
}

// Shows what matches of the studies that are here, and soon of those that are not.
function typed(view) {
  if (!view.words.value.trim()) view.found = [];
  redraw(view);
  clearTimeout(view.timer);
  if (view.cursor !== null) view.timer = setTimeout(() => search(view), PAUSE_MS);
}

async function search(view) {
  const words = view.words.value.trim().slice(0, 200);
  if (!words) return;
  try {
    const page = await get(`studies?find=${encodeURIComponent(words)}`, view.signal);
    if (words !== view.words.value.trim().slice(0, 200)) return; // more was typed
    view.found = page.studies;
    redraw(view);
  } catch (error) {
    if (error.status === 401) view.failed(error);
  }
}

function redraw(view) {
  const studies = new Map();
  for (const s of [...view.found, ...view.rest, ...view.newest]) studies.set(s.id, s);
  const all = [...studies.values()].sort((a, b) => b.created - a.created);
  const wanted = view.words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = all.filter((s) => wanted.every((w) => textOf(s).includes(w)));
  view.list.setAttribute("aria-busy", "false");
  view.more.hidden = view.cursor === null || wanted.length > 0;
  if (!all.length) view.list.replaceChildren(noStudies());
  else view.list.replaceChildren(found.length ? table(found) : nothing("No study matches."));
}

function textOf(s) {
  const parts = [s.name, s.state, device(s), config(s.shape), s.tenant, s.kernel];
  return parts.join(" ").toLowerCase();
}

function noStudies() {
  const how = h("p", {}, "Submit one with ", h("code", {}, "tilec tune submit"), ".");
  return nothing("There are no studies yet.", how);
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
