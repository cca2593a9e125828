"""Measures kernels by `tilec.tune.measure`, in a process that is kept for the trials of a job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tilec.fleet.protocol import Failed, Lease, Measured
from tilec.ir.errors import TileError
from tilec.tune.config import Config
from tilec.tune.job import Job, Policy
from tilec.tune.measure import Measurer
from tilec.tune.records import Failure, Trial

LOOK_S = 0.1
Make = Callable[[Job, Policy, Config], Measurer]


class KernelDevice:
    """Measures the trials of jobs, one after the other. A new job takes the place of the last."""

    def __init__(self, make: Make = Measurer) -> None:
        self._make = make
        self._for: tuple[object, ...] = ()
        self._measurer: Measurer | None = None

    def __call__(self, lease: Lease, stop: threading.Event) -> Measured | Failed:
        start = time.monotonic()
        over = threading.Event()
        try:
            measurer = self._opened(lease)
            with _limited(measurer, lease.timeout_s, stop, over):
                trials = _trials(measurer, lease)
        except TileError as e:
            self.close()
            return Failed(Failure.COMPILE_ERROR, str(e), time.monotonic() - start)
        took = time.monotonic() - start
        if over.is_set():
            return Failed(Failure.RUN_TIMEOUT, f"no result within {lease.timeout_s:.0f} s", took)
        return _told(trials, took)

    def close(self) -> None:
        """End the process, if there is one."""
        if self._measurer is not None:
            self._measurer.close()
            self._measurer, self._for = None, ()

    def _opened(self, lease: Lease) -> Measurer:
        job, policy = Job.from_json(dict(lease.job)), Policy.from_json(dict(lease.policy))
        default = lease.default or lease.configs[0]
        wanted = (job, policy, default)
        if self._measurer is None or self._for != wanted:
            self.close()
            self._measurer, self._for = self._make(job, policy, default), wanted
        return self._measurer


def _trials(measurer: Measurer, lease: Lease) -> list[Trial]:
    if lease.purpose == "measure":
        return [measurer.trial(lease.configs[0])]
    return measurer.confirm(lease.configs, lease.timeout_s / 2)


def _told(trials: list[Trial], cost: float) -> Measured | Failed:
    """The outcome of a lease: times, or the first failure where there are none at all."""
    if any(t.samples for t in trials):
        compiled = sum(t.compiled for t in trials)
        return Measured(tuple(t.samples for t in trials), cost, compiled)
    first = trials[0]
    return Failed(first.failure or Failure.INFRA, first.note, cost)


@contextmanager
def _limited(
    measurer: Measurer, seconds: float, stop: threading.Event, over: threading.Event
) -> Generator[None]:
    """Ends the measuring process when the event is set, or (`over`) when the time is."""
    ended, until = threading.Event(), time.monotonic() + seconds

    def watch() -> None:
        while not ended.wait(LOOK_S):
            if time.monotonic() > until:
                over.set()
            if stop.is_set() or over.is_set():
                measurer.close()  # and again: the next step of the trial starts another process

    watcher = threading.Thread(target=watch, name="tilec-limit", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
