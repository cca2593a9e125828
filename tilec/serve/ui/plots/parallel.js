// Parallel coordinates: an axis for each parameter and one for time, a line for each trial. A range
// that is brushed on an axis chooses trials, with the pointer or with the keys.

import { announce, h, none, s } from "../dom.js";
import { config, shortTime, time, timeOf } from "../format.js";
import { canvas, line, plot, text, tip } from "./plot.js";
import { logarithmic } from "./scale.js";

const MOST_LINES = 1200; // of all trials alike
const FASTEST = 50; // that are always there
const NARROW = 74; // pixels between axes, below which the picture scrolls
const TOP = 46;
const HEIGHT = 330;
const TIME = "time";

// `chosen(set or null)` is called with the numbers of the trials within the brushes.
export function parallel(chosen) {
  const brushes = new Map(); // axis name -> [low, high] in places from 0 (bottom) to 1
  const made = plot({
    draw: (data, width) => draw(data, width, brushes, chosen),
    describe: ({ space }) =>
      `Parallel coordinates of ${space.parameters.length} parameters and the time.`,
    note: ({ trials }) =>
      !trials.some((t) => timeOf(t) !== null)
        ? ""
        : "Drag along an axis to choose a range, click it to let go. With the keys: Tab to an " +
          "axis, arrows move the range, with Shift its lower end, Escape lets go. The table " +
          "shows what is chosen.",
  });
  return { ...made, brushes };
}

// The trials as lines: places from 0 to 1 on each axis, the fastest last so that it lies on top.
function lines(axes, trials) {
  const timed = trials.filter((t) => t.purpose === "measure" && timeOf(t) !== null);
  const found = timed.map((t) => ({ trial: t, ms: timeOf(t) }));
  found.sort((a, b) => b.ms - a.ms);
  found.forEach((l, i) => {
    l.rank = found.length > 1 ? i / (found.length - 1) : 1;
    l.places = axes.map((axis) => axis.place(l));
    l.drawn = l.places.map(
      (p, k) => p + axes[k].spread * (((l.trial.number * 37) % 64) / 63 - 0.5),
    );
  });
  const every = Math.ceil(found.length / MOST_LINES);
  return found.filter((l, i) => i % every === 0 || found.length - i <= FASTEST);
}

function axesOf(space, trials) {
  const axes = space.parameters
    .filter((p) => p.values.length > 1)
    .map((p) => {
      const place = new Map(p.values.map((v, i) => [String(v), i / (p.values.length - 1)]));
      return {
        name: p.name,
        ticks: p.values.map((v, i) => [i / (p.values.length - 1), String(v)]),
        place: (l) => place.get(String(l.trial.configs[0][p.name])) ?? 0,
        step: 1 / (p.values.length - 1),
        spread: Math.min(0.04, 0.5 / p.values.length), // not all in one point
      };
    });
  const times = trials.map(timeOf).filter((ms) => ms !== null);
  const [low, high] = [Math.min(...times), Math.max(...times)];
  const scale = logarithmic(low, Math.max(high, low * 1.01), 0, 1);
  const ticks = [...new Set([low, ...scale.ticks(4).slice(0, 6), high])];
  const apart = ticks.filter(
    (v, i) => i === 0 || i === ticks.length - 1 || (scale(v) > 0.06 && scale(v) < 0.94),
  );
  axes.push({
    name: TIME,
    ticks: apart.map((v) => [scale(v), shortTime(v)]),
    step: 0.05,
    spread: 0,
    place: (l) => scale(l.ms),
  });
  return axes;
}

function draw({ space, trials }, width, brushes, chosen) {
  const measured = trials.filter((t) => t.purpose === "measure" && timeOf(t) !== null);
  if (!measured.length) return none("No config ran yet.");
  const axes = axesOf(space, measured);
  const all = lines(axes, measured);
  const full = Math.max(width, axes.length * NARROW);
  const x = (i) => 44 + (i * (full - 112)) / Math.max(axes.length - 1, 1);
  const y = (place) => HEIGHT - 22 - place * (HEIGHT - 22 - TOP);
  const drawn = all.map((l) => strand(l, x, y));
  const svg = canvas(full, HEIGHT, s("g", { class: "strands" }, ...drawn));
  svg.setAttribute("role", "group");
  const host = frame(svg, full > width);
  hovered(host, svg, all, drawn);
  const clear = h("button", { type: "button", class: "small", hidden: true }, "Clear ranges");
  const choose = () => choice({ axes, all, drawn, brushes, clear }, chosen);
  const handles = axes.map((axis, i) => rail(svg, axis, x(i), y, brushes, choose));
  clear.addEventListener("click", () => {
    brushes.clear();
    handles.forEach((handle) => handle());
    choose();
  });
  if (brushes.size) choose();
  return [host, h("div", { class: "row" }, clear)];
}

function frame(svg, scrolls) {
  const place = { class: "hovered scrolled", role: "region", "aria-label": "Parallel coordinates" };
  return h("div", { ...place, tabindex: scrolls ? "0" : null }, svg);
}

