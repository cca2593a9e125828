// Elements. Text from anywhere becomes text nodes: nothing here makes markup of a string.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

// An HTML element: h("p", { class: "quiet" }, "text", child). `onclick` takes a function.
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

// An SVG element.
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

// Says something to people who can't see the page change.
export function announce(text) {
  document.getElementById("said").textContent = text;
}

// Words that came from a user: they can't turn the direction of what is around them.
export function said(text, tag = "span") {
  return h(tag, { class: "from-user" }, String(text));
}

// A small label for a state or a failure class.
export function chip(word, kind = word) {
  return h("span", { class: "chip", "data-kind": kind }, word.replaceAll("_", " "));
}

// A part done of a whole, as a bar.
export function meter(done, whole, label) {
  const bar = h("progress", { max: Math.max(whole, 1), value: done, "aria-label": label });
  return h("span", { class: "meter" }, bar, h("span", { class: "number" }, `${done}/${whole}`));
}

// Changes what an element holds, and keeps the focus on what has the same name in it.
export function steady(element, change) {
  const name = (e) => e.getAttribute("aria-label") ?? e.textContent;
  const held = element.contains(document.activeElement) ? document.activeElement : null;
  change();
  if (!held || held.isConnected) return;
  const same = [...element.querySelectorAll(held.tagName)].find((e) => name(e) === name(held));
  same?.focus();
}

// Words in place of a plot or a table that has nothing to show.
export function none(words) {
  return h("p", { class: "nothing" }, words);
}

// A table that scrolls within its place. Heads are words, or [words, class].
export function grid(name, kind, heads, rows) {
  const titles = heads.map((head) => {
    const [words, side] = Array.isArray(head) ? head : [head];
    return h("th", { scope: "col", class: side }, words);
  });
  const table = h(
    "table",
    { class: kind },
    h("thead", {}, h("tr", {}, titles)),
    h("tbody", {}, rows),
  );
  return h("div", { class: "scrolled", tabindex: "0", role: "region", "aria-label": name }, table);
}

// A link to a study.
export function studyLink(study, kind) {
  return h(
    "a",
    { href: `#/studies/${encodeURIComponent(study.id)}`, class: kind },
    said(study.name),
  );
}

// What stands where a page has nothing to show.
export function nothing(title, ...more) {
  return h("div", { class: "nothing" }, h("p", { class: "strong" }, title), ...more);
}

// A part of a page with a heading.
export function card(title, attributes, ...children) {
  return h(
    "section",
    { ...attributes, class: `card ${attributes.class ?? ""}` },
    h("h2", {}, title),
    ...children,
  );
}
