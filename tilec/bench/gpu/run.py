"""The suite on a GPU: every case beside its peers within ten minutes, or results alone."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tilec.bench.gpu.case import CAPABILITY, Case
from tilec.bench.gpu.cases import CASES
from tilec.bench.gpu.made import compiled
from tilec.bench.gpu.measured import Asked, Result
from tilec.bench.gpu.plan import LIMIT, plan
from tilec.bench.gpu.session import Session, Setup, on_cuda, within
from tilec.bench.results import document, write
from tilec.ir.errors import TileError

SPARE = 1.5  # times as long as a case is expected to take
LEAST = 8.0  # seconds that a case is given at least
SHARE = 0.15  # of the whole time, that code may take to be made beforehand
Told = Callable[[Result], None]


def run(cases: Sequence[Case], out: Path, asked: Asked | None = None, seconds: float = LIMIT,
        told: Told | None = None, setup: Setup = on_cuda) -> list[Result]:  # fmt: skip
    """Measure cases in their order; what the time does not allow is left out and named.

    Results are written to `out` after each case. `told` hears of each. Raises TileError without a
    GPU.
    """
    end = time.perf_counter() + seconds
    how = asked or Asked()
    session = Session(setup)
    found: list[Result] = []
    try:
        session.begin()
        if session.about["capability"] == "{}.{}".format(*CAPABILITY) and setup is on_cuda:
            compile_all(cases, SHARE * seconds)
        for planned in plan(cases, how.rounds):
            left = end - time.perf_counter()
            if left < LEAST and how.rounds:
                found.append({"name": planned.case.name, "left_out": "no time was left"})
                continue
            given = min(max(LEAST, SPARE * planned.seconds), left)
            found.append(session.measure(planned.case.name, within(how, given)))
            _keep(out, found, session.about, how)
            if told is not None:
                told(found[-1])
    finally:
        session.end()
    _keep(out, found, session.about, how)
    return found


def check(cases: Sequence[Case], out: Path, told: Told | None = None, setup: Setup = on_cuda
          ) -> list[Result]:  # fmt: skip
    """Compare the results of every way of every case with doubles; nothing is timed."""
    return run(cases, out, Asked(rounds=0, seconds=60.0), told=told, setup=setup)


def _keep(out: Path, found: Sequence[Result], about: Any, how: Asked) -> None:
    """Write what there is: the file is whole at every moment."""
    skipped: dict[str, str] = {}
    for r in found:
        skipped |= r.get("skipped", {})
    suite = {
        "suite": "gpu", "threads": 0, "rounds": how.rounds, "skipped": skipped,
        "cases": [r for r in found if "left_out" not in r],
        "left_out": {r["name"]: r["left_out"] for r in found if "left_out" in r},
    }  # fmt: skip
    whole = document([suite])
    whole["machine"] |= dict(about)
    beside = out.with_name(out.name + ".part")
    write(beside, whole)
    os.replace(beside, out)


def compile_all(cases: Sequence[Case], seconds: float, jobs: int = 0) -> None:
    """Bring the code of all cases into tilec's cache, in many processes, as far as time allows."""
    asked = [(c.name, i) for c in cases for i in range(len(c.ways))]
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs or os.cpu_count() or 1, mp_context=context)
    futures = [pool.submit(compile_one, *key) for key in asked]
    end = time.perf_counter() + seconds
    for f in futures:
        if time.perf_counter() > end:
            break
        try:
            f.result(timeout=max(0.1, end - time.perf_counter()))
        except TimeoutError:
            break
    pool.shutdown(wait=False, cancel_futures=True)


def compile_one(name: str, at: int) -> None:
    """The code of one way of a case; that it can't be made is said when it is measured."""
    case = next(c for c in CASES if c.name == name)
    try:
        compiled(case, case.ways[at], case.dims, case.formats)
    except TileError:
        return
