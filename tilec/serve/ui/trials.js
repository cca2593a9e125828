// The table of trials: sorted, filtered, two of them chosen to be compared, exported.

import { announce, chip, h, steady } from "./dom.js";
import { csv, download, fileName } from "./csv.js";
import { config, duration, percent, time, timeOf, variation } from "./format.js";

const PAGE = 60;
const MOST_COLUMNS = 8; // of parameters; more are written in one column

// A confirmation has many configs and times, which stand in a table of their own.
function measured(t) {
  return t.purpose === "measure";
}

function columnsOf(space) {
  const free = space.parameters.filter((p) => p.values.length > 1);
  const parameters =
    free.length <= MOST_COLUMNS
      ? free.map((p) => ({
          name: p.name,
          of: (t) => (measured(t) ? t.configs[0][p.name] : null),
          mono: true,
        }))
      : [{ name: "config", of: (t) => (measured(t) ? config(t.configs[0]) : null), mono: true }];
  return [
    { name: "trial", of: (t) => t.number, number: true },
    { name: "time", of: (t) => (measured(t) ? timeOf(t) : null), show: time, number: true },
    {
      name: "noise",
      of: (t) => (measured(t) ? variation(t.samples_ms[0]) : null),
      show: (v) => (v === null ? "–" : percent(v)),
      number: true,
    },
    {
      name: "state",
      of: (t) =>
        t.state === "failed"
          ? t.failure
          : t.purpose === "confirm" && t.state === "done"
            ? "confirmed"
            : t.state,
      show: (v, t) => chip(v, t.state === "failed" ? "failed" : v),
    },
    ...parameters,
    { name: "worker", of: (t) => t.worker ?? "", mono: true },
    { name: "cost", of: (t) => t.cost_s, show: duration, number: true },
  ];
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined || a === "") return 1;
  if (b === null || b === undefined || b === "") return -1;
  return typeof a === "number" && typeof b === "number"
    ? a - b
    : String(a).localeCompare(String(b), "en", { numeric: true });
}

