// The best time so far, beside what random search would have found with as many evaluations.

import { h, none, s } from "../dom.js";
import { duration, shortTime, time, timeOf } from "../format.js";
import { axes, canvas, legend, line, path, plot, text, tip } from "./plot.js";
import { linear, logarithmic } from "./scale.js";

const MOST_DOTS = 1500;
const FAILED_AT = 26; // pixels from the top: failed trials have a lane of their own

// The evaluations in the order in which they ended, with the best so far after each.
export function history(study, trials) {
  const ended = trials.filter(
    (t) =>
      t.purpose === "measure" &&
      (t.state === "done" || t.state === "failed" || t.state === "poison"),
  );
  ended.sort((a, b) => (a.finished ?? 0) - (b.finished ?? 0) || a.number - b.number);
  const first = Math.min(study.created, ...ended.slice(0, 1).map((t) => t.created));
  let best = null;
  return ended.map((t, i) => {
    const ms = timeOf(t);
    const isBest = ms !== null && (best === null || ms < best);
    if (isBest) best = ms;
    return { n: i + 1, trial: t, ms, best, isBest, elapsed: (t.finished ?? first) - first };
  });
}

// `by` is "n" (evaluations) or "elapsed" (seconds).
export function progress(by, chosen) {
  return plot({
    draw: (data, width) => draw(data, width, by, chosen),
    describe: (data) => words(data, by),
    note: by === "n" ? (data) => NOTES[data.band?.source ?? "none"] : undefined,
  });
}

const NOTES = {
  unbiased: "Random search in closed form: the median and the middle 90% over these trials.",
  weighted:
    "Random search in closed form: the median and the middle 90% over these trials, each " +
    "counted as much as the part of the space that is like it.",
  seen:
    "Random search in closed form over these trials as they are. The sampler chose good ones, " +
    "so random search looks better here than it is.",
  none: "",
};

function words({ points }, by) {
  const best = points.at(-1)?.best;
  const last = points.at(-1);
  if (!last) return "No evaluation has ended yet.";
  const after = by === "n" ? `${last.n} evaluations` : duration(last.elapsed);
  return `Best time so far after ${after}: ${time(best)}.`;
}

// The band with an x for each point: after n evaluations, or when this study had made n.
function placed(band, points, by) {
  if (!band) return [];
  if (by === "n") return band.points.map((p) => ({ ...p, x: p.n }));
  return band.points
    .filter((p) => p.n <= points.length)
    .map((p) => ({ ...p, x: points[p.n - 1].elapsed }));
}

function range(points, band, fallback) {
  const times = points.flatMap((p) => (p.ms === null ? [] : [p.ms])).sort((a, b) => a - b);
  const high = times[Math.floor(0.97 * (times.length - 1))];
  const upper = band.map((p) => p.median_ms).filter((ms) => ms !== null);
  const top = Math.max(high, fallback ?? 0, ...upper.slice(0, 1));
  return [times[0] * 0.93, Math.max(top, times[0] * 1.2) * 1.08];
}

function draw(data, width, by, chosen) {
  const { points, budget, defaultMs } = data;
  if (!points.some((p) => p.ms !== null)) {
    return none(points.length ? "No config ran yet." : "No evaluation yet.");
  }
  const height = Math.max(250, Math.min(330, width * 0.55));
  const box = { left: 62, right: width - 14, top: 40, bottom: height - 42 };
  const band = placed(data.band, points, by);
  const [low, high] = range(points, band, defaultMs);
  const last = by === "n" ? Math.max(budget, points.length) : points.at(-1).elapsed || 1;
  const x = linear(0, last, box.left, box.right);
  const scale = high / low > 4 ? logarithmic : linear;
  const y = scale(low, high, box.bottom, box.top);
  const inside = (ms) => Math.max(box.top, Math.min(box.bottom, y(ms)));
  const svg = canvas(
    width,
    height,
    axes(box, x, y, { ...AXES[by](x, width), yTicks: y.ticks(5), yText: shortTime }),
    ...randomly(band, x, inside),
    ...standard(defaultMs, box, inside),
    ...dots(points, x, inside, by, box),
    steps(points, x, inside, by, x(last)),
  );
  const host = h("div", { class: "hovered" }, svg);
  follow(host, svg, points, { x, inside, by, box }, chosen);
  return [host, meaning(points, band, defaultMs)];
}

const AXES = {
  n: (x, width) => ({ xTicks: x.ticks(width / 90), xText: String, ...names("evaluations") }),
  elapsed: (x, width) => ({ xTicks: x.spans(width / 110), xText: duration, ...names("time") }),
};

