"""The attention suite: prefill and decoding, ours beside torch's, in turns with the ceilings."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tilec.bench.attended import Point, make
from tilec.bench.cpu import LEAST, PATIENCE, machine
from tilec.bench.sparse import between, summary
from tilec.bench.worker import Worker
from tilec.compile import engine

SECONDS = 0.3  # of a burst
TYPES = ("bf16", "f16", "f32")
POINTS = [Point(m, n, causal, t)
          for t in TYPES
          for m, n, causal in ((1024, 1024, True), (1024, 1024, False), (4096, 4096, True),
                               (4096, 4096, False), (1, 4096, True))]  # fmt: skip
OURS, THEIRS = ("tilec", "tilec kernel"), ("torch sdpa", "torch sdpa gqa")


def measure(points: list[Point], rounds: int, console: Console) -> dict[str, Any]:
    """Raw samples and what follows from them, for every point."""
    threads = engine().pool.threads
    found = [_point(p, rounds, threads) for p in track(points, "measuring", console=console)]
    return {"machine": machine(), "threads": threads, "rounds": rounds, "points": found}


def _point(point: Point, rounds: int, threads: int) -> dict[str, Any]:
    ceiling = "read" if point.decodes else "arithmetic"
    ours = OURS if point.causal else OURS[:1]
    workers = [Worker(n, point, threads, make) for n in (ceiling, *ours, *THEIRS)]
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
    top = by_name[ceiling]

    def amount(w: Worker) -> float:
        return w.nbytes if point.decodes else w.operations

    return {
        "m": point.m, "n": point.n, "causal": point.causal, "dtype": point.dtype,
        "ceiling": ceiling, "contenders": {w.name: summary(w, threads) for w in workers},
        "ours": {name: {
            "share_of_ceiling": between(by_name[name], top, threads)
            * amount(by_name[name]) / amount(top),
            "times_as_fast_as": {p: between(by_name[name], by_name[p], threads) for p in THEIRS},
        } for name in ours},
    }  # fmt: skip


def table(result: dict[str, Any]) -> Table:
    """A row for each of ours at each point; > where all calls of a peer were disturbed and its
    processor time is a bound. Shares are of bf16's arithmetic, or of reading."""
    out = Table(title=f"attention of 32 heads, 8 of keys, on {result['machine']['processor']}")
    for heading in ("queries x keys", "", "dtype", "ours", "ms", "% ceiling", *THEIRS):
        out.add_column(heading, justify="right")
    for p in result["points"]:
        for name, found in p["ours"].items():
            own, beside = p["contenders"][name], found["times_as_fast_as"]
            out.add_row(
                f"{p['m']} x {p['n']}",
                "decode" if p["m"] == 1 else "causal" if p["causal"] else "full", p["dtype"], name,
                f"{1e3 * (own['median_seconds'] or own['least_seconds']):.2f}",
                f"{100 * found['share_of_ceiling']:.0f}",
                *(f"{r:.2f}" if p["contenders"][n]["kept"] else f">{r:.1f}"
                  for n, r in beside.items()),
            )  # fmt: skip
    return out
