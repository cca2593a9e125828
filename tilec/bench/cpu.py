"""The CPU suite: interleaved bursts of every contender, beside the machine's ceilings."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tilec.bench.contenders import MAKERS, Case
from tilec.bench.worker import Worker
from tilec.compile import engine
from tilec.ir.errors import TileError

CASES = [Case(n, k, m) for n, k in ((4096, 4096), (14336, 4096), (4096, 14336))
         for m in (1, 16, 256)]  # fmt: skip
SECONDS = 0.15  # of a burst
LEAST = 3  # undisturbed bursts of every contender
PATIENCE = 4  # times as many rounds as asked for, until there are that many
PAIRS = (("tilec int4", "torch int4"), ("tilec int8", "torch int8"), ("tilec int4", "torch bf16"))


def measure(cases: list[Case], rounds: int, console: Console) -> dict[str, Any]:
    """Raw samples and what follows from them, for every case."""
    threads = engine().pool.threads
    found = [_case(c, rounds, threads) for c in track(cases, "measuring", console=console)]
    return {"machine": machine(), "threads": threads, "rounds": rounds, "cases": found}


def _case(case: Case, rounds: int, threads: int) -> dict[str, Any]:
    ceiling = "read" if case.m == 1 else "arithmetic"
    names = [n for n in MAKERS if n not in ("read", "arithmetic") or n == ceiling]
    workers = [Worker(n, case, threads) for n in names]
    try:
        for done in range(PATIENCE * rounds):
            for w in workers:
                w.burst(SECONDS)
            if done + 1 >= rounds and min(w.undisturbed for w in workers) >= LEAST:
                break
    finally:
        for w in workers:
            w.stop()
    return {
        "n": case.n, "k": case.k, "m": case.m, "ceiling": ceiling,
        "contenders": {w.name: _summary(w, workers[0]) for w in workers},
        "ratios": {f"{a} / {b}": _between(workers, a, b) for a, b in PAIRS},
    }  # fmt: skip


def _rounds(a: Worker, b: Worker) -> list[tuple[float, float]]:
    """The median calls of two contenders in each round in which both were undisturbed."""
    pairs = zip(a.bursts, b.bursts, strict=True)
    return [(statistics.median(x.kept), statistics.median(y.kept))
            for x, y in pairs if x.kept and y.kept]  # fmt: skip


def _median(values: list[float], what: str) -> float:
    if not values:
        raise TileError(f"{what}: every round was disturbed", hint="measure on a quieter machine")
    return statistics.median(values)


def _summary(w: Worker, ceiling: Worker) -> dict[str, Any]:
    of_bytes = ceiling.name == "read"
    amount, most = (x.nbytes if of_bytes else x.operations for x in (w, ceiling))
    shares = [amount / own / (most / limit) for own, limit in _rounds(w, ceiling)]
    calls = [t for b in w.bursts for t in b.kept]
    return {
        "median_seconds": _median(calls, w.name), "kept": len(calls),
        "timed": sum(b.timed for b in w.bursts), "bytes": w.nbytes, "operations": w.operations,
        "share_of_ceiling": _median(shares, w.name), "shares": shares,
        "microseconds": [[round(1e6 * t, 1) for t in b.kept] for b in w.bursts],
    }  # fmt: skip


def _between(workers: list[Worker], ours: str, theirs: str) -> float:
    a, b = (next(w for w in workers if w.name == n) for n in (ours, theirs))
    return ratio(a, b)


def ratio(ours: Worker, theirs: Worker) -> float:
    """How many times as fast ours is: the median over rounds. Raises TileError if none counts."""
    found = [y / x for x, y in _rounds(ours, theirs)]
    return _median(found, f"{ours.name} / {theirs.name}")


def machine() -> dict[str, Any]:
    """What was measured on, with what, and when."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    packages = ("tilec", "numpy", "llvmlite", "torch")
    return {
        "processor": model, "llvm_name": engine().machine.cpu, "cores": os.cpu_count(),
        "python": platform.python_version(), "kernel": platform.release(),
        "versions": {p: importlib.metadata.version(p) for p in packages},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def table(result: dict[str, Any]) -> Table:
    """A row a case: times, shares of the ceiling, and how many times as fast as each peer."""
    out = Table(title=f"linear layers on {result['machine']['processor']}")
    for heading in ("N", "K", "M", "int4 us", "int4 %", "torch int4 %", "int8 us", "int8 %",
                    "/ torch int4", "/ torch int8", "int4 / bf16"):  # fmt: skip
        out.add_column(heading, justify="right")
    for case in result["cases"]:
        c, ratios = case["contenders"], list(case["ratios"].values())
        shares = {n: f"{100 * c[n]['share_of_ceiling']:.0f}" for n in c}
        times = {n: f"{1e6 * c[n]['median_seconds']:.0f}" for n in c}
        out.add_row(
            str(case["n"]), str(case["k"]), str(case["m"]), times["tilec int4"],
            shares["tilec int4"], shares["torch int4"], times["tilec int8"], shares["tilec int8"],
            *(f"{r:.2f}" for r in ratios),
        )  # fmt: skip
    return out
