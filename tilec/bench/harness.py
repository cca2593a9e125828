"""The one way in which suites are measured: contenders in processes, in interleaved bursts.

A round has a burst of every contender of a case and of its ceiling. There are as many rounds as
asked for, and more until ours and the ceiling have enough that nothing disturbed, within limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import get_args

from rich.console import Console
from rich.progress import track

from tilec.bench.case import BYTES, OURS, Case, Ceiling, Make, Peer, Suite
from tilec.bench.ceiling import ceiling
from tilec.bench.machine import processors
from tilec.bench.process import Process
from tilec.bench.results import Result, contender, ratio
from tilec.ir.errors import TileError

LEAST = 3  # undisturbed bursts of ours and of the ceiling
PATIENCE = 4  # times as many rounds as asked for, until there are that many,
LIMIT = 60.0  # but none after so many seconds of a case
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

    def attempt(self, name: str, ready: bool, seconds: float = 0.0) -> None:
        """Let a contender get ready, or time it. Raises TileError where ours or the ceiling
        fails; a peer that does is left out."""
        try:
            if ready:
                self.processes[name].ready()
            else:
                self.processes[name].burst(seconds)
        except TileError as e:
            self.processes.pop(name).stop()
            if name.split()[0] in (OURS, *get_args(Ceiling)):
                raise TileError(f"{name}: {e.message}", hint=e.hint) from None
            self.skipped[name] = e.message


def measure(
    suite: Suite, peers: Sequence[Peer], asked: Asked, console: Console,
    told: Callable[[Result], None] | None = None,
) -> Iterator[Result]:  # fmt: skip
    """The results of a suite, for one number of threads after the other. Cases in which ours is
    wrong or fails are under `failed`; peers that are or do are skipped; each with the reason.

    `told` is given the results so far after each case.
    """
    absent = {p.name: p.absent() for p in peers}
    present = [p for p in peers if not absent[p.name]]
    cases = asked.cases(suite)
    own = asked.threads or ((1,) if asked.quick else suite.threads)
    for threads in dict.fromkeys(n or processors() for n in own):
        what = f"{suite.name}, {threads} threads" if threads > 1 else f"{suite.name}, 1 thread"
        rounds = min(asked.rounds, suite.rounds, FEW if asked.quick else suite.rounds)
        pace = Pace(rounds, QUICK, 1) if asked.quick else Pace(rounds, suite.seconds, PATIENCE)
        found, failed = list[Result](), dict[str, str]()
        result: Result = {
            "suite": suite.name, "threads": threads, "rounds": rounds,
            "skipped": {n: why for n, why in absent.items() if why}, "failed": failed,
            "cases": found,
        }  # fmt: skip
        for case in track(cases, what, console=console):
            try:
                found.append(_case(case, present, threads, pace))
            except TileError as e:
                failed[case.name] = e.message
            if told is not None:
                told(result)
        yield result


def _case(case: Case, peers: Sequence[Peer], threads: int, pace: Pace) -> Result:
    makers = dict(case.problem.ours())
    for p in peers:
        makers |= p.contenders(case.problem)
    top = ceiling(case)
    if top is not None and case.ceiling:
        makers = {case.ceiling: top, **makers}
    counted = "nbytes" if case.ceiling in BYTES else "operations"
    with _running(makers, threads) as found:
        _rounds(found, case, pace)
        done = found.processes
        limit, ours = done.get(case.ceiling or ""), done[OURS]
        return {
            "name": case.name, "axes": dict(case.axes), "ceiling": case.ceiling,
            "contenders": {n: contender(p, limit, counted) for n, p in done.items()},
            "ratios": {n: ratio(ours, p) for n, p in done.items() if p not in (ours, limit)},
            "skipped": found.skipped,
        }  # fmt: skip


@contextmanager
def _running(makers: Mapping[str, Make], threads: int) -> Generator[Field]:
    """The processes of contenders, those that fail left out; they begin together."""
    found = Field({n: Process(n, make, threads) for n, make in makers.items()})
    try:
        for name in makers:
            found.attempt(name, ready=True)
        yield found
    finally:
        for p in found.processes.values():
            p.stop()


def _rounds(found: Field, case: Case, pace: Pace) -> None:
    judged = [n for n in (OURS, case.ceiling or "") if n in found.processes]
    began = time.perf_counter()
    for done in range(pace.patience * pace.rounds):
        for name in list(found.processes):
            found.attempt(name, ready=False, seconds=pace.seconds)
        enough = min(found.processes[n].undisturbed for n in judged) >= min(LEAST, pace.rounds)
        if done + 1 >= pace.rounds and (enough or time.perf_counter() - began > LIMIT):
            break
