"""The one way in which suites are measured: contenders in processes, in interleaved bursts.

A round has a burst of every contender of a case and of its ceiling. There are as many rounds as
asked for, fewer where calls take very long, and more until ours and the ceiling have enough that
nothing disturbed, within limits. Ceilings stay in their processes for the cases after. A case that
fails does not end the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, get_args

from rich.console import Console
from rich.progress import track

from tilec.bench.case import BYTES, OURS, Case, Ceiling, Make, Peer, Suite
from tilec.bench.ceiling import ceiling
from tilec.bench.machine import processors
from tilec.bench.process import Process, preload, reason
from tilec.bench.results import Result, contender, ratio
from tilec.ir.errors import TileError

LEAST = 3  # undisturbed bursts of ours and of the ceiling
PATIENCE = 4  # times as many rounds as asked for, until there are that many,
LIMIT = 30.0  # but no further round after so many seconds of a case
KEPT = 3  # ceilings at once: the one of reading keeps twice the last cache
QUICK, FEW = 0.03, 3  # seconds of a burst and rounds of a quick run


@dataclass(frozen=True)
class Asked:
    """What is measured of suites: cases with `only` in their names, numbers of threads other than
    the suite's own (0: one for each processor), `quick` a few small cases in short bursts on one
    thread, without patience."""

    rounds: int = 7
    only: str = ""
    threads: tuple[int, ...] = ()
    quick: bool = False

    def cases(self, suite: Suite) -> list[Case]:
        """Those of a suite."""
        return [c for c in suite.cases(self.quick) if self.only in c.name]


@dataclass(frozen=True)
class Pace:
    """Rounds, the seconds of a burst, and how many times as many rounds there may be."""

    rounds: int
    seconds: float
    patience: int


@dataclass
class Field:
    """The contenders of a case that are still in the race, and why others are not."""

    processes: dict[str, Process] = field(default_factory=dict[str, Process])
    skipped: dict[str, str] = field(default_factory=dict[str, str])

    def each(self, step: Callable[[Process], None]) -> None:
        """Let one contender after the other be made, get ready, or be timed. Raises TileError where
        ours or the ceiling fails; a peer that does is left out."""
        for name, process in list(self.processes.items()):
            try:
                step(process)
            except TileError as e:
                self.processes.pop(name).stop()
                if name.split()[0] in (OURS, *get_args(Ceiling)):
                    raise TileError(f"{name}: {e.message}", hint=e.hint) from None
                self.skipped[name] = e.message


@dataclass
class Ceilings:
    """The processes of ceilings, each for all the cases that it is the ceiling of."""

    threads: int
    found: dict[tuple[Any, ...], Process] = field(default_factory=dict[tuple[Any, ...], Process])

    def of(self, case: Case) -> dict[str, Process]:
        """The one of a case by its name, or none. Raises TileError for one that there is not."""
        make = ceiling(case)
        if make is None or case.ceiling is None:
            return {}
        key = case.ceiling, case.moved, case.unit
        process = self.found.pop(key, None)
        if process is None or not process.alive:
            process = Process(case.ceiling, make, self.threads)
        process.bursts = []
        self.found[key] = process  # behind those that were asked for before
        while len(self.found) > KEPT:
            self.found.pop(next(iter(self.found))).stop()
        return {case.ceiling: process}

    def stop(self) -> None:
        """End them."""
        for p in self.found.values():
            p.stop()


def measure(
    suite: Suite, peers: Sequence[Peer], asked: Asked, console: Console,
    told: Callable[[Result], None] | None = None, begun: Sequence[Result] = (),
) -> Iterator[Result]:  # fmt: skip
    """The results of a suite, for one number of threads after the other. Cases in which ours is
    wrong or fails are under `failed`; peers that are or do are skipped; each with the reason.

    `told` is given the results so far after each case; `begun` are results of suites to go on with,
    whose cases are not measured again.
    """
    absent = {p.name: p.absent() for p in peers}
    present = [p for p in peers if not absent[p.name]]
    preload(m for p in present for m in p.loads)
    own = asked.threads or ((1,) if asked.quick else suite.threads)
    for threads in dict.fromkeys(n or processors() for n in own):
        rounds = min(asked.rounds, suite.rounds, FEW if asked.quick else suite.rounds)
        pace = Pace(rounds, QUICK, 1) if asked.quick else Pace(rounds, suite.seconds, PATIENCE)
        earlier = [c for s in begun if (s["suite"], s["threads"]) == (suite.name, threads)
                   for c in s["cases"]]  # fmt: skip
        result: Result = {
            "suite": suite.name, "threads": threads, "rounds": rounds,
            "skipped": {n: why for n, why in absent.items() if why}, "failed": {},
            "cases": earlier,
        }  # fmt: skip
        known = {c["name"] for c in earlier}
        cases = [c for c in asked.cases(suite) if c.name not in known]
        what = f"{suite.name}, {threads} threads" if threads > 1 else f"{suite.name}, 1 thread"
        for _ in _measured(result, track(cases, what, console=console), present, pace):
            if told is not None:
                told(result)
        yield result


def _measured(
    result: Result, cases: Iterable[Case], peers: Sequence[Peer], pace: Pace
) -> Iterator[None]:
    """Add each case to a result."""
    ceilings = Ceilings(result["threads"])
    try:
        for case in cases:
            try:
                result["cases"].append(_case(case, peers, ceilings, pace))
            except Exception as e:  # whatever it is, there are other cases
                result["failed"][case.name] = reason(e)
            yield
    finally:
        ceilings.stop()


def _case(case: Case, peers: Sequence[Peer], ceilings: Ceilings, pace: Pace) -> Result:
    makers, skipped = dict(case.problem.ours()), dict[str, str]()
    for p in peers:
        try:
            makers |= p.contenders(case.problem)
        except Exception as e:  # of a library that we know little of
            skipped[p.name] = reason(e)
    counted = "nbytes" if case.ceiling in BYTES else "operations"
    began = time.perf_counter()
    with _running(makers, ceilings.of(case), ceilings.threads) as found:
        ready = time.perf_counter()
        _rounds(found, case, pace)
        took = {"ready": ready - began, "timed": time.perf_counter() - ready}
        done = found.processes
        limit, ours = done.get(case.ceiling or ""), done[OURS]
        return {
            "name": case.name, "axes": dict(case.axes), "ceiling": case.ceiling,
            "contenders": {n: contender(p, limit, counted) for n, p in done.items()},
            "ratios": {n: ratio(ours, p) for n, p in done.items() if p not in (ours, limit)},
            "skipped": skipped | found.skipped,
            "took": {n: round(s, 2) for n, s in took.items()},
        }  # fmt: skip


@contextmanager
def _running(
    makers: Mapping[str, Make], top: Mapping[str, Process], threads: int
) -> Generator[Field]:
    """The processes of contenders beside that of the ceiling, those that fail left out. They are
    made together, and checked one by one: threads that wait for each other would wait for all."""
    found = Field({**top, **{n: Process(n, make, threads) for n, make in makers.items()}})
    try:
        found.each(Process.made)
        found.each(Process.ready)
        yield found
    finally:
        own = [p for n, p in found.processes.items() if n not in top]
        for p in own:
            p.finish()
        for p in own:
            p.stop()


def _rounds(found: Field, case: Case, pace: Pace) -> None:
    judged = [n for n in (OURS, case.ceiling or "") if n in found.processes]
    began = time.perf_counter()
    for done in range(pace.patience * pace.rounds):
        found.each(lambda p: p.burst(pace.seconds))
        enough = min(found.processes[n].undisturbed for n in judged) >= min(LEAST, pace.rounds)
        if time.perf_counter() - began > LIMIT or (enough and done + 1 >= pace.rounds):
            break
