"""What the time of a compile goes into: stages, told to whoever compiles.

The compile that a stage belongs to is that of its context (contextvars), as passes, code
generators and the runtime do not know each other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from tilec.observe.counts import count
from tilec.observe.log import DEBUG, INFO, say

KINDS = ("parse", "pass", "verify", "codegen", "compiler", "cache", "load", "tune")


@dataclass(frozen=True)
class Stage:
    """A part of a compile. `start` is of time.perf_counter; `seconds` are all that it took, `own`
    those outside of the stages in it. `notes` has what more is known."""

    name: str
    kind: str
    start: float
    seconds: float
    own: float
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Total:
    """All stages of a name: how many, and the seconds that they took themselves."""

    name: str
    kind: str
    count: int
    seconds: float


@dataclass(frozen=True)
class Compile:
    """A kernel made ready for arguments of one kind, in this process.

    `target` is the device that it is for, as torch says it (of `tilec compile` the target that was
    asked for); `start` is of time.perf_counter, `thread` the thread's number.
    Stages are in the order of their ends: one is behind those in it. `error` is why it failed.
    """

    kernel: str
    target: str
    dims: Mapping[str, int]
    types: Mapping[str, str]
    start: float
    seconds: float
    thread: int
    stages: tuple[Stage, ...]
    error: str = ""

    @property
    def cached(self) -> bool:
        """Whether its code came from the disk."""
        found = [s.notes.get("made") for s in self.stages if s.kind == "cache"]
        return bool(found) and not any(found)

    @property
    def totals(self) -> tuple[Total, ...]:
        """The stages by name, in the order of their first start; `other` is what is in none."""
        found: dict[tuple[str, str], tuple[int, float]] = {}
        for s in sorted(self.stages, key=lambda s: s.start):
            n, seconds = found.get((s.name, s.kind), (0, 0.0))
            found[s.name, s.kind] = n + 1, seconds + s.own
        totals = [Total(*key, *value) for key, value in found.items()]
        rest = max(self.seconds - sum(t.seconds for t in totals), 0.0)
        return (*totals, Total("other", "other", 1, rest))

    def as_json(self) -> dict[str, Any]:
        """For documents; times are in seconds."""
        return {
            "kernel": self.kernel, "target": self.target, "dims": dict(self.dims),
            "types": dict(self.types), "seconds": self.seconds, "cached": self.cached,
            "stages": [{"name": t.name, "kind": t.kind, "count": t.count, "seconds": t.seconds}
                       for t in self.totals],
            "error": self.error,
        }  # fmt: skip


class _Recorder:
    """A compile that is under way; `inner` has the seconds of the stages in each open one."""

    def __init__(self) -> None:
        self.about: dict[str, Any] = {}
        self.stages: list[Stage] = []
        self.inner: list[float] = []

    def add(self, name: str, kind: str, start: float, seconds: float, inner: float,
            notes: Mapping[str, Any]) -> None:  # fmt: skip
        if self.inner:
            self.inner[-1] += seconds
        self.stages.append(Stage(name, kind, start, seconds, seconds - inner, notes))
        say("compile", DEBUG, "stage", name=name, kind=kind, ms=seconds * 1e3, **notes)


_RECORDER: ContextVar[_Recorder | None] = ContextVar("tilec compile", default=None)
_LISTENERS: list[Callable[[Compile], None]] = []


@contextmanager
def stage(name: str, kind: str) -> Generator[dict[str, Any]]:
    """What happens inside is a stage of the compile under way, if any. The value takes notes."""
    recorder, notes = _RECORDER.get(), dict[str, Any]()
    if recorder is None:
        yield notes
        return
    recorder.inner.append(0.0)
    start = time.perf_counter()
    try:
        yield notes
    finally:
        seconds = time.perf_counter() - start
        recorder.add(name, kind, start, seconds, recorder.inner.pop(), notes)


def reported(kind: str, seconds: Mapping[str, float]) -> None:
    """Stages one after the other, of which the last has just ended, by the clock of the tool that
    did them: parts of the open one."""
    recorder = _RECORDER.get()
    if recorder is None:
        return
    start = time.perf_counter() - sum(seconds.values())
    for name, took in seconds.items():
        recorder.add(name, kind, start, took, 0.0, {})
        start += took


@contextmanager
def compiling(kernel: str, keep: Callable[[Compile], None]) -> Generator[dict[str, Any]]:
    """What happens inside is a compile, which `keep` gets at its end; one that is begun in another
    is part of that. The value takes its `target`, `dims` and `types`, and that it is `known`: then
    nothing was compiled."""
    outer = _RECORDER.get()
    if outer is not None:
        yield outer.about
        return
    recorder, error = _Recorder(), ""
    token = _RECORDER.set(recorder)
    start = time.perf_counter()
    try:
        yield recorder.about
    except BaseException as e:
        error = f"{type(e).__name__}: {e}"
        raise
    finally:
        _RECORDER.reset(token)
        about = recorder.about
        made = Compile(kernel, about.get("target", "cpu"), about.get("dims", {}),
                       about.get("types", {}), start, time.perf_counter() - start,
                       threading.get_ident(), tuple(recorder.stages), error)  # fmt: skip
        if error or not about.get("known"):
            _tell(made, keep)


def _tell(made: Compile, keep: Callable[[Compile], None]) -> None:
    count("failures" if made.error else "compiles")
    more = {"error": made.error} if made.error else {"cached": made.cached}
    dims = ",".join(f"{n}={size}" for n, size in made.dims.items())
    say("compile", INFO, "failed" if made.error else "compiled", kernel=made.kernel,
        target=made.target, dims=dims, ms=made.seconds * 1e3, **more)  # fmt: skip
    keep(made)
    for listener in tuple(_LISTENERS):
        listener(made)


@contextmanager
def listening(listener: Callable[[Compile], None]) -> Generator[None]:
    """Every compile of the process that ends meanwhile goes to the listener too."""
    _LISTENERS.append(listener)
    try:
        yield
    finally:
        _LISTENERS.remove(listener)
