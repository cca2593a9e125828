// What the workers did and when: a lane for each worker, a bar for each trial, and their sums.

import { h, none, s } from "../dom.js";
import { duration, percent, time, timeOf } from "../format.js";
import { canvas, legend, line, plot, text } from "./plot.js";
import { linear } from "./scale.js";

const ROW = 58;
const MOST_BARS = 3000; // the newest

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
  workers.forEach((w, i) => {
    const top = i * ROW + 4;
    parts.push(
      text(
        8,
        top + 12,
        `${w.worker} · ${w.trials} trials` +
          (w.failed ? `, ${w.failed} failed` : "") +
          ` · busy ${percent(busy(w))}`,
        { class: "label" },
      ),
    );
    for (const t of ended.slice(-MOST_BARS).filter((e) => e.worker === w.worker)) {
      parts.push(bar(t, start, top, x));
    }
    parts.push(...sums(w, top, x));
  });
  return [
    canvas(width, bottom + 22, ...parts),
    legend([
      ["state-done", "measured"],
      ["state-confirm", "confirmed"],
      ["state-failed", "failed"],
      ["part-timed", "timing"],
      ["part-other", "compiling and checking"],
      ["part-idle", "idle"],
    ]),
  ];
}

function bar(t, start, top, x) {
  const kind =
    t.state !== "done" ? "state-failed" : t.purpose === "confirm" ? "state-confirm" : "state-done";
  const from = x(t.finished - t.cost_s - start);
  const what = t.state === "done" ? time(timeOf(t)) : (t.failure ?? t.state);
  return s(
    "rect",
    {
      x: from,
      y: top + 18,
      height: 16,
      class: kind,
      width: Math.max(1, x(t.finished - start) - from - 0.6),
    },
    s("title", {}, `trial ${t.number}: ${what}, ${duration(t.cost_s)}`),
  );
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
