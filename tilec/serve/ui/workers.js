// The workers of the tenant.

import { get } from "./api.js";
import { chip, grid, h, none, nothing, said } from "./dom.js";
import { ago, duration, percent, when } from "./format.js";
import { poll } from "./poll.js";

const SILENT_S = 60; // after which a worker counts as gone

export function workersView(signal, failed) {
  const list = h("div", { "aria-busy": "true" }, none("Loading …"));
  const sum = h("p", { class: "quiet" });
  poll(
    async () => {
      const workers = await all(signal);
      const states = workers.map(stateOf);
      const count = (word) => states.filter((s) => s === word).length;
      sum.textContent = workers.length
        ? `${count("working")} working, ${count("idle")} idle, ` +
          `${count("draining")} draining, ${count("silent")} silent`
        : "";
      list.setAttribute("aria-busy", "false");
      list.replaceChildren(
        workers.length
          ? table(workers)
          : nothing(
              "No worker has registered yet.",
              h("p", {}, "Start one with ", h("code", {}, "tilec worker run"), "."),
            ),
      );
    },
    signal,
    failed,
    3,
  );
  return h("div", {}, h("h1", {}, "Workers"), sum, h("div", { class: "card flush" }, list));
}

// All pages.
async function all(signal) {
  const found = [];
  for (let cursor = ""; cursor !== null; ) {
    const page = await get(`workers${cursor && `?cursor=${encodeURIComponent(cursor)}`}`, signal);
    found.push(...page.workers);
    cursor = page.cursor;
  }
  return found;
}

function stateOf(w) {
  if (w.seen_s > SILENT_S && !w.leases) return "silent";
  if (w.state === "draining") return "draining";
  return w.leases ? "working" : "idle";
}

function table(workers) {
  const heads = [
    "worker",
    "state",
    "device",
    ["last seen", "number"],
    ["leases", "number"],
    ["done", "number"],
    ["failed", "number"],
    "busy since it registered",
    "toolchain",
  ];
  return grid("Workers", null, heads, workers.map(row));
}

function row(w) {
  const since = Math.max(Date.now() / 1000 - w.first, w.measured_s, 1);
  const share = Math.min(1, w.measured_s / since);
  const d = w.device;
  const size = d.sms ? `${d.sms} multiprocessors` : d.cores ? `${d.cores} cores` : "";
  return h(
    "tr",
    { "data-worker": w.worker },
    h("th", { scope: "row", class: "mono" }, w.worker),
    h("td", {}, chip(stateOf(w))),
    h(
      "td",
      {},
      said(d.name),
      h("div", { class: "quiet" }, [d.kind, size, d.capability].filter(Boolean).join(", ")),
    ),
    h("td", { class: "number" }, ago(w.seen_s)),
    h("td", { class: "number" }, String(w.leases)),
    h("td", { class: "number" }, String(w.done)),
    h("td", { class: "number" }, String(w.failed)),
    h(
      "td",
      {},
      h(
        "span",
        { class: "meter" },
        h("progress", { max: 1, value: share, "aria-label": "busy" }),
        h("span", { class: "number" }, percent(share)),
      ),
      h("div", { class: "quiet" }, `${duration(w.measured_s)} since ${when(w.first)}`),
    ),
    h("td", { class: "mono" }, w.toolchain.slice(0, 12)),
  );
}
