// The table of trials: sorted, filtered, two of them chosen to be compared, exported.

import { columnsOf, matcher, measured, sorted } from "./columns.js";
import { csv, download, fileName } from "./csv.js";
import { announce, h, steady } from "./dom.js";
import { timeOf, variation } from "./format.js";

const PAGE = 60;
const STATES = ["all states", "done", "failed", "poison", "leased", "pending", "cancelled"];

// `compared(trials)` is called with the one or two trials that are ticked.
export function trialsTable(study, compared) {
  const columns = columnsOf(study.space);
  const view = { study, compared, columns, trials: [], shown: PAGE, ticked: [] };
  view.within = null; // numbers of trials chosen elsewhere
  view.sort = { column: columns[0], way: 1 };
  view.words = h("input", {
    type: "search",
    placeholder: "bm=64, gpu-1, timeout …",
    "aria-label": "Filter trials by text",
    oninput: () => redraw(view, true),
  });
  view.state = h(
    "select",
    { "aria-label": "Filter trials by state", onchange: () => redraw(view, true) },
    ...STATES.map((s) => h("option", {}, s)),
  );
  view.count = h("span", { class: "quiet", role: "status" });
  view.heads = columns.map((c) => head(view, c));
  view.body = h("tbody");
  view.more = button("Show more", () => {
    view.shown += 5 * PAGE;
    redraw(view);
  });
  return {
    element: laidOut(view),
    update: (fresh) => redraw(Object.assign(view, { trials: fresh })),
    choose: (numbers) => redraw(Object.assign(view, { within: numbers }), true),
    tick: (t) => toggle(view, t, true),
  };
}

function button(words, onclick) {
  return h("button", { type: "button", class: "small", onclick }, words);
}

function head(view, column) {
  const sort = () => {
    const way = view.sort.column === column ? -view.sort.way : 1;
    view.sort = { column, way };
    redraw(view);
    announce(`sorted by ${column.name}, ${way > 0 ? "ascending" : "descending"}`);
  };
  const side = column.number ? "number" : null;
  return h(
    "th",
    { scope: "col", class: side },
    h("button", { type: "button", onclick: sort }, column.name),
  );
}

function laidOut(view) {
  const ticks = h("th", { scope: "col" }, h("span", { class: "unseen" }, "compare"));
  const table = h(
    "table",
    { class: "trials" },
    h("thead", {}, h("tr", {}, ticks, ...view.heads)),
    view.body,
  );
  const place = { class: "scrolled tall", tabindex: "0", role: "region", "aria-label": "Trials" };
  return h(
    "div",
    {},
    h(
      "div",
      { class: "row" },
      view.words,
      view.state,
      view.count,
      h("span", { class: "grow" }),
      button("Export CSV", () => saveCsv(view)),
      button("Export JSON", () => saveJson(view)),
    ),
    h("div", place, table),
    h("div", { class: "row" }, view.more),
  );
}

function matching({ trials, within, state, words, sort }) {
  const matches = matcher(words.value);
  const found = trials.filter(
    (t) =>
      (!within || within.has(t.number)) &&
      (!state.selectedIndex || t.state === state.value) &&
      matches(t),
  );
  return sorted(found, sort);
}

function redraw(view, fromTop = false) {
  if (fromTop) view.shown = PAGE;
  const { columns, sort, trials } = view;
  const found = matching(view);
  view.heads.forEach((th, i) => {
    const way = sort.way > 0 ? "ascending" : "descending";
    th.setAttribute("aria-sort", columns[i] === sort.column ? way : "none");
  });
  const all = found.length === trials.length;
  view.count.textContent = `${all ? "" : `${found.length} of `}${trials.length} trials`;
  const rows = found.slice(0, view.shown).map((t) => row(view, t));
  steady(view.body, () => view.body.replaceChildren(...(rows.length ? rows : [empty(view)])));
  view.more.hidden = found.length <= view.shown;
}

function empty({ columns, trials }) {
  const words = trials.length ? "No trial matches." : "No trial yet.";
  return h("tr", {}, h("td", { colspan: columns.length + 1, class: "nothing" }, words));
}

function row(view, t) {
  const tick =
    measured(t) &&
    h("input", {
      type: "checkbox",
      checked: view.ticked.includes(t.number),
      "aria-label": `Compare trial ${t.number}`,
      onchange: (e) => toggle(view, t, e.target.checked),
    });
  const cells = view.columns.map((c) => {
    const value = c.of(t);
    const kind = [c.number && "number", c.mono && "mono"].filter(Boolean).join(" ");
    return h("td", { class: kind }, c.show ? c.show(value, t) : String(value ?? "–"));
  });
  return h("tr", { "data-state": t.state, "data-trial": t.number }, h("td", {}, tick), ...cells);
}

function toggle(view, t, on) {
  const others = view.ticked.filter((n) => n !== t.number);
  view.ticked = on ? [...others, t.number].slice(-2) : others;
  redraw(view);
  view.compared(view.ticked.map((n) => view.trials.find((u) => u.number === n)));
}

function saveJson(view) {
  const text = JSON.stringify(matching(view), null, 1);
  download(fileName(view.study.name, "json"), "application/json", text);
}

function saveCsv(view) {
  const { study } = view;
  const names = study.space.parameters.map((p) => p.name);
  const parts = {
    trial: (t) => t.number,
    purpose: (t) => t.purpose,
    state: (t) => t.state,
    failure: (t) => t.failure,
    time_ms: timeOf,
    cv: (t) => variation(t.samples_ms[0]),
    worker: (t) => t.worker,
    compile_s: (t) => t.compile_s,
    cost_s: (t) => t.cost_s,
  };
  const rows = matching(view)
    .filter(measured)
    .map((t) => [
      ...Object.values(parts).map((of) => of(t)),
      ...names.map((n) => t.configs[0][n]),
      t.detail,
    ]);
  const heads = [...Object.keys(parts), ...names, "detail"];
  download(fileName(study.name, "csv"), "text/csv", csv([heads, ...rows]));
}