function names(xName) {
  return { xName, yName: "time of a call" };
}

function meaning(points, band, defaultMs) {
  return legend([
    ["best", "best so far"],
    ["dot", "a trial"],
    ...(points.some((p) => p.ms === null) ? [["cross", "failed"]] : []),
    ...(band.length ? [["band", "random search"]] : []),
    ...(defaultMs ? [["default", "default"]] : []),
  ]);
}

function randomly(band, x, inside) {
  const known = band.filter((p) => p.low_ms !== null);
  if (known.length < 2) return [];
  const top = known.map((p) => [x(p.x), p.high_ms === null ? inside(Infinity) : inside(p.high_ms)]);
  const bottom = known.map((p) => [x(p.x), inside(p.low_ms)]).reverse();
  const middle = known
    .filter((p) => p.median_ms !== null)
    .map((p) => [x(p.x), inside(p.median_ms)]);
  return [path([...top, ...bottom], "band"), path(middle, "median")];
}

function standard(ms, box, inside) {
  if (!ms) return [];
  return [
    line(box.left, inside(ms), box.right, inside(ms), "default"),
    text(box.right, inside(ms) - 6, `default ${time(ms)}`, { class: "tick", "text-anchor": "end" }),
  ];
}

function dots(points, x, inside, by, box) {
  const every = Math.ceil(points.length / MOST_DOTS);
  return points
    .filter((p, i) => p.isBest || i % every === 0)
    .map((p) => {
      if (p.ms !== null) {
        return s("circle", {
          cx: x(p[by]),
          cy: inside(p.ms),
          r: p.isBest ? 4 : 2.6,
          class: p.isBest ? "dot better" : "dot",
        });
      }
      const [cx, cy] = [x(p[by]), FAILED_AT];
      return s("path", { d: `M${cx - 3},${cy - 3}l6,6m0,-6l-6,6`, class: "cross" });
    });
}

function steps(points, x, inside, by, end) {
  const found = [];
  for (const p of points.filter((q) => q.isBest)) {
    if (found.length) found.push([x(p[by]), found.at(-1)[1]]);
    found.push([x(p[by]), inside(p.best)]);
  }
  found.push([Math.min(x(points.at(-1)[by]), end), found.at(-1)[1]]);
  return path(found, "best");
}

// A cursor that follows the pointer or the arrow keys, and says what trial it is at.
function follow(host, svg, points, place, chosen) {
  const cursor = { at: points.length - 1, note: tip(host), mark: hidden(place.box) };
  svg.append(cursor.mark);
  const show = (i) => pointAt(cursor, points, Math.max(0, Math.min(points.length - 1, i)), place);
  const hide = () => {
    cursor.mark.setAttribute("visibility", "hidden");
    cursor.note.hide();
  };
  svg.setAttribute("tabindex", "0");
  svg.addEventListener("pointermove", (e) =>
    show(nearest(points, place, e.clientX - svg.getBoundingClientRect().left)),
  );
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("focus", () => svg.matches(":focus-visible") && show(cursor.at));
  svg.addEventListener("click", () => chosen?.(points[cursor.at].trial));
  svg.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10 }[e.key];
    if (e.key === "Enter") chosen?.(points[cursor.at].trial);
    if (e.key === "Escape") hide();
    if (step === undefined) return;
    e.preventDefault();
    show(cursor.at + step);
  });
}

function hidden(box) {
  const mark = line(0, box.top, 0, box.bottom, "cursor");
  mark.setAttribute("visibility", "hidden");
  return mark;
}

function pointAt(cursor, points, i, { x, inside, by, box }) {
  cursor.at = i;
  const p = points[i];
  const { mark, note } = cursor;
  mark.setAttribute("x1", x(p[by]));
  mark.setAttribute("x2", x(p[by]));
  mark.setAttribute("visibility", "visible");
  const what = p.ms === null ? (p.trial.failure ?? p.trial.state).replaceAll("_", " ") : time(p.ms);
  note.show(x(p[by]), p.ms === null ? box.top + 60 : inside(p.ms), [
    `trial ${p.trial.number}: ${what}`,
    `best so far: ${time(p.best)}`,
    `evaluation ${p.n}, after ${duration(p.elapsed)}`,
  ]);
}

// The point next to a place in pixels: they are in order.
function nearest(points, { x, by }, here) {
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x(points[middle][by]) < here) low = middle;
    else high = middle;
  }
  return Math.abs(x(points[low][by]) - here) <= Math.abs(x(points[high][by]) - here) ? low : high;
}
