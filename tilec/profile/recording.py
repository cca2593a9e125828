"""The recording of calls: while a profile is on, something that takes times stands where calls of
kernels go; before and after that, calls go straight to the launcher as ever."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from tilec import compile as compiler
from tilec.ir.errors import TileError
from tilec.observe import Compile, listening, watching
from tilec.profile.calls import Call, Kinds, kinds
from tilec.runtime.events import Event, EventClock

WAITING = 512  # calls on GPUs whose events are not read yet


class Recording:
    """The calls and the compiles that were seen. Times are in seconds, those of day
    time.perf_counter's."""

    def __init__(self) -> None:
        self.calls: list[Call] = []  # in the order of their starts, once it is over
        self.compiles: list[Compile] = []
        self.start = self.end = time.perf_counter()
        self._kernels: weakref.WeakSet[Any] = weakref.WeakSet()
        self._gpus = _Gpus()
        self._local = threading.local()
        self.over = False

    @contextmanager
    def on(self) -> Generator[None]:
        """Record what happens inside."""
        self.start = time.perf_counter()
        with ExitStack() as stack:
            stack.callback(self._finish)
            stack.enter_context(listening(self.compiles.append))
            stack.callback(self._detach)
            stack.enter_context(watching(self._attach))
            yield

    def call(self, timed: Timed, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """A call of a kernel, recorded."""
        kernel, tensors = timed.kernel, kinds(timed.names, arguments, keywords)
        clock = self._gpus.clock(kernel, tensors)
        depth = getattr(self._local, "depth", 0)
        self._local.depth = depth + 1
        first = clock.mark() if clock else None
        failed, start = True, time.perf_counter()
        try:
            result = timed.target(*arguments, **keywords)
            failed = False
            return result
        finally:
            seconds = time.perf_counter() - start
            self._local.depth = depth
            call = Call(kernel, tensors, start, seconds, threading.get_ident(), depth, failed,
                        clock.device if clock else "")  # fmt: skip
            self._keep(call, first, clock.mark() if clock and first else None)

    def _keep(self, call: Call, first: Event | None, last: Event | None) -> None:
        if first is None or last is None:
            self.calls.append(call)
            return
        self._gpus.waiting.append((call, first, last))
        if len(self._gpus.waiting) >= WAITING:
            self._read()

    def _finish(self) -> None:
        self.end = time.perf_counter()
        self._read()
        self.calls = sorted(self.calls, key=lambda c: c.start)

    def _read(self) -> None:
        self.calls.extend(self._gpus.read())  # at once: other threads add theirs

    def _attach(self, kernel: Any) -> None:
        if not isinstance(kernel.__call__, Timed):  # made just as the profile began: seen twice
            self._kernels.add(kernel)
            kernel.__call__ = Timed(self, kernel)

    def _detach(self) -> None:
        self.over = True
        for kernel in list(self._kernels):
            if isinstance(kernel.__call__, Timed):
                kernel.__call__ = kernel.__call__.target
        self._kernels.clear()


class Timed:
    """What a kernel's `__call__` is while a profile is on; `target` is what it was before, or what
    the kernel itself made it meanwhile: its first call looks for the launcher."""

    __slots__ = ("_recording", "kernel", "names", "target")

    def __init__(self, recording: Recording, kernel: Any) -> None:
        self._recording, self.kernel = recording, kernel
        self.names = [p.name for p in kernel.definition.signature.params]
        self.target: Callable[..., Any] = kernel.__call__

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        try:
            return self._recording.call(self, arguments, keywords)
        finally:
            now = self.kernel.__call__
            if not self._recording.over and now is not self and now is not self.target:
                self.target, self.kernel.__call__ = now, self


@dataclass(frozen=True)
class _Clock:
    """The events of a GPU (None: its driver has none), the device as torch says it, and an event
    that was marked at a known time."""

    device: str
    events: EventClock | None
    base: Event | None
    at: float

    def mark(self) -> Event | None:
        """An event now; None where the driver makes none."""
        if self.events is not None:
            with suppress(TileError):
                return self.events.mark()
        return None


class _Gpus:
    """The clocks of GPUs, and the calls whose events are to be read."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Call, Event, Event]] = []
        self._clocks: dict[tuple[int, str], _Clock] = {}

    def clock(self, kernel: Any, tensors: Kinds) -> _Clock | None:
        """The clock of the GPU that a call runs on, None where it runs on the processor."""
        kind = "cuda" if kernel.gpu is None else kernel.gpu.driver.kind
        device = next((t.device for _, t in tensors if t.device.partition(":")[0] == kind), None)
        if device is None:
            return None
        gpu = compiler.gpu() if kernel.gpu is None else kernel.gpu
        number = int(device.partition(":")[2] or 0)
        key = id(gpu.driver), f"{kind}:{number}"
        if key not in self._clocks:
            self._clocks[key] = _begun(f"{kind}:{number}", gpu.clock(number))
        return self._clocks[key]

    def read(self) -> list[Call]:
        """The calls that waited, with their times on the GPU; waits for the work."""
        waiting, self.waiting = self.waiting, []
        return [self._timed(*each) for each in waiting]

    def _timed(self, call: Call, first: Event, last: Event) -> Call:
        clock = next(c for (_, device), c in self._clocks.items() if device == call.device)
        events, base = clock.events, clock.base
        if events is None or base is None:
            return call
        try:
            seconds, start = events.seconds(first, last), events.seconds(base, first)
            events.drop(first)
            events.drop(last)
        except TileError:  # the GPU is lost, or its stream was captured: the host's time is left
            return call
        return replace(call, gpu_seconds=seconds, gpu_start=clock.at + start)


def _begun(device: str, events: EventClock | None) -> _Clock:
    at = time.perf_counter()
    if events is not None:
        with suppress(TileError):
            return _Clock(device, events, events.mark(), at)
    return _Clock(device, None, None, at)
