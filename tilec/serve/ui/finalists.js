// The last measurement of the best few, side by side: what was confirmed.

import { chip, grid, h, none } from "./dom.js";
import { config, median, percent, time, variation } from "./format.js";

// A table of the last confirmation that has times, the fastest first.
export function finalists(study, trials) {
  const last = trials.findLast((t) => t.purpose === "confirm" && t.state === "done");
  if (!last) return none("The best few have not been measured side by side yet.");
  const rows = last.configs.map((chosen, i) => ({ chosen, samples: last.samples_ms[i] ?? [] }));
  rows.forEach((r) => {
    r.ms = median(r.samples);
  });
  rows.sort((a, b) => (a.ms ?? Infinity) - (b.ms ?? Infinity));
  const best = rows[0].ms;
  const heads = [
    "",
    ["time", "number"],
    ["above the fastest", "number"],
    ["noise", "number"],
    ["samples", "number"],
    "config",
  ];
  return h(
    "div",
    {},
    grid(
      "Confirmation",
      "finalists",
      heads,
      rows.map((r) => row(r, best, study)),
    ),
    h(
      "p",
      { class: "quiet after" },
      `Measured in turns by ${last.worker ?? "a worker"}. The default stays unless others are ` +
        "surely faster, by more than 1%; of those within 1% of the fastest the nearest to it wins.",
    ),
  );
}

function row({ chosen, samples, ms }, best, study) {
  const same = (other) => other && config(other) === config(chosen);
  const noise = variation(samples);
  return h(
    "tr",
    {},
    h(
      "td",
      {},
      same(study.winner?.config) ? chip("winner", "done") : null,
      same(study.space.default) ? chip("default", "draining") : null,
    ),
    h("td", { class: "number" }, time(ms)),
    h("td", { class: "number" }, ms === null || best === null ? "–" : percent(ms / best - 1)),
    h("td", { class: "number" }, noise === null ? "–" : percent(noise)),
    h("td", { class: "number" }, String(samples.length)),
    h("td", { class: "mono" }, config(chosen)),
  );
}
