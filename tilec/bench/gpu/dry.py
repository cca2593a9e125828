"""The suite without a GPU: every case compiled at full size, judged, and run at a reduced size."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from tilec.bench.gpu.case import Case, Way
from tilec.bench.gpu.emulated import Ran, ran
from tilec.bench.gpu.made import Judged, judged
from tilec.ir.errors import TileError

NARROW = 0.2  # of the bytes of a main loop: scales may be narrow
CONFLICTS = 1.1  # passes over shared memory for each that is needed


@dataclass(frozen=True)
class Tried:
    """What became of a case made in one way: what its machine code is like, what a run showed, and
    what tilec said where it can't express it."""

    case: str
    way: Way
    near: float
    seconds: float
    judged: Judged | None = None
    ran: Ran | None = None
    trouble: str = ""

    @property
    def refused(self) -> bool:
        """Whether it is one of those that are known to be refused, and was."""
        return bool(self.way.refused) and self.way.refused in self.trouble

    @property
    def wrong(self) -> list[str]:
        """What makes a dry run fail: no code, other results, findings of a check."""
        if self.refused:
            return []
        if self.trouble:
            return [self.trouble]
        if self.way.refused:
            return [f"expected a refusal: {self.way.refused}"]
        assert self.ran is not None
        off = [f"{name or 'result'} is off by {e:.1e}, expected at most {self.near:.1e}"
               for name, e in self.ran.errors.items() if not e <= self.near]  # fmt: skip
        return [*off, *self.ran.findings[:3]]

    @property
    def remarks(self) -> list[str]:
        """What is right, but not as fast as it should be."""
        if self.judged is None:
            return []
        found = self.judged.faults(self.way)
        if self.judged.narrow > NARROW:
            found.append(f"{self.judged.narrow:.0%} of the bytes come in less than 16 at a time")
        conflicts = self.ran.conflicts if self.ran is not None else None
        if conflicts is not None and conflicts > CONFLICTS:
            found.append(f"bank conflicts: {conflicts:.2f} times the passes")
        return found

    @property
    def state(self) -> str:
        """In a word: ok, slow, wrong, or refused."""
        if self.refused:
            return "refused"
        return "wrong" if self.wrong else "slow" if self.remarks else "ok"

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        ran = self.ran
        return {
            "case": self.case, "backend": self.way.backend, "schedule": self.way.schedule,
            "state": self.state, "seconds": self.seconds, "trouble": self.trouble,
            "wrong": self.wrong, "remarks": self.remarks,
            "code": self.judged.to_json() if self.judged is not None else None,
            "run": None if ran is None else {
                "seconds": ran.seconds, "errors": dict(ran.errors), "findings": list(ran.findings),
                "conflicts": ran.conflicts, "sectors": list(ran.sectors)},
        }  # fmt: skip


def tried(case: Case, way: Way) -> Tried:
    """Compile, judge and run one way of a case. A TileError is an outcome."""
    start = time.perf_counter()
    code: Judged | None = None
    try:
        code = judged(case, way)
        outcome = ran(case, way)
    except TileError as e:
        said = str(e) if code is None else f"at reduced size: {e}"
        return Tried(case.name, way, case.near, time.perf_counter() - start, code, None, said)
    return Tried(case.name, way, case.near, time.perf_counter() - start, code, outcome)


def tried_by_name(name: str, at: int) -> Tried:
    """What a process of its own does: the way of number `at` of a case of the suite."""
    from tilec.bench.gpu.cases import CASES

    case = next(c for c in CASES if c.name == name)
    try:
        return tried(case, case.ways[at])
    except Exception as e:  # which would otherwise end the run of all others
        said = f"{type(e).__name__}: {e}"
        return Tried(case.name, case.ways[at], case.near, 0.0, None, None, said)


def dry_run(cases: Sequence[Case], jobs: int = 0, told: Callable[[Tried], None] | None = None
            ) -> list[Tried]:  # fmt: skip
    """Every way of every case, in as many processes as `jobs` says (0: one a processor).

    `told` hears of each as it is done. Code comes from tilec's cache where it is there.
    """
    asked = [(c.name, i) for c in cases for i in range(len(c.ways))]
    found: dict[tuple[str, int], Tried] = {}
    for key, one in _done(asked, jobs or os.cpu_count() or 1):
        found[key] = one
        if told is not None:
            told(one)
    return [found[key] for key in asked]


def _done(asked: Sequence[tuple[str, int]], jobs: int) -> Iterator[tuple[tuple[str, int], Tried]]:
    if jobs == 1 or len(asked) == 1:
        yield from ((key, tried_by_name(*key)) for key in asked)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting: dict[Future[Tried], tuple[str, int]] = {
            pool.submit(tried_by_name, *key): key for key in asked
        }
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
