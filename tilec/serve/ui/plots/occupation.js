// What the workers did and when: a lane for each worker, a bar for each trial, and their sums.

import { h, none, s } from "../dom.js";
import { duration, percent, time, timeOf } from "../format.js";
import { canvas, legend, line, plot, text } from "./plot.js";
import { linear } from "./scale.js";

const ROW = 58;
const MOST_BARS = 3000; // more of them than this are drawn together where they touch

export function occupation() {
  return plot({
    draw,
    describe: ({ workers }) =>
      "Workers: " +
      workers.map((w) => `${w.worker} ${w.trials} trials, busy ${percent(busy(w))}`).join("; "),
    note: ({ workers }) =>
      workers.length
        ? "The bar below each lane: the sum of the samples, what " +
          "else the trials cost (compiling, checking, warming up), and idle."
        : "",
  });
}

function busy(worker) {
  return Math.min(1, worker.busy_s / (worker.span_s || 1));
}

function draw({ workers, trials }, width) {
  const ended = trials.filter((t) => t.finished !== null && t.cost_s !== null && t.worker);
  if (!workers.length || !ended.length) {
    return none("No worker has measured anything yet.");
  }
  const start = Math.min(...ended.map((t) => t.finished - t.cost_s));
  const x = linear(0, workers[0].span_s || 1, 8, width - 16);
  const bottom = workers.length * ROW + 4;
  const parts = x
    .spans(width / 110)
    .flatMap((v) => [
      line(x(v), 4, x(v), bottom, "grid"),
      text(x(v), bottom + 16, duration(v), { class: "tick", "text-anchor": "middle" }),
    ]);
  const apart = ended.length > MOST_BARS ? 1.5 : -1; // pixels
  workers.forEach((w, i) => parts.push(...lane(w, bars(w, ended, start, x, apart), i * ROW + 4, x)));
  return [canvas(width, bottom + 22, ...parts), legend(MEANING)];
}

const MEANING = [
  ["state-done", "measured"],
  ["state-confirm", "confirmed"],
  ["state-failed", "failed"],
  ["part-timed", "timing"],
  ["part-other", "compiling and checking"],
  ["part-idle", "idle"],
];

function lane(w, bars, top, x) {
  const failed = w.failed ? `, ${w.failed} failed` : "";
  const words = `${w.worker} · ${w.trials} trials${failed} · busy ${percent(busy(w))}`;
  return [
    text(8, top + 12, words, { class: "label" }),
    ...bars.map((b) => bar(b, top)),
    ...sums(w, top, x),
  ];
}

// The trials of a worker from left to right, neighbours of a kind together that are not `apart`.
function bars(worker, trials, start, x, apart) {
  const found = [];
  const mine = trials.filter((t) => t.worker === worker.worker);
  for (const t of mine.sort((a, b) => a.finished - b.finished)) {
    const [from, to] = [x(t.finished - t.cost_s - start), x(t.finished - start)];
    const kind = kindOf(t);
    const last = found.at(-1);
    if (last?.kind === kind && from - last.to < apart) {
      last.to = to;
      last.trials.push(t);
    } else found.push({ kind, from, to, trials: [t] });
  }
  return found;
}

function kindOf(t) {
  if (t.state !== "done") return "state-failed";
  return t.purpose === "confirm" ? "state-confirm" : "state-done";
}

function bar({ kind, from, to, trials }, top) {
  const width = Math.max(1, to - from - 0.6);
  const place = { x: from, y: top + 18, height: 16, width, class: kind };
  return s("rect", place, s("title", {}, titleOf(trials)));
}

function titleOf(trials) {
  const [first, last] = [trials[0], trials.at(-1)];
  if (trials.length > 1) return `trials ${first.number} to ${last.number}`;
  const what = first.state === "done" ? time(timeOf(first)) : (first.failure ?? first.state);
  return `trial ${first.number}: ${what}, ${duration(first.cost_s)}`;
}

function sums(w, top, x) {
  const parts = [
    ["part-timed", w.timed_s],
    ["part-other", Math.max(0, w.busy_s - w.timed_s)],
    ["part-idle", Math.max(0, w.span_s - w.busy_s)],
  ];
  let from = 0;
  return parts.map(([kind, seconds]) => {
    const [left, right] = [x(from), x(Math.min(from + seconds, w.span_s))];
    from += seconds;
    return s(
      "rect",
      { x: left, y: top + 37, width: Math.max(0, right - left), height: 6, class: kind },
      s("title", {}, duration(seconds)),
    );
  });
}
