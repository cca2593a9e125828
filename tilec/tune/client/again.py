"""What a service did not say is asked for again, in a thread, when its breaker lets through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LEAST_S = 1.0  # between two tries


class Again:
    """Questions that wait for a service. `pause` is how many seconds it must not be asked for."""

    def __init__(self, pause: Callable[[], float], least_s: float = LEAST_S) -> None:
        self._pause, self._least_s = pause, least_s
        self._open: list[Callable[[], bool]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, ask: Callable[[], bool]) -> None:
        """Ask until that says that it was answered. It must not raise."""
        with self._lock:
            self._open.append(ask)
            if self._thread is None or not self._thread.is_alive():  # a fork has no threads
                self._thread = threading.Thread(target=self._run, daemon=True, name="tilec-again")
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(max(self._pause(), self._least_s))
            with self._lock:
                waiting = list(self._open)
            for ask in waiting:
                if not ask():
                    break  # it is still away: the others need not find that out
                with self._lock:
                    self._open.remove(ask)
            with self._lock:
                if not self._open:
                    self._thread = None
                    return
