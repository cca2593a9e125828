"""The heartbeat of a trial under way: it keeps the lease, and learns that it is gone."""

from __future__ import annotations

import threading
from types import TracebackType

from tilec.fleet.protocol import Lease, Service
from tilec.ir.errors import TileError
from tilec.tune.client.wire import Refused, Unreachable

AGAIN_S = 0.5  # after a beat that nobody answered
BEATS = 3  # in the time of a lease: two may be missed


class Heart:
    """Beats in a thread while a trial is measured. `stop` is set where measuring has no use."""

    def __init__(self, service: Service, lease: Lease, stop: threading.Event) -> None:
        self.gone = ""  # why the lease is no longer ours; empty while it is
        self._service, self._lease, self._stop = service.twin(), lease, stop
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beats, name="tilec-heart", daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._end.set()

    def _beats(self) -> None:
        """A service that does not answer is no reason to stop: its clock may stand still, and it
        decides by the token whether the result counts."""
        pause = self._lease.deadline_s / BEATS
        while not self._end.wait(pause):
            try:
                seconds, cancelled = self._service.beat(self._lease)
            except (Unreachable, TileError):
                pause = min(AGAIN_S, pause)
                continue
            except Refused as e:
                if e.passing:
                    pause = min(AGAIN_S, pause)
                    continue
                self._lose("cancelled" if e.code == "cancelled" else str(e))
                return
            if cancelled:
                self._lose("cancelled")
                return
            pause = seconds / BEATS

    def _lose(self, why: str) -> None:
        self.gone = why
        self._stop.set()
