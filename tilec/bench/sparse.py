"""The sparse suite: pruned linear layers beside dense ones and sparse peers, in turns."""

from __future__ import annotations

import statistics
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tilec.bench.cpu import LEAST, PATIENCE, machine, ratio
from tilec.bench.pruned import Point, make
from tilec.bench.worker import Worker
from tilec.compile import engine

SECONDS = 0.1  # of a burst
SINGLE = (0.5, 0.3, 0.2, 0.1)
BLOCKS = (0.5, 0.2, 0.1, 0.05)
DENSE = ("torch bf16", "torch f32")
OURS = {False: ("tilec bitmap<bf16>", "tilec bitmap<f32>", "tilec csr<f32>"),
        True: ("tilec block<16, 16, bf16>", "tilec block<16, 16, f32>")}  # fmt: skip
THEIRS = {False: ("torch csr f32", "scipy csr f32"),
          True: ("torch csr f32", "torch bsr f32", "scipy csr f32", "scipy bsr f32")}  # fmt: skip


def points(n: int, k: int) -> list[Point]:
    """Every kind of weight, part that is left and M, for one size."""
    return [Point(n, k, m, density, blocks)
            for blocks, densities in ((True, BLOCKS), (False, SINGLE))
            for density in densities for m in (1, 16)]  # fmt: skip


def measure(cases: list[Point], rounds: int, console: Console) -> dict[str, Any]:
    """Raw samples and what follows from them, for every point."""
    threads = engine().pool.threads
    found = [_point(p, rounds, threads) for p in track(cases, "measuring", console=console)]
    return {"machine": machine(), "threads": threads, "rounds": rounds, "points": found}


def _point(point: Point, rounds: int, threads: int) -> dict[str, Any]:
    ours, peers = OURS[point.blocks], (*DENSE, *THEIRS[point.blocks])
    workers = [Worker(n, point, threads, make) for n in ("read", *ours, *peers)]
    try:
        for done in range(PATIENCE * rounds):
            for w in workers:
                w.burst(SECONDS)
            if done + 1 >= rounds and min(w.undisturbed for w in workers[: len(ours) + 1]) >= LEAST:
                break
    finally:
        for w in workers:
            w.stop()
    by_name = {w.name: w for w in workers}
    return {
        "n": point.n, "k": point.k, "m": point.m, "density": point.density,
        "blocks": point.blocks, "contenders": {w.name: summary(w, threads) for w in workers},
        "ours": {name: {
            "share_of_read": between(by_name[name], by_name["read"], threads)
            * by_name[name].nbytes / by_name["read"].nbytes,
            "times_as_fast_as": {p: between(by_name[name], by_name[p], threads) for p in peers},
        } for name in ours},
    }  # fmt: skip


def _least(w: Worker, threads: int) -> float:
    """What a call takes at least: the processor time of its threads, as if evenly spread."""
    alone = w.name.startswith("scipy")
    return min(t for b in w.bursts for t in b.work) / (1 if alone else threads)


def between(ours: Worker, theirs: Worker, threads: int) -> float:
    """How many times as fast ours is; at least so, where every call of theirs was disturbed."""
    if theirs.undisturbed and any(a.kept and b.kept for a, b in zip(ours.bursts, theirs.bursts,
                                                                    strict=True)):  # fmt: skip
        return ratio(ours, theirs)
    own = [t for b in ours.bursts for t in b.kept]
    return _least(theirs, threads) / (statistics.median(own) if own else _least(ours, threads))


def summary(w: Worker, threads: int) -> dict[str, Any]:
    """What was found of one contender."""
    calls = [t for b in w.bursts for t in b.kept]
    return {
        "median_seconds": statistics.median(calls) if calls else None,
        "least_seconds": _least(w, threads), "kept": len(calls), "bytes": w.nbytes,
        "timed": sum(b.timed for b in w.bursts),
        "microseconds": [[round(1e6 * t, 1) for t in b.kept[:50]] for b in w.bursts],
    }  # fmt: skip


def table(result: dict[str, Any]) -> Table:
    """A row for each of ours at each point: its time, what it reads, and ratios to the peers, with
    > where all calls of a peer were disturbed and its processor time is a bound."""
    out = Table(title=f"pruned linear layers on {result['machine']['processor']}")
    short = ("bf16", "f32", "csr", "bsr", "scipy csr", "scipy bsr")
    names = (*DENSE, "torch csr f32", "torch bsr f32", "scipy csr f32", "scipy bsr f32")
    for heading in ("N x K", "M", "zeros", "format", "us", "MB", "% read", *short):
        out.add_column(heading, justify="right")
    for p in result["points"]:
        for name, found in p["ours"].items():
            own = p["contenders"][name]
            beside = [found["times_as_fast_as"].get(n) for n in names]
            cells = ["" if r is None else f"{r:.2f}" if p["contenders"][n]["kept"] else f">{r:.1f}"
                     for n, r in zip(names, beside, strict=True)]  # fmt: skip
            out.add_row(
                f"{p['n']}x{p['k']}", str(p["m"]), f"{100 * (1 - p['density']):.0f}%",
                name.removeprefix("tilec "),
                f"{1e6 * (own['median_seconds'] or own['least_seconds']):.0f}",
                f"{own['bytes'] / 1e6:.2f}", f"{100 * found['share_of_read']:.0f}",
                *cells,
            )  # fmt: skip
    return out
