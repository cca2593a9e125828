"""One contender in a process of its own: bursts of calls, those that were disturbed left out."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from tilec.bench.contenders import Contender, make
from tilec.ir.errors import TileError
from tilec.tune.measure.timing import DISTURBED, GROUP, waited


@dataclass(frozen=True)
class Burst:
    """Times of undisturbed calls in seconds, how many calls were timed, and the processor time of
    all threads per call, for each group of calls."""

    kept: list[float]
    timed: int
    work: list[float] = field(default_factory=list[float])


def burst(contender: Contender, seconds: float, first: int) -> Burst:
    """Groups of calls for some time, at least three; `first` says where in the rotation to begin.

    The first call of a group wakes threads up and is not counted; a disturbed group is dropped.
    """
    kept: list[float] = []
    work: list[float] = []
    timed, groups, at = 0, 0, first
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or groups < 3:
        before, began, times = waited(), time.perf_counter(), list[float]()
        busy = time.process_time()
        while len(times) < 2 or time.perf_counter() - began < GROUP:
            call = contender.calls[at % len(contender.calls)]
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
            at += 1
        took = time.perf_counter() - began
        work.append((time.process_time() - busy) / len(times))
        groups, timed = groups + 1, timed + len(times) - 1
        if waited() - before < DISTURBED * took * 1e9:
            kept += times[1:]
    return Burst(kept, timed, work)


Make = Callable[[str, Any], Contender]


def _serve(make: Make, name: str, case: Any, threads: int, pipe: Connection) -> None:
    if name.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
    try:
        contender = make(name, case)
    except TileError as e:
        pipe.send(str(e))
        return
    for call in contender.calls:
        call()
    pipe.send((contender.nbytes, contender.operations, contender.about))
    first = 0
    while (seconds := pipe.recv()) is not None:
        found = burst(contender, seconds, first)
        first += found.timed
        pipe.send(found)


class Worker:
    """The process of a contender. Raises TileError where its result is wrong or it dies."""

    def __init__(self, name: str, case: Any, threads: int, make: Make = make) -> None:
        context = multiprocessing.get_context("spawn")
        self.name, self.bursts = name, list[Burst]()
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(make, name, case, threads, other), daemon=True
        )
        self._process.start()
        other.close()  # so that the end of the process ends a wait for it
        ready = self._received()
        if isinstance(ready, str):
            raise TileError(ready)
        self.nbytes, self.operations, self.about = ready

    @property
    def undisturbed(self) -> int:
        """Bursts of which some calls count."""
        return sum(bool(b.kept) for b in self.bursts)

    def burst(self, seconds: float) -> None:
        """One more burst."""
        self._pipe.send(seconds)
        self.bursts.append(self._received())

    def _received(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise TileError(f"the process of {self.name} has died") from None

    def stop(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._pipe.send(None)
        self._process.join(10)
