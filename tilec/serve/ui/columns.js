// What the table of trials shows of a trial, and how it is sorted and filtered.

import { chip } from "./dom.js";
import { config, duration, percent, time, timeOf, variation } from "./format.js";

const MOST_COLUMNS = 8; // of parameters; more are written in one column

// A confirmation has many configs and times, which stand in a table of their own.
export function measured(t) {
  return t.purpose === "measure";
}

// The columns: a name, `of(trial)` the value, `show(value, trial)` what is shown of it.
export function columnsOf(space) {
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
      of: stateOf,
      show: (v, t) => chip(v, t.state === "failed" ? "failed" : v),
    },
    ...parametersOf(space),
    { name: "worker", of: (t) => t.worker ?? "", mono: true },
    { name: "compiling", of: (t) => t.compile_s, show: duration, number: true },
    { name: "cost", of: (t) => t.cost_s, show: duration, number: true },
  ];
}

function parametersOf(space) {
  const free = space.parameters.filter((p) => p.values.length > 1);
  if (free.length > MOST_COLUMNS)
    return [
      { name: "config", of: (t) => (measured(t) ? config(t.configs[0]) : null), mono: true },
    ];
  return free.map((p) => ({
    name: p.name,
    of: (t) => (measured(t) ? t.configs[0][p.name] : null),
    mono: true,
  }));
}

function stateOf(t) {
  if (t.state === "failed") return t.failure;
  return t.purpose === "confirm" && t.state === "done" ? "confirmed" : t.state;
}

// Trials in the order of a column; `way` is 1 or -1. What has no value stays last.
export function sorted(trials, { column, way }) {
  const missing = (v) => v === null || v === undefined || v === "";
  const keyed = trials.map((t) => [column.of(t), t]);
  keyed.sort(
    ([a, s], [b, t]) =>
      (missing(a) || missing(b) ? missing(a) - missing(b) : way * compare(a, b)) ||
      s.number - t.number,
  );
  return keyed.map(([, t]) => t);
}

const COLLATOR = new Intl.Collator("en", { numeric: true });

function compare(a, b) {
  return typeof a === "number" && typeof b === "number"
    ? a - b
    : COLLATOR.compare(String(a), String(b));
}

// Whether a trial has every one of these words: `bm=64` means just that, other words any part.
export function matcher(words) {
  const wanted = words
    .toLowerCase()
    .split(/[\s,]+/)
    .filter(Boolean)
    .map((w) => (w.includes("=") ? new RegExp(`(^|\\s)${escape(w)}[,\\s]`) : w));
  if (!wanted.length) return () => true;
  return (t) => {
    const text = `${textOf(t)} `;
    return wanted.every((w) => (typeof w === "string" ? text.includes(w) : w.test(text)));
  };
}

function textOf(t) {
  const chosen = measured(t) ? config(t.configs[0]) : "";
  return [chosen, t.state, t.failure, t.worker, t.purpose, t.detail, t.number]
    .join(" ")
    .toLowerCase();
}

function escape(words) {
  return words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
