// How much the samples of a trial differ: quantiles for each worker and device.

import { h, none, s } from "../dom.js";
import { percent } from "../format.js";
import { canvas, line, plot, text } from "./plot.js";
import { linear } from "./scale.js";

const ROW = 46;

export function noise() {
  return plot({
    draw,
    describe: (rows) =>
      "Noise: " +
      rows
        .map(
          (r) =>
            `${r.worker} median ${percent(r.quantiles[2])}, 95% below ${percent(r.quantiles[4])}`,
        )
        .join("; "),
    note: (rows) =>
      rows.length
        ? "Standard deviation over mean of the samples of a trial: the " +
          "median, the middle half and the middle 90% of the trials."
        : "",
  });
}

function draw(rows, width) {
  if (!rows.length) {
    return none("No trial has three samples or more.");
  }
  const high = Math.max(...rows.map((r) => r.quantiles[4])) * 1.1 || 0.01;
  const x = linear(0, high, 8, width - 16);
  const bottom = rows.length * ROW + 6;
  const parts = x
    .ticks(Math.min(6, width / 80))
    .flatMap((v) => [
      line(x(v), 4, x(v), bottom, "grid"),
      text(x(v), bottom + 16, percent(v), { class: "tick", "text-anchor": "middle" }),
    ]);
  rows.forEach((r, i) => parts.push(...box(r, i * ROW + 6, x)));
  return canvas(width, bottom + 22, ...parts);
}

function box(row, top, x) {
  const [low, from, middle, to, high] = row.quantiles;
  const y = top + 28;
  const device = row.name ?? `device ${row.device.slice(0, 8)}`;
  return [
    text(8, top + 12, `${row.worker} · ${device} · ${row.trials} trials`, { class: "label" }),
    line(x(low), y, x(high), y, "whisker"),
    s(
      "rect",
      {
        x: x(from),
        y: y - 7,
        width: Math.max(2, x(to) - x(from)),
        height: 14,
        rx: 3,
        class: "bar",
      },
      s(
        "title",
        {},
        `${row.worker}: median ${percent(middle)}, 5% ${percent(low)}, 95% ${percent(high)}`,
      ),
    ),
    line(x(middle), y - 9, x(middle), y + 9, "middle"),
  ];
}
