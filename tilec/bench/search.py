"""The search suite: samplers beside peers on recorded spaces, cold and with other devices known."""

from __future__ import annotations

import multiprocessing
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tilec.bench import search_runs as runs
from tilec.bench.search_data import BUDGET, Recording, recordings
from tilec.bench.search_runs import Run
from tilec.ir.errors import TileError
from tilec.settings import tell
from tilec.tune.measure.measurer import ONE_THREAD
from tilec.tune.search.transfer import Source

SAMPLERS = ("gp", "lfbo", "evolve", "optuna")
LOOKS = (1, 2, 5, 10, 25, 50, 60, 100)  # evaluations after which the best is looked at


class Suite:
    """What is run: contenders on the recordings of a folder."""

    def __init__(self, folder: Path, seeds: int, kernel_tuner: Path | None = None,
                 only: Sequence[str] = ()) -> None:  # fmt: skip
        self.folder, self.seeds, self.only = folder, seeds, only
        self.kernel_tuner, self.skipped = kernel_tuner, dict[str, str]()

    def wanted(self, contender: str) -> bool:
        return not self.only or any(w in contender for w in self.only)

    def measure(self, console: Console, processes: int = 2) -> dict[str, Any]:
        """All runs and what follows from them."""
        spaces = recordings(self.folder)
        jobs = list(self._jobs(spaces))
        tell(**ONE_THREAD)  # before the processes that inherit it start numpy
        found: list[Run] = []
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            done = pool.imap_unordered(_done, jobs)
            for some in track(done, "searching", len(jobs), console=console):
                found += some
        return self.result(found, spaces)

    def result(self, found: list[Run], spaces: list[Recording]) -> dict[str, Any]:
        """What follows from runs."""
        found = sorted(found, key=lambda r: (r.contender, r.space, r.seed))
        return {"seeds": self.seeds, "budget": BUDGET, "looks": LOOKS, "skipped": self.skipped,
                "spaces": {s.name: _facts(s) for s in spaces},
                "contenders": summaries(found, spaces)}  # fmt: skip

    def _jobs(self, spaces: list[Recording]) -> Iterator[Job]:
        """What to run, slow things first."""
        kinds = [(f"tilec {s}", s, m) for s in SAMPLERS for m in ("cold", "warm all", "warm 120")
                 if m == "cold" or s == "gp"]  # fmt: skip
        for s in sorted(spaces, key=lambda s: -len(s.times)):
            families = [o.kernel for o in spaces].count(s.kernel)
            for name, sampler, mode in sorted(kinds, key=lambda k: k[1] != "lfbo"):
                label = f"{name} {mode}"
                if self.wanted(label) and (mode == "cold" or families > 1):
                    yield from ((self.folder, s.name, label, sampler, mode, range(k, k + 1))
                                for k in range(self.seeds))  # fmt: skip
            for name in runs.PEERS:
                if self.wanted(name):
                    yield self.folder, s.name, name, "", "", range(self.seeds)
            if self.wanted("Kernel Tuner") and self._has_kernel_tuner():
                python = str(self.kernel_tuner)
                yield self.folder, s.name, "Kernel Tuner", python, "", range(self.seeds)

    def _has_kernel_tuner(self) -> bool:
        reason = "name an interpreter that has kernel_tuner: --kernel-tuner VENV/bin/python"
        if self.kernel_tuner is not None:
            check = [self.kernel_tuner, "-c", "import kernel_tuner"]
            try:
                done = subprocess.run(check, capture_output=True, text=True, check=False)
            except OSError as e:
                reason = str(e)
            else:
                if not done.returncode:
                    return True
                reason = done.stderr.strip().splitlines()[-1]
        self.skipped["Kernel Tuner"] = reason
        return False


Job = tuple[Path, str, str, str, str, range]


@cache
def _loaded(folder: Path) -> dict[str, Recording]:
    """The recordings, read once by each process; no run changes them."""
    return {r.name: r for r in recordings(folder)}


def _done(job: Job) -> list[Run]:
    folder, space, label, what, mode, seeds = job
    spaces = _loaded(folder)
    if label in runs.PEERS:
        return [runs.PEERS[label](spaces[space], s) for s in seeds]
    if label == "Kernel Tuner":
        return runs.kernel_tuner(spaces[space], seeds, Path(what))
    others = [r for r in spaces.values() if r.kernel == spaces[space].kernel and r.name != space]
    return [runs.ours(label, what, spaces[space], s, _sources(mode, others, s)) for s in seeds]