function hovered(host, svg, all, drawn) {
  const note = tip(host);
  all.forEach((l, i) =>
    drawn[i].addEventListener("pointerenter", (e) => {
      const place = host.getBoundingClientRect();
      note.show(e.clientX - place.left + host.scrollLeft, e.clientY - place.top, [
        `trial ${l.trial.number}: ${time(l.ms)}`,
        config(l.trial.configs[0]),
      ]);
    }),
  );
  svg.addEventListener("pointerleave", note.hide);
}

// Dims the lines outside of the brushes, and says which are inside.
function choice({ axes, all, drawn, brushes, clear }, chosen) {
  const inside = all.map((l) =>
    axes.every((axis, i) => {
      const range = brushes.get(axis.name);
      return !range || (l.places[i] >= range[0] - 1e-9 && l.places[i] <= range[1] + 1e-9);
    }),
  );
  drawn.forEach((d, i) => d.classList.toggle("out", !inside[i]));
  const numbers = all.filter((_, i) => inside[i]).map((l) => l.trial.number);
  chosen(brushes.size ? new Set(numbers) : null);
  clear.hidden = !brushes.size;
  if (brushes.size) announce(`${numbers.length} trials chosen`);
}

function strand(l, x, y) {
  const d = l.drawn.map((p, i) => `${i ? "L" : "M"}${x(i).toFixed(1)},${y(p).toFixed(1)}`).join("");
  const level = Math.min(4, Math.floor(l.rank * 5));
  return s("path", {
    d,
    class: `strand level${l.rank === 1 ? 5 : level}`,
    "data-trial": l.trial.number,
  });
}

// An axis with its ticks and brush. Returns a function that draws the brush again.
function rail(svg, axis, x, y, brushes, changed) {
  const shown = s("rect", { x: x - 8, width: 16, rx: 3, class: "brush" });
  const area = s("rect", {
    x: x - 16,
    y: TOP - 8,
    width: 32,
    height: y(0) - TOP + 16,
    class: "rail",
    "data-axis": axis.name,
    tabindex: "0",
    role: "button",
  });
  const name = axis.name.length > 11 ? `${axis.name.slice(0, 10)}…` : axis.name;
  const every = Math.ceil(axis.ticks.length / 12);
  svg.append(
    line(x, y(0), x, y(1), "axis"),
    shown,
    area,
    text(x, TOP - 22, name, { class: "label strong", "text-anchor": "middle" }),
    ...axis.ticks
      .filter((_, i) => i % every === 0)
      .map(([place, words]) => text(x + 6, y(place) + 4, words, { class: "tick haloed" })),
  );
  const redraw = () => brushed(shown, area, axis, brushes.get(axis.name), y);
  const set = (range) => {
    if (range) brushes.set(axis.name, range);
    else brushes.delete(axis.name);
    redraw();
    changed();
  };
  dragged(svg, area, y, set);
  keyed(area, axis.step, () => brushes.get(axis.name), set);
  redraw();
  return redraw;
}

// Shows the range of an axis, and says it.
function brushed(shown, area, axis, range, y) {
  shown.setAttribute("visibility", range ? "visible" : "hidden");
  area.setAttribute("aria-pressed", String(Boolean(range)));
  area.setAttribute("aria-label", `${axis.name}: no range`);
  if (!range) return;
  shown.setAttribute("y", y(range[1]) - 6);
  shown.setAttribute("height", y(range[0]) - y(range[1]) + 12);
  const within = axis.ticks.filter(([p]) => p >= range[0] - 1e-9 && p <= range[1] + 1e-9);
  const words = `${within[0]?.[1] ?? ""} to ${within.at(-1)?.[1] ?? ""}`;
  area.setAttribute("aria-label", `${axis.name}: ${words}`);
}

function dragged(svg, area, y, set) {
  let from = null;
  const place = (e) => {
    const top = svg.getBoundingClientRect().top;
    return Math.max(0, Math.min(1, (y(0) - (e.clientY - top)) / (y(0) - y(1))));
  };
  area.addEventListener("pointerdown", (e) => {
    area.setPointerCapture(e.pointerId);
    from = place(e);
  });
  area.addEventListener("pointermove", (e) => {
    const here = place(e);
    if (from !== null && Math.abs(here - from) > 0.015)
      set([Math.min(from, here), Math.max(from, here)]);
  });
  area.addEventListener("pointerup", (e) => {
    if (from !== null && Math.abs(place(e) - from) <= 0.015) set(null);
    from = null;
  });
  area.addEventListener("pointercancel", () => {
    from = null;
  });
}

function keyed(area, step, range, set) {
  area.addEventListener("keydown", (e) => {
    const way = { ArrowUp: step, ArrowDown: -step }[e.key];
    if (e.key === "Escape" || e.key === "Delete") set(null);
    if (e.key === " " || e.key === "Enter") set(range() ? null : [0, 1]);
    if (way || e.key === " ") e.preventDefault();
    if (!way) return;
    const [low, high] = range() ?? [0, 1];
    const held = (v, from, to) => Math.max(from, Math.min(to, v));
    set(e.shiftKey ? [held(low + way, 0, high), high] : [low, held(high + way, low, 1)]);
  });
}
