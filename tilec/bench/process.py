"""One contender in a process of its own: checked, then bursts of calls without disturbed ones."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Literal

from tilec.bench.case import Made, Make, difference
from tilec.bench.memory import peak
from tilec.ir.errors import TileError
from tilec.settings import settings, tell
from tilec.tune.measure.timing import DISTURBED, GROUP, waited

MADE = 240.0  # seconds until a contender that is not made is given up, and one not checked then
PATIENCE = 120.0  # and until one that was asked for a burst is
LONG = 5.0  # seconds of a call that is not made again to see its memory
LOADED = "tilec.cli.bench", "tilec.bench.peers"  # in the process that others are forked from

# Of a process: what it does, or that it waits for a word of ours, made or checked.
State = Literal["starts", "made", "waits", "works", "ends"]


@dataclass(frozen=True)
class Burst:
    """Seconds of undisturbed calls, how many calls were timed, and the processor time of all
    threads per call, for each group of calls."""

    kept: list[float]
    timed: int
    work: list[float]


@dataclass(frozen=True)
class Known:
    """What is known of a contender before it is timed; `error` is None where nothing is made."""

    nbytes: int
    operations: float
    error: float | None
    peak: int | None
    about: Mapping[str, Any]


def burst(made: Made, seconds: float, first: int) -> Burst:
    """Groups of calls for some time; `first` says where in the rotation to begin.

    The first call of a group wakes threads up and is not counted, unless it is as long as a group.
    A disturbed group is dropped.
    """
    kept: list[float] = []
    work: list[float] = []
    timed, at = 0, first
    end = time.perf_counter() + seconds
    while not work or time.perf_counter() < end:
        before, began, times = waited(), time.perf_counter(), list[float]()
        busy = time.process_time()
        while time.perf_counter() - began < GROUP or (len(times) < 2 and sum(times) < GROUP):
            call = made.calls[at % len(made.calls)]
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
            at += 1
        took = time.perf_counter() - began
        work.append((time.process_time() - busy) / len(times) / made.repeats)
        counted = times[1:] or times
        timed += len(counted)
        if waited() - before < DISTURBED * took * 1e9:
            kept += [t / made.repeats for t in counted]
    return Burst(kept, timed, work)


def checked(made: Made) -> Known:
    """Call each of the calls once, and the first again for its memory unless it takes long. Raises
    TileError where its result is wrong."""
    began = time.perf_counter()
    result = made.calls[0]()
    nbytes = made.nbytes + int(getattr(result, "nbytes", 0)) * made.returns
    quick = time.perf_counter() - began < LONG
    error = None
    if made.want is not None:
        error = difference(made.got(result), made.want())
        if not error < made.worst:
            raise TileError(f"its relative error is {error:.1e}, more than {made.worst:.0e}")
    del result
    for call in made.calls[1:]:
        call()
    most = peak(made.calls[0]) + made.kept if quick and made.want is not None else None
    return Known(nbytes, made.operations, error, most, dict(made.about))


def _serve(make: Make, environment: Mapping[str, str], pipe: Connection) -> None:
    tell(**environment)  # before anything asks
    try:
        made = make()
        pipe.send(None)
        if pipe.recv() is None:
            return
        pipe.send(checked(made))
        first = 0
        while (seconds := pipe.recv()) is not None:
            found = burst(made, seconds, first)
            first += found.timed
            pipe.send(found)
    except Exception as e:
        pipe.send(reason(e))


def reason(error: Exception) -> str:
    """Why something failed, in a line."""
    said = (str(error).strip() or "it failed").splitlines()[0]
    return said if isinstance(error, TileError) else f"{type(error).__name__}: {said}"


def preload(modules: Iterable[str]) -> None:
    """Say which modules processes have from the start beside ours: they are loaded once, and leave
    no threads behind. Nothing changes when there has been a process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LOADED, *modules])


class Process:
    """The process of a contender, which begins at once: `made` waits until it is made, `ready`
    until it is checked. Others should not work during checks: their threads wait for each other."""

    known: Known  # when it is ready

    def __init__(self, name: str, make: Make, threads: int) -> None:
        context = multiprocessing.get_context("forkserver")
        told = {n: str(threads) for n in ("TILEC_THREADS", "OMP_NUM_THREADS")}
        environment = settings().environment | told
        self.name, self.bursts = name, list[Burst]()
        self._state: State = "starts"
        self._until = time.monotonic() + MADE
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, environment, other), daemon=True)
        self._process.start()
        other.close()  # so that the end of the process ends a wait for it

    def made(self) -> None:
        """Raises TileError where it can't do the case, dies, or takes longer than MADE seconds."""
        if self._state == "starts":
            self._received(self._until, MADE)
            self._state = "made"

    def ready(self) -> None:
        """Raises TileError as `made` does, and where its result is wrong."""
        self.made()
        if self._state == "made":
            self.known = self._answer(0.0, MADE)

    @property
    def alive(self) -> bool:
        """Whether it can be asked for bursts, or is getting ready for them."""
        return self._process.is_alive()

    @property
    def undisturbed(self) -> int:
        """Bursts of which some calls count."""
        return sum(bool(b.kept) for b in self.bursts)

    def burst(self, seconds: float) -> None:
        """One more burst. Raises TileError where it fails or dies."""
        self.bursts.append(self._answer(seconds, PATIENCE))

    def _answer(self, seconds: float, patience: float) -> Any:
        """To the next word, which for a contender that is made asks for its check."""
        self._state = "works"
        try:
            self._pipe.send(seconds)
        except OSError:
            raise self._dead() from None
        found = self._received(time.monotonic() + patience, patience)
        self._state = "waits"
        return found

    def _received(self, until: float, patience: float) -> Any:
        try:
            if not self._pipe.poll(max(0.0, until - time.monotonic())):
                raise TileError(f"nothing was heard of it for {patience:.0f} seconds")
            found = self._pipe.recv()
        except (EOFError, OSError):
            raise self._dead() from None
        if isinstance(found, str):
            raise TileError(found)
        return found

    def _dead(self) -> TileError:
        self._process.join(10)
        return TileError(f"its process has died ({self._process.exitcode})")

    def finish(self) -> None:
        """Ask a process that waits to end, without waiting for that."""
        if self._state in ("made", "waits") and self.alive:
            self._pipe.send(None)
            self._state = "ends"

    def stop(self) -> None:
        """End the process: at its own will where it waits, else at once."""
        self.finish()
        if self._state == "ends":
            self._process.join(10)
        self._process.kill()
        self._process.join(10)
