"""Tuned configs from the service on the way to a kernel's first call: quick, and never an error.

A lookup takes at most `TOTAL_S` whatever the service does. After a failure none is tried for
`OPEN_S`, and then one at a time (the circuit breaker of Nygard, Release It!).
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from tilec.ir.errors import TileError
from tilec.tune import strict
from tilec.tune.client.wire import Address, Refused, Unreachable, Wire
from tilec.tune.config import Config

CONNECT_S, TOTAL_S, OPEN_S = 0.05, 0.2, 30.0
MOST_BYTES = 4 << 20
BATCH = 256  # keys of a request


@dataclass(frozen=True)
class Found:
    """A tuned config of the service: not checked against any space yet."""

    key: str
    config: Config
    seconds: float
    provenance: Mapping[str, Any]


class Breaker:
    """Whether to try: closed after a success, open for some time after a failure."""

    def __init__(self, open_s: float = OPEN_S, now: Callable[[], float] = time.monotonic) -> None:
        self._open_s, self._now = open_s, now
        self._until: float | None = None
        self._lock = threading.Lock()

    def tries(self) -> bool:
        """Whether this caller may try. Of many that ask after the time, one may."""
        with self._lock:
            if self._until is None:
                return True
            if self._now() < self._until:
                return False
            self._until = self._now() + self._open_s
            return True

    def pause(self) -> float:
        """Seconds until a try is let through."""
        with self._lock:
            return 0.0 if self._until is None else max(self._until - self._now(), 0.0)

    def ended(self, well: bool) -> None:
        """How a try ended."""
        with self._lock:
            self._until = None if well else self._now() + self._open_s


@dataclass(eq=False)
class _Call:
    """A request under way in another thread."""

    keys: list[dict[str, Any]]
    done: threading.Event = field(default_factory=threading.Event)
    answer: Any = None
    failure: str = "timeout"


class Lookup:
    """Batches of keys to configs. Failures are in `failures` by kind, and never raised."""

    def __init__(self, address: Address, total_s: float = TOTAL_S, open_s: float = OPEN_S) -> None:
        self._address, self._total_s = address, total_s
        self.breaker = Breaker(open_s)
        self.failures: Counter[str] = Counter()
        self._busy = threading.Lock()  # held by the one thread that talks to the service
        self._wire = Wire(address, CONNECT_S, MOST_BYTES)
        self._process = os.getpid()

    def lookup(self, keys: Sequence[Mapping[str, Any]]) -> list[Found | None] | None:
        """What the service has for each key {kernel, device, toolchain, policy}; None instead of
        all where it did not say: it failed, has just failed, or another thread asks it.

        Takes at most 0.2 s, and none where the service has just failed.
        """
        self._after_fork()
        if not keys:
            return []
        if not self.breaker.tries():
            return None
        if len(keys) > BATCH:
            raise TileError(f"{len(keys)} keys are looked up at once, expected at most {BATCH}")
        call = _Call([dict(k) for k in keys])
        if not self._busy.acquire(blocking=False):
            return None  # another thread waits for the service: this one does not queue
        try:
            threading.Thread(
                target=self._talk, args=(call, self._wire), daemon=True, name="tilec-lookup"
            ).start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            self._busy.release()
            return self._failed("no thread")
        if not call.done.wait(self._total_s):
            self._wire.abort()
            self._wire = Wire(self._address, CONNECT_S, MOST_BYTES)
            return self._failed("timeout")
        if call.failure:
            return self._failed(call.failure)
        try:
            found = _configs(call.answer, len(keys))
        except TileError:
            return self._failed("malformed")
        self.breaker.ended(True)
        return found

    def _after_fork(self) -> None:
        """A child begins anew, with its own socket: the thread that held the lock is not in it."""
        if self._process != os.getpid():
            self._process, self._busy = os.getpid(), threading.Lock()
            self._wire = Wire(self._address, CONNECT_S, MOST_BYTES)

    def _failed(self, kind: str) -> None:
        self.failures[kind] += 1
        self.breaker.ended(False)

    def _talk(self, call: _Call, wire: Wire) -> None:
        busy, body, key = self._busy, {"keys": call.keys}, os.urandom(16).hex()
        late = 10 * self._total_s  # the clock is the caller's, who aborts this long before
        try:
            call.answer = wire.ask("POST", "/v1/configs:lookup", body, seconds=late, key=key)
            call.failure = ""
        except Refused as e:
            call.failure = f"HTTP {e.status}"
        except Unreachable as e:
            call.failure = "malformed" if "JSON" in str(e) else "unreachable"
        except Exception as e:  # a bug here must not end a user's program
            call.failure = type(e).__name__
        finally:
            busy.release()
            call.done.set()


def _configs(answer: object, count: int) -> list[Found | None]:
    """The configs of an answer. Raises TileError for what is no answer to `count` keys."""
    rows = strict.array(answer, "the answer")
    if len(rows) != count:
        raise TileError(f"{len(rows)} answers to {count} keys")
    return [None if r is None else _config(r) for r in rows]


def _config(row: object) -> Found:
    data = cast("dict[str, Any]", strict.typed(row, dict, "a config"))
    time_ms = strict.number(data.get("time_ms"), "time_ms")
    if time_ms <= 0:
        raise TileError(f"time_ms is {time_ms}")
    provenance = cast("dict[str, Any]", strict.typed(data.get("provenance"), dict, "provenance"))
    key = strict.typed(data.get("key"), str, "a key")
    return Found(key, Config.from_json(data.get("config")), time_ms / 1e3, provenance)