def _sources(mode: str, others: list[Recording], seed: int) -> list[Source]:
    """What is known of other devices: nothing, everything, or a search of 120 trials on each."""
    match mode:
        case "cold":
            return []
        case "warm all":
            return [Source(r.trials) for r in others]
        case "warm 120":
            done = [(r, runs.ours("", "gp", r, seed)) for r in others]
            return [Source(tuple(r.trial(i) for i in run.visits)) for r, run in done]
        case _:
            raise ValueError(f"there is no mode {mode!r}")


def joined(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """A result with the contenders of an earlier one that it lacks.

    Raises TileError where the two were made otherwise: other spaces, seeds or budget.
    """
    for what in ("seeds", "budget", "spaces"):
        if before[what] != after[what]:
            raise TileError(f"the results that are there have other {what}",
                            hint="name another file")  # fmt: skip
    skipped = {k: v for k, v in before["skipped"].items() if k not in after["contenders"]}
    return after | {"skipped": skipped | after["skipped"],
                    "contenders": before["contenders"] | after["contenders"]}  # fmt: skip


def _facts(s: Recording) -> dict[str, Any]:
    return {"configs": len(s.times), "failed": int(np.isnan(s.times).sum()),
            "median_over_optimum": float(np.nanmedian(s.times)) / s.optimum,
            "scored_until": int(s.points[-1]), "trial_seconds": float(s.costs.mean())}  # fmt: skip


def summaries(found: list[Run], spaces: list[Recording]) -> dict[str, Any]:
    """For each contender: P with a 95% interval (bootstrap over seeds), the part of the optimum."""
    by_name = {s.name: s for s in spaces}
    return {c: _summary([r for r in found if r.contender == c], by_name)
            for c in dict.fromkeys(r.contender for r in found)}  # fmt: skip


def _summary(found: list[Run], spaces: dict[str, Recording]) -> dict[str, Any]:
    names = list(dict.fromkeys(r.space for r in found))
    scores = {n: [spaces[n].score(r.visits) for r in found if r.space == n] for n in names}
    near = {n: np.mean([[spaces[n].optimum / spaces[n].best(r.visits)[k - 1] for k in LOOKS]
                        for r in found if r.space == n], 0) for n in names}  # fmt: skip
    random = np.random.default_rng(0)
    draws = [np.mean([np.mean(random.choice(v, len(v))) for v in scores.values()])
             for _ in range(2000)]  # fmt: skip
    cost = [r.seconds / len(r.visits) / float(spaces[r.space].costs.mean() or 1) for r in found]
    return {
        "P": float(np.mean([np.mean(v) for v in scores.values()])),
        "interval": np.percentile(draws, [2.5, 97.5]).tolist(),
        "part_of_optimum": np.mean(list(near.values()), 0).tolist(),
        "milliseconds": 1e3 * float(np.mean([r.seconds / len(r.visits) for r in found])),
        "overhead": float(np.mean(cost)), "evaluations": min(len(r.visits) for r in found),
        "spaces": {n: {"P": v, "part_of_optimum": near[n].tolist()} for n, v in scores.items()},
        "visits": {f"{r.space} {r.seed}": r.visits for r in found},
    }  # fmt: skip


def table(result: dict[str, Any]) -> Table:
    """A row for each contender: P over its spaces, the part of the optimum reached, overhead."""
    title = f"{result['seeds']} seeds a space, {result['budget']} evaluations"
    out = Table(title=title, caption="\n".join(f"{n}: {w}" for n, w in result["skipped"].items()))
    looks = [f"@{k}" for k in result["looks"]]
    for heading in ("contender", "spaces", "P", "95%", *looks, "ms", "overhead"):
        out.add_column(heading, justify="left" if heading == "contender" else "right")
    for name, c in sorted(result["contenders"].items(), key=lambda kv: -kv[1]["P"]):
        low, high = c["interval"]
        out.add_row(name, str(len(c["spaces"])), f"{c['P']:.3f}", f"{low:.2f}..{high:.2f}",
                    *(f"{x:.3f}" for x in c["part_of_optimum"]), f"{c['milliseconds']:.0f}",
                    f"{100 * c['overhead']:.1f}%" if c["milliseconds"] else "")  # fmt: skip
    return out


def by_space(result: dict[str, Any]) -> Table:
    """P of each contender on each space."""
    names = list(result["spaces"])
    out = Table(title="P by space")
    for heading in ("contender", *names):
        out.add_column(heading, justify="left" if heading == "contender" else "right")
    for name, c in sorted(result["contenders"].items(), key=lambda kv: -kv[1]["P"]):
        found = {n: v["P"] for n, v in c["spaces"].items()}
        out.add_row(name, *(f"{np.mean(found[n]):.2f}" if n in found else "" for n in names))
    return out
