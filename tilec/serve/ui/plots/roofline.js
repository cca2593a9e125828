// Winner and default under the ceilings of the device (Williams, Waterman, Patterson, 2009).

import { h, none, s } from "../dom.js";
import { percent, prefixed, shortPrefixed, time } from "../format.js";
import { axes, canvas, legend, line, path, plot, text } from "./plot.js";
import { logarithmic } from "./scale.js";

export function roofline() {
  return plot({ draw, describe: words, note: words });
}

// The rate that the ceilings allow, operations per second; null where none is known.
function allowed(work) {
  const byBytes = work.bytes_per_s && work.bytes_per_s * (work.operations / work.bytes);
  const limits = [work.operations_per_s, byBytes].filter((x) => x);
  return limits.length ? Math.min(...limits) : null;
}

function words({ work, winnerMs }) {
  if (!work) return "";
  const ceiling = allowed(work);
  const said =
    `${prefixed(work.operations)} operations and ${prefixed(work.bytes)}B at least: ` +
    `${(work.operations / work.bytes).toPrecision(3)} operations a byte.`;
  if (!winnerMs || !ceiling) return said;
  const bound = ceiling < (work.operations_per_s ?? Infinity) ? "memory" : "computing";
  const rate = (1000 * work.operations) / winnerMs;
  return (
    `${said} The winner reaches ${percent(rate / ceiling)} of what the device can do; ` +
    `the limit is ${bound}, ${time((1000 * work.operations) / ceiling)} a call.`
  );
}

function draw({ work, winnerMs, defaultMs }, width) {
  if (!work) {
    return none("The study does not say how many operations and bytes a call needs.");
  }
  if (!winnerMs) return none("No config ran yet.");
  const height = Math.max(240, Math.min(320, width * 0.6));
  const box = { left: 62, right: width - 14, top: 30, bottom: height - 42 };
  const here = work.operations / work.bytes;
  const roof = (i) =>
    Math.min(work.operations_per_s ?? Infinity, (work.bytes_per_s ?? Infinity) * i);
  const marks = [
    [defaultMs, "dot", "default"],
    [winnerMs, "dot winner", "winner"],
  ]
    .filter(([ms]) => ms)
    .map(([ms, kind, name]) => ({ rate: (1000 * work.operations) / ms, kind, name }));
  const { x, y, low, high, ridge } = scales(work, here, roof, marks, box);
  const parts = [
    axes(box, x, y, {
      xTicks: x.ticks(width / 90),
      yTicks: y.ticks(5),
      xText: (v) => String(v),
      yText: shortPrefixed,
      xName: "operations per byte",
      yName: "operations per second",
    }),
    ...ceiling(roof, { low, high, ridge }, x, y, box),
    line(x(here), box.top, x(here), box.bottom, "grid"),
    ...marks.flatMap((m) => mark(m, x(here), y(m.rate))),
  ];
  const known = Number.isFinite(roof(here)) ? [["ceiling", "ceiling of the device"]] : [];
  const names = marks.map((m) => [m.kind, m.name]).reverse();
  return [canvas(width, height, ...parts), legend([...known, ...names])];
}

// Scales that show the kernel, the ridge of the roof, and all rates.
function scales(work, here, roof, marks, box) {
  const ridge =
    work.operations_per_s && work.bytes_per_s && work.operations_per_s / work.bytes_per_s;
  const near = [here, ridge].filter((v) => v);
  const [low, high] = [Math.min(...near) / 6, Math.max(...near) * 6];
  const rates = marks.map((m) => m.rate);
  const tops = [roof(high), ...rates].filter(Number.isFinite);
  const bottom = Math.min(...rates, roof(here)) / 6;
  const x = logarithmic(low, high, box.left, box.right);
  const y = logarithmic(bottom, Math.max(...tops) * 2, box.bottom, box.top);
  return { x, y, low, high, ridge };
}

function mark({ rate, kind, name }, x, y) {
  return [
    s("circle", { cx: x, cy: y, r: 5, class: kind }),
    text(x + 10, y + 4, `${name} ${prefixed(rate)}`, { class: "label" }),
  ];
}

function ceiling(roof, { low, high, ridge }, x, y, box) {
  if (!Number.isFinite(roof(low)) && !Number.isFinite(roof(high))) return [];
  const bends = [low, ...(ridge ? [ridge] : []), high].filter((i) => Number.isFinite(roof(i)));
  const points = bends.map((i) => [x(i), y(roof(i))]);
  const [a, b] = points;
  if (a[1] > box.bottom) {
    // the slope is cut where the plot ends
    const part = (a[1] - box.bottom) / (a[1] - b[1] || 1);
    points[0] = [a[0] + part * (b[0] - a[0]), box.bottom];
  }
  return [path(points, "ceiling")];
}
