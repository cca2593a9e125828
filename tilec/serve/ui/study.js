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

// The plots stand without an analysis: it can be too much for a busy service.
async function analyse(id, seen, page, signal) {
  try {
    seen.analysis = await api.analysis(id, signal);
    page.update(seen);
  } catch (error) {
    if (signal.aborted || error.status === 401 || error.status === 404) throw error;
    page.unanalysed(error.message);
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

function parts(study) {
  const head = h("div", { class: "head" });
  const figures = h("dl", { class: "figures" });
  const facts = h("dl", { class: "facts" });
  const status = h("span", { class: "live", hidden: true });
  const open = new Set();
  let seen = null;
  let ticked = [];

  const comparison = h("div");
  const comparing = differ(comparison);
  const table = trialsTable(study, (trials) => {
    ticked = trials;
    comparing.update(contenders(seen.study, seen.trials, ticked), ticked);
  });
  const tick = (t) => table.tick(t);
  const plots = {
    evaluations: progress("n", tick),
    elapsed: progress("elapsed", tick),
    importance: importance(),
    parallel: parallel(table.choose),
    noise: noise(),
    occupation: occupation(),
    roofline: roofline(),
  };
  for (const name of LATER) {
    plots[name].figure.querySelector(".picture").append(none("Working it out …"));
  }
  const confirmed = h("div");
  const failed = h("div");
  const element = h(
    "div",
    {},
    head,
    figures,
    h(
      "div",
      { class: "cards" },
      card("Best so far, by evaluations", { class: "half" }, plots.evaluations.figure),
      card("Best so far, by time", { class: "half" }, plots.elapsed.figure),
      card("Parameter importance", { class: "half" }, plots.importance.figure),
      card("Compare configs", { class: "half" }, comparison),
      card("Parallel coordinates", { class: "whole" }, plots.parallel.figure),
      card("Trials", { class: "whole" }, table.element),
      card("Confirmation", { class: "whole" }, confirmed),
      card("Failures", { class: "half" }, failed),
      card("Roofline of the winner", { class: "half" }, plots.roofline.figure),
      card("Workers", { class: "half" }, plots.occupation.figure),
      card("Noise", { class: "half" }, plots.noise.figure),
      card("About the study", { class: "whole" }, facts),
    ),
  );

  function update(fresh) {
    seen = fresh;
    const { study, trials, analysis } = seen;
    const standard = defaultMs(study, trials);
    const points = history(study, trials);
    const progressed = { points, budget: study.budget, defaultMs: standard, band: analysis?.band };
    document.title = `${study.name} · tilec tuning`;
    head.replaceChildren(...heading(study), ...(ENDED.includes(study.state) ? [] : [status]));
    figures.replaceChildren(...keyFigures(study, trials, standard));
    facts.replaceChildren(...about(study));
    plots.evaluations.update(progressed);
    plots.elapsed.update(progressed);
    plots.parallel.update({ space: study.space, trials });
    plots.roofline.update({
      work: study.work,
      winnerMs: study.winner?.time_ms ?? study.best?.time_ms,
      defaultMs: standard,
    });
    if (analysis) {
      plots.importance.update(analysis.importance);
      plots.noise.update(analysis.noise);
      plots.occupation.update({ workers: analysis.workers, trials });
    }
    steady(failed, () => failed.replaceChildren(...failures(trials, open)));
    confirmed.replaceChildren(finalists(study, trials));
    table.update(trials);
    comparing.update(contenders(study, trials, ticked));
  }

  return {
    element,
    update,
    connected(on) {
      status.hidden = false;
      status.dataset.on = on;
      status.textContent = on ? "live" : "connecting again …";
    },
    unanalysed(words) {
      for (const name of LATER) {
        plots[name].figure.querySelector(".picture").replaceChildren(none(words));
      }
    },
  };
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
  const work = study.work && best ? `${prefixed((1000 * study.work.operations) / best)}op/s` : null;
  return [
    [study.winner ? "Winner, confirmed" : "Best so far", time(best)],
    ["Default", time(standard)],
    ["Gain", best && standard ? `${(standard / best).toFixed(2)}×` : "–"],
    ...(work ? [["Rate", work]] : []),
    ["Evaluations", meter(measured, study.budget, "evaluations")],
    ["Failed", `${failed + poison} of ${done + failed + poison}`],
    ["Cost", duration(cost)],
    ["Duration", duration((study.finished ?? Date.now() / 1000) - study.created)],
  ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

function about(study) {
  const p = study.policy;
  const job =
    study.job.kind === "recorded"
      ? `recorded space ${study.job.space}`
      : `${study.job.backend} for ${study.job.target}`;
  const on = study.measured_on;
  const rows = [
    ["Job", said(job)],
    ["Shape", config(study.shape)],
    ["Measured on", on ? said(on.name) : `nothing yet; ${study.device.kind}: ${study.device.name}`],
    ["Policy", `${p.mode}, ${p.cache} cache, ${p.threads || "all"} threads`],
    ["Search", `${study.sampler}, seed ${study.seed}, budget ${study.budget}`],
    [
      "Starts from",
      study.sources.length
        ? study.sources.flatMap((id, i) => [
            i ? ", " : "",
            h("a", { href: `#/studies/${encodeURIComponent(id)}`, class: "mono" }, id.slice(0, 9)),
          ])
        : "nothing",
    ],
    ["Created", when(study.created)],
    ["Priority", String(study.priority)],
    ["Tenant", said(study.tenant)],
    ["Kernel", study.kernel.slice(0, 24)],
    ["Family", study.family.slice(0, 24)],
    ["Toolchain", study.toolchain.slice(0, 24)],
    ["Parameters", study.space.parameters.map((q) => `${q.name} (${q.values.length})`).join(", ")],
    ...(study.winner
      ? [
          ["Winner", config(study.winner.config)],
          ["Confirmed by", study.winner.provenance.worker],
          ["Key", study.winner.key.slice(0, 24)],
        ]
      : []),
    ...(study.space.constraints?.length
      ? [
          [
            "Constraints",
            h(
              "ul",
              {},
              ...study.space.constraints.map((c) =>
                h("li", {}, h("code", {}, c.condition), c.reason ? ` ${c.reason}` : ""),
              ),
            ),
          ],
        ]
      : []),
  ];
  const mono = [
    "Shape",
    "Kernel",
    "Family",
    "Toolchain",
    "Winner",
    "Confirmed by",
    "Key",
    "Parameters",
  ];
  return rows.map(([name, value]) =>
    h(
      "div",
      { class: name === "Constraints" ? "wide" : null },
      h("dt", {}, name),
      h("dd", { class: mono.includes(name) ? "mono" : null }, value),
    ),
  );
}
