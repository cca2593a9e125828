"""The worker: one trial at a time of one device, until it is told to end."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilec.fleet.heart import Heart
from tilec.fleet.protocol import DRAINED, Failed, Lease, Measured, Service, refusal
from tilec.tune.client.wire import Refused
from tilec.tune.records import Failure

Measure = Callable[[Lease, threading.Event], Measured | Failed]
Say = Callable[[str], None]
UNWANTED = (401, 403)  # the status of a worker that may not be one
PAUSE_S = 1.0  # after the service had too much to do


@dataclass(frozen=True)
class Manners:
    """How a worker behaves: `wait_s` of a poll, `grace_s` to finish a trial when it is told to end,
    `trials` after which it ends by itself, a file that gets a line of JSON for each trial."""

    wait_s: float = 5.0
    grace_s: float = 60.0
    trials: float = math.inf
    journal: Path | None = None


class Worker:
    """Leases, measures, hands in. `measure` must return soon after its event is set."""

    def __init__(self, service: Service, measure: Measure, manners: Manners, say: Say) -> None:
        self._service, self._measure, self._manners, self._say = service, measure, manners, say
        self._draining = threading.Event()
        self._stop = threading.Event()  # of the trial under way
        self._hurried = False

    def run(self) -> int:
        """How many trials were done. Ends when drained; raises TileError where the service does not
        want this worker, Unreachable where it is away for longer than the patience for it."""
        done = 0
        try:
            self._service.register()
            while not self._draining.is_set() and done < self._manners.trials:
                lease = self._leased()
                if lease is not None:
                    self._work(lease)
                    done += 1
        except Refused as e:
            raise refusal(self._service.address, e) from None
        return done

    def drain(self) -> None:
        """Finish the trial under way, within the grace, and take no other. Twice: give it up."""
        if self._draining.is_set():
            self._give_up()
            return
        self._draining.set()
        if math.isfinite(self._manners.grace_s):
            timer = threading.Timer(self._manners.grace_s, self._give_up)
            timer.daemon = True
            timer.start()

    def on_signals(self) -> None:
        """Drain on SIGTERM and SIGINT. For the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: object) -> None:
        del number, frame
        self.drain()

    def _give_up(self) -> None:
        self._hurried = True
        self._stop.set()

    def _leased(self) -> Lease | None:
        """The next trial. A service that wants no more of this worker drains it."""
        try:
            return self._service.lease(self._manners.wait_s)
        except Refused as e:
            if e.status == DRAINED:
                self._say("drained by the service")
                self._draining.set()
                return None
            if not e.passing:
                raise
            self._draining.wait(PAUSE_S)
            return None

    def _work(self, lease: Lease) -> None:
        self._stop = threading.Event()
        if self._hurried:
            self._stop.set()
        start = time.monotonic()
        with Heart(self._service, lease, self._stop) as heart:
            found = self._found(lease, start)
        if heart.gone:
            self._note(lease, "given up", heart.gone)
            return
        try:
            said, counts = self._handed_in(lease, found)
        except Refused as e:
            if e.status in UNWANTED:
                raise
            why = Failed(Failure.INFRA, f"the service did not take the result: {e}")
            said, counts = self._handed_in(lease, why)
        self._note(lease, said if counts else "late", "" if counts else said)

    def _handed_in(self, lease: Lease, found: Measured | Failed) -> tuple[str, bool]:
        """What was said of a trial, and whether it counts."""
        match found:
            case Measured():
                return "done", self._service.complete(lease, found)
            case Failed():
                return found.failure.value, self._service.fail(lease, found)

    def _found(self, lease: Lease, start: float) -> Measured | Failed:
        """What measuring gives. What goes wrong here says nothing about the config."""
        try:
            found = self._measure(lease, self._stop)
        except Exception:
            return Failed(Failure.INFRA, traceback.format_exc(), time.monotonic() - start)
        if self._stop.is_set() and self._hurried:
            return Failed(Failure.INFRA, "the worker was told to end", time.monotonic() - start)
        return found

    def _note(self, lease: Lease, said: str, why: str) -> None:
        self._say(f"{lease.study} {lease.purpose} {lease.number}: {said}" + (why and f" ({why})"))
        if self._manners.journal is not None:
            line: dict[str, Any] = {"worker": self._service.who.worker, "lease": lease.id,
                                    "token": lease.token, "study": lease.study,
                                    "trial": lease.trial, "said": said, "why": why}  # fmt: skip
            _append(self._manners.journal, json.dumps(line) + "\n")


def _append(path: Path, line: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)
