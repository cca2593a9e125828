// One study, brought up to date as it goes on.

import * as api from "./api.js";
import { contenders, defaultMs, differ } from "./diff.js";
import { announce, card, chip, h, meter, none, said, steady } from "./dom.js";
import { failures } from "./failures.js";
import { finalists } from "./finalists.js";
import { config, duration, prefixed, time, when } from "./format.js";
import { importance } from "./plots/importance.js";
import { noise } from "./plots/noise.js";
import { occupation } from "./plots/occupation.js";
import { parallel } from "./plots/parallel.js";
import { history, progress } from "./plots/progress.js";
import { roofline } from "./plots/roofline.js";
import { trialsTable } from "./trials.js";

const ENDED = ["done", "cancelled", "failed"];
const OPEN = ["pending", "leased"];
const LATER = ["importance", "noise", "occupation"]; // plots that need the analysis
const AGAIN_MS = 700; // after an event
const ANALYSED_MS = 4000; // at least, between analyses

export function studyView(id, signal, failed) {
  const root = h("div", {}, none("Loading …"));
  load(id, root, signal).catch((error) => {
    if (!signal.aborted) failed(error);
  });
  return root;
}

async function load(id, root, signal) {
  const [study, trials] = await Promise.all([api.study(id, signal), api.trials(id, 0, signal)]);
  const page = parts(study);
  root.replaceChildren(page.element);
  const seen = { study, trials, analysis: null };
  page.update(seen);
  await analyse(id, seen, page, signal);
  if (!ENDED.includes(study.state)) live(id, seen, page, signal);
}

// The plots stand without an analysis: it can be too much for a busy service, which may do it later.
async function analyse(id, seen, page, signal) {
  try {
    seen.analysis = await api.analysis(id, signal);
    page.update(seen);
  } catch (error) {
    if (signal.aborted || error.status === 401 || error.status === 404) throw error;
    page.unanalysed(error.message);
    if (error.status !== 503) return;
    setTimeout(() => analyse(id, seen, page, signal).catch(() => {}), ANALYSED_MS);
  }
}

function live(id, seen, page, signal) {
  let timer = null;
  let analysed = Date.now();

  async function again() {
    timer = null;
    const from = seen.trials.find((t) => OPEN.includes(t.state))?.number ?? seen.trials.length + 1;
    try {
      const [study, fresh] = await Promise.all([
        api.study(id, signal),
        api.trials(id, Math.max(0, from - 1), signal),
      ]);
      seen.study = study;
      seen.trials = [...seen.trials.filter((t) => t.number < from), ...fresh];
      page.update(seen);
      const ended = ENDED.includes(study.state);
      if (ended || Date.now() - analysed > ANALYSED_MS) {
        analysed = Date.now();
        await analyse(id, seen, page, signal);
      }
      if (ended) announce(`The study is ${study.state}.`);
    } catch {
      if (!signal.aborted) timer ??= setTimeout(again, 5 * AGAIN_MS);
    }
  }

  api.follow(
    id,
    signal,
    () => {
      timer ??= setTimeout(again, AGAIN_MS);
    },
    page.connected,
  );
}

// The page of a study: its element, and what brings it up to date.
function parts(study) {
  const page = { status: h("span", { class: "live", hidden: true }), open: new Set(), ticked: [] };
  for (const name of ["head", "comparison", "confirmed", "failed"]) page[name] = h("div");
  page.head.className = "head";
  page.figures = h("dl", { class: "figures" });
  page.facts = h("dl", { class: "facts" });
  page.comparing = differ(page.comparison);
  page.table = trialsTable(study, (trials) => {
    page.ticked = trials;
    compare(page, trials);
  });
  page.plots = plots(page.table);
  later(page, "Working it out …");
  return {
    element: laidOut(page),
    update: (seen) => update(page, seen),
    connected(on) {
      page.status.hidden = false;
      page.status.dataset.on = on;
      page.status.textContent = on ? "live" : "connecting again …";
    },
    unanalysed: (words) => later(page, words),
  };
}

function plots(table) {
  const tick = (t) => table.tick(t);
  return {
    evaluations: progress("n", tick),
    elapsed: progress("elapsed", tick),
    importance: importance(),
    parallel: parallel(table.choose),
    noise: noise(),
    occupation: occupation(),
    roofline: roofline(),
  };
}

// Words in place of the plots that need the analysis.
function later({ plots }, words) {
  for (const name of LATER) {
    plots[name].figure.querySelector(".picture").replaceChildren(none(words));
  }
}

function laidOut({ head, figures, plots, comparison, table, confirmed, failed, facts }) {
  const [half, whole] = [{ class: "half" }, { class: "whole" }];
  return h(
    "div",
    {},
    head,
    figures,
    h(
      "div",
      { class: "cards" },
      card("Best so far, by evaluations", half, plots.evaluations.figure),
      card("Best so far, by time", half, plots.elapsed.figure),
      card("Parameter importance", half, plots.importance.figure),
      card("Compare configs", half, comparison),
      card("Parallel coordinates", whole, plots.parallel.figure),
      card("Trials", whole, table.element),
      card("Confirmation", whole, confirmed),
      card("Failures", half, failed),
      card("Roofline of the winner", half, plots.roofline.figure),
      card("Workers", half, plots.occupation.figure),
      card("Noise", half, plots.noise.figure),
      card("About the study", whole, facts),
    ),
  );
}