// `compared(trials)` is called with the one or two trials that are ticked.
export function trialsTable(study, compared) {
  const columns = columnsOf(study.space);
  let trials = [];
  let within = null; // numbers of trials chosen elsewhere
  let sort = { column: columns[0], way: 1 };
  let shown = PAGE;
  let ticked = [];

  const words = h("input", {
    type: "search",
    placeholder: "bm=64, gpu-1, timeout …",
    "aria-label": "Filter trials by text",
    oninput: () => redraw(true),
  });
  const state = h(
    "select",
    { "aria-label": "Filter trials by state", onchange: () => redraw(true) },
    ...["all states", "done", "failed", "poison", "leased", "pending", "cancelled"].map((o) =>
      h("option", {}, o),
    ),
  );
  const count = h("span", { class: "quiet", role: "status" });
  const heads = columns.map((c) => {
    const button = h("button", { type: "button", onclick: () => order(c) }, c.name);
    return h("th", { scope: "col", class: c.number ? "number" : null }, button);
  });
  const body = h("tbody");
  const more = h(
    "button",
    {
      type: "button",
      class: "small",
      onclick: () => {
        shown += 5 * PAGE;
        redraw();
      },
    },
    "Show more",
  );
  const table = h(
    "div",
    { class: "scrolled tall", tabindex: "0", role: "region", "aria-label": "Trials" },
    h(
      "table",
      { class: "trials" },
      h(
        "thead",
        {},
        h("tr", {}, h("th", { scope: "col" }, h("span", { class: "unseen" }, "compare")), ...heads),
      ),
      body,
    ),
  );
  const element = h(
    "div",
    {},
    h(
      "div",
      { class: "row" },
      words,
      state,
      count,
      h("span", { class: "grow" }),
      h("button", { type: "button", class: "small", onclick: () => save("csv") }, "Export CSV"),
      h("button", { type: "button", class: "small", onclick: () => save("json") }, "Export JSON"),
    ),
    table,
    h("div", { class: "row" }, more),
  );

  function order(column) {
    sort = { column, way: sort.column === column ? -sort.way : 1 };
    redraw();
    announce(`sorted by ${column.name}, ${sort.way > 0 ? "ascending" : "descending"}`);
  }

  function matching() {
    const wanted = words.value
      .toLowerCase()
      .split(/[\s,]+/)
      .filter(Boolean);
    const found = trials.filter((t) => {
      if (within && !within.has(t.number)) return false;
      if (state.selectedIndex && t.state !== state.value) return false;
      if (!wanted.length) return true;
      const text = [
        measured(t) ? config(t.configs[0]) : "",
        t.state,
        t.failure,
        t.worker,
        t.purpose,
        t.detail,
        t.number,
      ]
        .join(" ")
        .toLowerCase();
      return wanted.every((w) =>
        w.includes("=")
          ? `${text} `.match(new RegExp(`(^|\\s)${escape(w)}[,\\s]`))
          : text.includes(w),
      );
    });
    const keyed = found.map((t) => [sort.column.of(t), t]);
    keyed.sort(([a, s], [b, t]) => {
      const missing = (v) => v === null || v === undefined || v === "";
      const way = missing(a) || missing(b) ? 1 : sort.way; // what has no value stays last
      return way * compare(a, b) || s.number - t.number;
    });
    return keyed.map(([, t]) => t);
  }

  function redraw(fromTop = false) {
    if (fromTop) shown = PAGE;
    const found = matching();
    heads.forEach((th, i) =>
      th.setAttribute(
        "aria-sort",
        columns[i] !== sort.column ? "none" : sort.way > 0 ? "ascending" : "descending",
      ),
    );
    count.textContent =
      found.length === trials.length
        ? `${trials.length} trials`
        : `${found.length} of ${trials.length} trials`;
    steady(body, () => body.replaceChildren(...found.slice(0, shown).map(row)));
    if (!found.length) {
      body.append(
        h(
          "tr",
          {},
          h(
            "td",
            { colspan: columns.length + 1, class: "nothing" },
            trials.length ? "No trial matches." : "No trial yet.",
          ),
        ),
      );
    }
    more.hidden = found.length <= shown;
  }

  function row(t) {
    const tick =
      measured(t) &&
      h("input", {
        type: "checkbox",
        checked: ticked.includes(t.number),
        "aria-label": `Compare trial ${t.number}`,
        onchange: (e) => toggle(t, e.target.checked),
      });
    const cells = columns.map((c) => {
      const value = c.of(t);
      const text = c.show ? c.show(value, t) : String(value ?? "–");
      return h(
        "td",
        { class: [c.number && "number", c.mono && "mono"].filter(Boolean).join(" ") },
        text,
      );
    });
    return h("tr", { "data-state": t.state, "data-trial": t.number }, h("td", {}, tick), ...cells);
  }

  function toggle(t, on) {
    ticked = ticked.filter((n) => n !== t.number);
    if (on) ticked = [...ticked, t.number].slice(-2);
    redraw();
    compared(ticked.map((n) => trials.find((u) => u.number === n)));
  }

  function save(kind) {
    const found = matching();
    if (kind === "json") {
      download(fileName(study.name, "json"), "application/json", JSON.stringify(found, null, 1));
      return;
    }
    const names = study.space.parameters.map((p) => p.name);
    const rows = found
      .filter(measured)
      .map((t) => [
        t.number,
        t.purpose,
        t.state,
        t.failure,
        timeOf(t),
        variation(t.samples_ms[0]),
        t.worker,
        t.cost_s,
        ...names.map((n) => t.configs[0][n]),
        t.detail,
      ]);
    const head = [
      "trial",
      "purpose",
      "state",
      "failure",
      "time_ms",
      "cv",
      "worker",
      "cost_s",
      ...names,
      "detail",
    ];
    download(fileName(study.name, "csv"), "text/csv", csv([head, ...rows]));
  }

  return {
    element,
    update(fresh) {
      trials = fresh;
      redraw();
    },
    choose(numbers) {
      within = numbers;
      redraw(true);
    },
    tick(t) {
      toggle(t, true);
    },
  };
}

function escape(words) {
  return words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
