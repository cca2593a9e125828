// Failures by class, each with the trials and what was said of them.

import { chip, h, none, said } from "./dom.js";
import { config } from "./format.js";

const SHOWN = 20;
const MEANING = {
  compile_error: "the compiler refused the config",
  compile_timeout: "the compiler took too long",
  ptxas_crash: "the assembler broke down",
  launch_error: "the kernel could not be started",
  run_timeout: "the kernel took too long",
  device_fault: "the device reported a fault",
  wrong_result: "the result differs from the default config's",
  resource_exceeded: "more registers, memory or threads than there are",
  worker_lost: "the worker went away; tried again",
  infra: "something around the trial failed; tried again",
};

// The failed trials by class, the most frequent first. Poison is a class of its own.
export function byClass(trials) {
  const found = new Map();
  for (const t of trials.filter((t) => t.state === "failed" || t.state === "poison")) {
    const name = t.state === "poison" ? "poison" : (t.failure ?? "infra");
    found.set(name, [...(found.get(name) ?? []), t]);
  }
  return [...found].sort((a, b) => b[1].length - a[1].length || a[0].localeCompare(b[0]));
}

// `open` keeps which classes are unfolded while the page is brought up to date.
export function failures(trials, open) {
  const classes = byClass(trials);
  if (!classes.length) return [none("No trial has failed.")];
  const most = classes[0][1].length;
  return classes.map(([name, failed]) => {
    const meaning = name === "poison" ? "took two workers down: never tried again" : MEANING[name];
    const bar = h("span", { class: "failure-bar" });
    bar.style.inlineSize = `${Math.max(2, (100 * failed.length) / most)}%`;
    return h(
      "details",
      {
        open: open.has(name),
        ontoggle: (e) => (e.target.open ? open.add(name) : open.delete(name)),
      },
      h(
        "summary",
        {},
        chip(name, name === "poison" ? "poison" : "failed"),
        h("span", { class: "number" }, String(failed.length)),
        h("span", { class: "quiet grow" }, meaning ?? ""),
        h("span", { class: "failure-track" }, bar),
      ),
      h("ol", { class: "failed-trials" }, ...failed.slice(0, SHOWN).map(one)),
      failed.length > SHOWN
        ? h("p", { class: "quiet" }, `and ${failed.length - SHOWN} more in the table`)
        : null,
    );
  });
}

function one(t) {
  const who = [
    t.worker ? `on ${t.worker}` : null,
    t.attempts > 1 ? `${t.attempts} attempts` : null,
  ];
  return h(
    "li",
    {},
    h(
      "p",
      {},
      h("strong", {}, `Trial ${t.number}`),
      " ",
      h("span", { class: "quiet" }, who.filter(Boolean).join(", ")),
    ),
    h("p", { class: "mono" }, config(t.configs[0])),
    t.detail ? said(t.detail, "pre") : h("p", { class: "quiet" }, "Nothing was said about it."),
  );
}