function compare({ comparing, seen, ticked }, fresh) {
  comparing.update(contenders(seen.study, seen.trials, ticked), fresh);
}

function update(page, seen) {
  page.seen = seen;
  const { study, trials } = seen;
  const standard = defaultMs(study, trials);
  const isOver = ENDED.includes(study.state);
  document.title = `${study.name} · tilec tuning`;
  page.head.replaceChildren(...heading(study), ...(isOver ? [] : [page.status]));
  page.figures.replaceChildren(...keyFigures(study, trials, standard));
  page.facts.replaceChildren(...about(study));
  redraw(page.plots, seen, standard);
  const { failed, open } = page;
  steady(failed, () => failed.replaceChildren(...failures(trials, open)));
  page.confirmed.replaceChildren(finalists(study, trials));
  page.table.update(trials);
  compare(page);
}

function redraw(plots, { study, trials, analysis }, standard) {
  const points = history(study, trials);
  const progressed = { points, budget: study.budget, defaultMs: standard, band: analysis?.band };
  plots.evaluations.update(progressed);
  plots.elapsed.update(progressed);
  plots.parallel.update({ space: study.space, trials });
  const winnerMs = study.winner?.time_ms ?? study.best?.time_ms;
  plots.roofline.update({ work: study.work, winnerMs, defaultMs: standard });
  if (!analysis) return;
  plots.importance.update(analysis.importance);
  plots.noise.update(analysis.noise);
  plots.occupation.update({ workers: analysis.workers, trials });
}

function heading(study) {
  return [
    h(
      "p",
      { class: "quiet crumbs" },
      h("a", { href: "#/studies" }, "Studies"),
      " / ",
      h("span", { class: "mono" }, study.id),
    ),
    h("h1", {}, said(study.name)),
    chip(study.state),
    study.note ? h("span", { class: "quiet" }, said(study.note)) : null,
  ].filter(Boolean);
}

function keyFigures(study, trials, standard) {
  const { done, failed, poison } = study.trials;
  const best = study.winner?.time_ms ?? study.best?.time_ms;
  const measured = trials.filter(
    (t) => t.purpose === "measure" && !OPEN.includes(t.state) && t.state !== "cancelled",
  ).length;
  const cost = trials.reduce((sum, t) => sum + (t.cost_s ?? 0), 0);
  const compiling = trials.reduce((sum, t) => sum + (t.compile_s ?? 0), 0);
  const work = study.work && best ? `${prefixed((1000 * study.work.operations) / best)}op/s` : null;
  return [
    [study.winner ? "Winner, confirmed" : "Best so far", time(best)],
    ["Default", time(standard)],
    ["Gain", best && standard ? `${(standard / best).toFixed(2)}×` : "–"],
    ...(work ? [["Rate", work]] : []),
    ["Evaluations", meter(measured, study.budget, "evaluations")],
    ["Failed", `${failed + poison} of ${done + failed + poison}`],
    ["Cost", duration(cost)],
    ...(compiling ? [["Compiling", duration(compiling)]] : []),
    ["Duration", duration((study.finished ?? Date.now() / 1000) - study.created)],
  ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

const MONO = [
  "Shape",
  "Kernel",
  "Family",
  "Toolchain",
  "Winner",
  "Confirmed by",
  "Key",
  "Parameters",
];

function about(study) {
  const p = study.policy;
  const on = study.measured_on;
  const rows = [
    ["Job", said(jobOf(study))],
    ["Shape", config(study.shape)],
    ["Measured on", on ? said(on.name) : `nothing yet; ${study.device.kind}: ${study.device.name}`],
    ["Policy", `${p.mode}, ${p.cache} cache, ${p.threads || "all"} threads`],
    ["Search", `${study.sampler}, seed ${study.seed}, budget ${study.budget}`],
    ["Starts from", study.sources.length ? study.sources.flatMap(source) : "nothing"],
    ["Created", when(study.created)],
    ["Priority", String(study.priority)],
    ["Tenant", said(study.tenant)],
    ...["kernel", "family", "toolchain"].map((n) => [capital(n), study[n].slice(0, 24)]),
    ["Parameters", study.space.parameters.map((q) => `${q.name} (${q.values.length})`).join(", ")],
    ...aboutWinner(study.winner),
    ...aboutConstraints(study.space.constraints ?? []),
  ];
  return rows.map(([name, value]) =>
    h(
      "div",
      { class: name === "Constraints" ? "wide" : null },
      h("dt", {}, name),
      h("dd", { class: MONO.includes(name) ? "mono" : null }, value),
    ),
  );
}

function capital(word) {
  return word[0].toUpperCase() + word.slice(1);
}

function jobOf({ job }) {
  return job.kind === "recorded"
    ? `recorded space ${job.space}`
    : `${job.backend} for ${job.target}`;
}

function source(id, i) {
  const address = `#/studies/${encodeURIComponent(id)}`;
  return [i ? ", " : "", h("a", { href: address, class: "mono" }, id.slice(0, 9))];
}

function aboutWinner(winner) {
  if (!winner) return [];
  return [
    ["Winner", config(winner.config)],
    ["Confirmed by", winner.provenance.worker],
    ["Key", winner.key.slice(0, 24)],
  ];
}

function aboutConstraints(constraints) {
  if (!constraints.length) return [];
  const items = constraints.map((c) =>
    h("li", {}, h("code", {}, c.condition), c.reason ? ` ${c.reason}` : ""),
  );
  return [["Constraints", h("ul", {}, ...items)]];
}
