// A plot in a figure: drawn for the width that it has, drawn again when that changes.

import { h, s } from "../dom.js";

// `draw(data, width)` returns elements (an SVG, a legend); `describe(data)` the plot in words.
export function plot({ draw, describe, note }) {
  const picture = h("div", { class: "picture" });
  const words = h("figcaption", { class: "quiet" });
  let data = null;
  let width = 0;

  function redraw() {
    width = Math.floor(picture.clientWidth);
    if (!data || width < 40) return;
    picture.replaceChildren(...[draw(data, width)].flat());
    picture.querySelector("svg")?.setAttribute("aria-label", describe(data));
    words.textContent = note?.(data) ?? "";
    words.hidden = !words.textContent;
  }

  const unlessBusy = patient(picture, redraw);
  new ResizeObserver(() => {
    if (Math.floor(picture.clientWidth) !== width) redraw();
  }).observe(picture);
  return {
    figure: h("figure", {}, picture, words),
    update(fresh) {
      data = fresh;
      unlessBusy();
    },
  };
}

// Redraws a picture when asked to, but not while someone works with what is there.
function patient(picture, redraw) {
  let isPressed = false;
  let isWaiting = false;

  function unlessBusy() {
    isWaiting = isPressed || picture.querySelector(":focus-visible") !== null;
    if (!isWaiting) redraw();
  }

  function released() {
    isPressed = false;
    if (isWaiting) setTimeout(unlessBusy);
  }

  picture.addEventListener("pointerdown", () => {
    isPressed = true;
  });
  for (const end of ["pointerup", "pointercancel", "focusout"]) {
    picture.addEventListener(end, released);
  }
  return unlessBusy;
}

export function canvas(width, height, ...children) {
  const size = { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" };
  return s("svg", size, ...children);
}

export function text(x, y, words, attributes = {}) {
  return s("text", { x, y, ...attributes }, words);
}

export function line(x1, y1, x2, y2, kind) {
  return s("line", { x1, y1, x2, y2, class: kind });
}

// A path through points, given as [x, y].
export function path(points, kind, attributes = {}) {
  const d = points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
  return s("path", { d, class: kind, ...attributes });
}

// Two axes with grid lines. `box` is { left, right, top, bottom } in pixels.
export function axes(box, x, y, { xTicks, yTicks, xText, yText, xName, yName }) {
  const parts = [];
  for (const v of yTicks) {
    parts.push(
      line(box.left, y(v), box.right, y(v), "grid"),
      text(box.left - 8, y(v) + 4, yText(v), { class: "tick", "text-anchor": "end" }),
    );
  }
  for (const v of xTicks) {
    parts.push(
      line(x(v), box.bottom, x(v), box.bottom + 4, "axis"),
      text(x(v), box.bottom + 18, xText(v), { class: "tick", "text-anchor": "middle" }),
    );
  }
  parts.push(
    line(box.left, box.bottom, box.right, box.bottom, "axis"),
    text(box.right, box.bottom + 34, xName, { class: "name", "text-anchor": "end" }),
    text(0, 12, yName, { class: "name", "text-anchor": "start" }),
  );
  return s("g", { "aria-hidden": "true" }, ...parts);
}

// What the marks of a plot mean: [class, words] pairs.
export function legend(entries) {
  return h(
    "ul",
    { class: "legend" },
    ...entries.map(([kind, words]) => h("li", {}, h("span", { class: `key ${kind}` }), words)),
  );
}

// A note beside the pointer, with lines of text.
export function tip(host) {
  const note = h("div", { class: "tip", hidden: true });
  host.append(note);
  return {
    show(x, y, lines) {
      note.replaceChildren(...lines.map((l) => h("div", {}, l)));
      note.hidden = false;
      const room = host.clientWidth - note.offsetWidth - 4;
      note.style.left = `${Math.max(0, Math.min(x + 12, room))}px`;
      note.style.top = `${Math.max(0, y - note.offsetHeight - 10)}px`;
    },
    hide() {
      note.hidden = true;
    },
  };
}
