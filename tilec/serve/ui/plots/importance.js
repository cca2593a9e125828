// How much of the time hangs on each parameter.

import { h, none, s } from "../dom.js";
import { percent } from "../format.js";
import { canvas, plot, text } from "./plot.js";

const MOST = 16;
const ROW = 28;
const NOTES = {
  forest:
    "How much worse a random forest predicts times that it has not seen when the values of " +
    "the parameter are shuffled.",
  variance:
    "The part of the variance of log time between the values of the parameter, less what " +
    "chance makes.",
};

export function importance() {
  return plot({
    draw,
    note: ({ method, trials }) => (NOTES[method] ? `${NOTES[method]} From ${trials} trials.` : ""),
    describe: ({ shares }) =>
      "Parameter importance: " + shares.map((p) => `${p.parameter} ${percent(p.share)}`).join(", "),
  });
}

function draw({ shares }, width) {
  if (!shares.length) {
    return none("Not enough trials to tell which parameters matter.");
  }
  const shown = shares.slice(0, MOST);
  const longest = Math.max(...shown.map((p) => p.parameter.length));
  const left = Math.min(longest * 7.4 + 14, width * 0.42);
  const full = width - left - 52;
  const most = shown[0].share;
  const svg = canvas(
    width,
    shown.length * ROW + 4,
    ...shown.flatMap((p, i) => {
      const y = i * ROW + 4;
      const end = left + Math.max(1.5, (full * p.share) / most);
      return [
        text(left - 10, y + 15, short(p.parameter, left), { class: "label", "text-anchor": "end" }),
        s(
          "rect",
          { x: left, y, width: end - left, height: 20, rx: 3, class: "bar" },
          s("title", {}, `${p.parameter}: ${percent(p.share)}`),
        ),
        text(end + 8, y + 15, percent(p.share), { class: "tick" }),
      ];
    }),
  );
  const rest = shares.length - shown.length;
  return rest > 0 ? [svg, h("p", { class: "quiet" }, `and ${rest} more that matter less`)] : svg;
}

function short(name, room) {
  const most = Math.floor((room - 10) / 7.4);
  return name.length > most ? `${name.slice(0, most - 1)}…` : name;
}
