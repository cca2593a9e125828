"""A profile in the Trace Event Format of Chrome, which Perfetto shows too.

Everything is a complete event (`X`) of this process: calls and stages of compiles on the thread
that they were on, and what is known of GPUs on a row for each. Times are in microseconds since the
profile began.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tilec.ir.errors import TileError
from tilec.observe import Compile
from tilec.profile.calls import Call
from tilec.profile.recording import Recording

_FIRST_GPU = 1 << 40  # above the numbers of threads that we give
Event = dict[str, Any]


def write(profile: Recording, path: Path) -> None:
    """Write the trace. Raises TileError where the file can't be written."""
    try:
        path.write_text(json.dumps(trace(profile)), encoding="utf-8")
    except OSError as e:
        raise TileError(f"{path} can't be written: {e}") from None


def trace(profile: Recording) -> dict[str, Any]:
    """The trace as a document."""
    return {"traceEvents": list(_Events(profile).all()), "displayTimeUnit": "ms",
            "otherData": {"seconds": profile.end - profile.start}}  # fmt: skip


class _Events:
    def __init__(self, profile: Recording) -> None:
        self._profile, self._pid = profile, os.getpid()
        threads = dict.fromkeys(x.thread for x in (*profile.calls, *profile.compiles))
        devices = dict.fromkeys(c.device for c in profile.calls if c.gpu_seconds is not None)
        self._threads = {thread: i for i, thread in enumerate(threads, 1)}
        self._devices = {device: _FIRST_GPU + i for i, device in enumerate(devices)}

    def all(self) -> Iterator[Event]:
        """Names of rows first, then events in the order of their starts."""
        yield self._named("process_name", 0, "tilec")
        for number in self._threads.values():
            yield self._named("thread_name", number, f"thread {number}")
        for device, number in self._devices.items():
            yield self._named("thread_name", number, f"GPU {device}")
        found = [*(e for c in self._profile.calls for e in self._call(c)),
                 *(e for c in self._profile.compiles for e in self._compile(c))]  # fmt: skip
        yield from sorted(found, key=lambda e: (e["ts"], -e["dur"]))

    def _named(self, what: str, number: int, name: str) -> Event:
        return {"ph": "M", "name": what, "pid": self._pid, "tid": number, "args": {"name": name}}

    def _event(self, name: str, kind: str, start: float, seconds: float, row: int,
               **about: object) -> Event:  # fmt: skip
        return {"ph": "X", "name": name, "cat": kind, "pid": self._pid, "tid": row, "args": about,
                "ts": (start - self._profile.start) * 1e6, "dur": seconds * 1e6}  # fmt: skip

    def _call(self, c: Call) -> Iterator[Event]:
        tensors = {n: f"{t.type}{list(t.shape)}" for n, t in c.tensors}
        kind = "launch" if c.device else "call"
        row = self._threads[c.thread]
        yield self._event(c.name, kind, c.start, c.seconds, row, tensors=tensors, failed=c.failed)
        if c.gpu_start is not None and c.gpu_seconds is not None:
            row = self._devices[c.device]
            yield self._event(c.name, "gpu", c.gpu_start, c.gpu_seconds, row, tensors=tensors)

    def _compile(self, c: Compile) -> Iterator[Event]:
        row = self._threads[c.thread]
        yield self._event(f"compile {c.kernel}", "compile", c.start, c.seconds, row,
                          target=c.target, dims=dict(c.dims), types=dict(c.types),
                          cached=c.cached, error=c.error)  # fmt: skip
        for s in c.stages:
            yield self._event(s.name, s.kind, s.start, s.seconds, row, kernel=c.kernel,
                              own_ms=s.own * 1e3, **dict(s.notes))  # fmt: skip
