"""Studies at the service: submitted, watched, cancelled, deleted. Every failure is a TileError."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

from tilec.ir.errors import TileError
from tilec.tune.client.wire import Address, Refused, Unreachable, Wire

T = TypeVar("T")
ENDED = frozenset({"done", "cancelled", "failed"})
LONGEST_PAUSE_S = 1.0
PATIENCE_S = 60.0  # that a service may be away while it is started again


class Studies:
    """The studies of a service. A service that is away for less than `patience_s` is waited for."""

    def __init__(self, address: Address, patience_s: float = PATIENCE_S) -> None:
        self.address, self._patience_s = address, patience_s
        self._wire = Wire(address)

    def submit(self, request: Mapping[str, Any], key: str = "") -> dict[str, Any]:
        """A new study (the fields of `POST /v1/studies`), or the one made with the same `key`.

        Without a key every call makes a study, and no more than one whatever the network does.
        """
        key = key or os.urandom(16).hex()
        return self._asked("POST", "/v1/studies", dict(request), key)

    def study(self, name: str) -> dict[str, Any]:
        """A study by its id, with its job and its space."""
        return self._asked("GET", f"/v1/studies/{quote(name, safe='')}")

    def cancel(self, name: str) -> dict[str, Any]:
        """End a study: trials under way are given up, what is known stays."""
        return self._asked("POST", f"/v1/studies/{quote(name, safe='')}:cancel",
                           key=f"cancel-{name}")  # fmt: skip

    def delete(self, name: str) -> None:
        """Delete a study that has ended, for good; what it found stays published."""
        self._asked("DELETE", f"/v1/studies/{quote(name, safe='')}", key=os.urandom(16).hex())

    def delete_package(self, name: str) -> None:
        """Delete a package by its id, for good."""
        self._asked("DELETE", f"/v1/packages/{quote(name, safe='')}", key=os.urandom(16).hex())

    def trials(self, name: str) -> Iterator[dict[str, Any]]:
        """All trials of a study in order."""
        path, cursor = f"/v1/studies/{quote(name, safe='')}/trials", ""
        while True:
            page = self._asked("GET", path + (f"?cursor={quote(cursor)}" if cursor else ""))
            yield from page["trials"]
            cursor = page["cursor"] or ""
            if not cursor:
                return

    def watch(self, name: str, poll_s: float = 1.0) -> Iterator[dict[str, Any]]:
        """A study each time that it has changed, until it has ended.

        It is asked for every `poll_s` seconds: that works through a restart of the service.
        """
        last: dict[str, Any] = {}
        while last.get("state") not in ENDED:
            if last:
                time.sleep(poll_s)
            found = self.study(name)
            if found != last:
                yield found
            last = found

    def drain(self, worker: str) -> None:
        """Tell a worker to finish what it has and take nothing more."""
        path = f"/v1/workers/{quote(worker, safe='')}:drain"
        self._asked("POST", path, key=os.urandom(16).hex())

    def _asked(self, method: str, path: str, body: object = None, key: str = "") -> Any:
        try:
            return patiently(lambda: self._wire.ask(method, path, body, key=key),
                             self._patience_s)  # fmt: skip
        except Refused as e:
            raise TileError(f"{self.address.url}: {e}", hint=_HINTS.get(e.status, "")) from None
        except Unreachable as e:
            raise TileError(f"{self.address.url} does not answer: {e}",
                            hint="tilec serve starts a service") from None  # fmt: skip


_HINTS = {401: "TILEC_TOKEN or TILEC_TOKEN_FILE", 403: "the token has not the scope for this"}


def patiently(ask: Callable[[], T], seconds: float, first_s: float = 0.05) -> T:
    """What a request that is safe to repeat gives, tried again for so long with longer pauses."""
    end, pause = time.monotonic() + seconds, first_s
    while True:
        try:
            return ask()
        except (Unreachable, Refused) as e:
            passing = isinstance(e, Unreachable) or e.passing
            if not passing or time.monotonic() + pause > end:
                raise
        time.sleep(pause * random.uniform(0.5, 1.0))  # so that not all come back at once
        pause = min(2 * pause, LONGEST_PAUSE_S)
