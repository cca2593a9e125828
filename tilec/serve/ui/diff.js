// Two configs side by side: what differs, and what it does to the time.

import { grid, h, none } from "./dom.js";
import { time, timeOf } from "./format.js";

// What can be compared: the default, the winner, the fastest trial, and those that are ticked.
export function contenders(study, trials, ticked) {
  const found = [];
  const first = study.space.default;
  if (first) found.push({ name: "default", config: first, ms: defaultMs(study, trials) });
  if (study.winner)
    found.push({ name: "winner", config: study.winner.config, ms: study.winner.time_ms });
  if (study.best)
    found.push({
      name: `fastest of the search (trial ${study.best.number})`,
      config: study.best.config,
      ms: study.best.time_ms,
    });
  for (const t of ticked.filter((t) => t && t.purpose === "measure")) {
    found.push({ name: `trial ${t.number}`, config: t.configs[0], ms: timeOf(t) });
  }
  return found;
}

// The time of the default: confirmed beside the winner, else as it was found by the search.
export function defaultMs(study, trials) {
  const confirmed = study.winner?.provenance.default_ms;
  if (confirmed) return confirmed;
  if (!study.space.default) return null;
  const text = key(study.space.default);
  const trial = trials.find((t) => t.purpose === "measure" && key(t.configs[0]) === text);
  return trial ? timeOf(trial) : null;
}

function key(config) {
  return JSON.stringify(Object.entries(config).sort());
}

export function differ(element) {
  let all = [];
  let picked = [null, null];
  const sides = [0, 1].map((i) =>
    h("select", {
      "aria-label": i ? "with" : "Compare",
      onchange: (e) => {
        picked[i] = e.target.value;
        redraw();
      },
    }),
  );
  const body = h("div");
  element.append(
    h("div", { class: "row" }, sides[0], h("span", { class: "quiet" }, "with"), sides[1]),
    body,
  );

  function redraw() {
    const names = all.map((c) => c.name);
    sides.forEach((side, i) => {
      side.replaceChildren(...names.map((n) => h("option", { selected: n === picked[i] }, n)));
    });
    const [a, b] = picked.map((name) => all.find((c) => c.name === name));
    body.replaceChildren(a && b ? table(a, b) : none("Nothing to compare yet."));
  }

  return {
    // `fresh` are contenders; where two trials are ticked, those are compared.
    update(fresh, ticked = []) {
      all = fresh;
      const names = all.map((c) => c.name);
      picked = chosen(names, ticked, picked);
      redraw();
    },
  };
}

// The names of the two sides: of what was ticked last, or as before where they are still there.
function chosen(names, ticked, before) {
  const last = ticked.map((t) => `trial ${t.number}`).filter((n) => names.includes(n));
  if (last.length === 2) return last;
  const wanted = last.length ? [names[0], last[0]] : before;
  return wanted.map((n, i) => (names.includes(n) ? n : (names[i] ?? null)));
}

function table(a, b) {
  const names = [...new Set([...Object.keys(a.config), ...Object.keys(b.config)])].sort();
  const differs = (n) => String(a.config[n]) !== String(b.config[n]);
  const sorted = [...names.filter(differs), ...names.filter((n) => !differs(n))];
  const gain = a.ms && b.ms ? a.ms / b.ms : null;
  const verdict = gain >= 1 ? `${gain.toFixed(2)}× faster` : `${(1 / gain).toFixed(2)}× slower`;
  const total = h(
    "tr",
    { class: "total" },
    h("th", { scope: "row" }, "time"),
    h("td", {}, still(time(a.ms))),
    h("td", {}, still(time(b.ms)), gain === null ? null : ` (${verdict})`),
  );
  const rows = sorted.map((n) =>
    h(
      "tr",
      { class: differs(n) ? "differs" : "same" },
      h("th", { scope: "row" }, n),
      cell(a.config[n]),
      cell(b.config[n]),
    ),
  );
  return grid("Comparison", "diff", ["parameter", a.name, b.name], [total, ...rows]);
}

// A number and its unit in one line.
function still(words) {
  return h("span", { class: "number" }, words);
}

function cell(value) {
  return h("td", { class: "mono" }, value === undefined ? "–" : String(value));
}
