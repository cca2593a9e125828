"""The device that a worker measures on: its fingerprint, and a lock so that no two share it."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tilec.fleet.recorded import TOOLCHAIN
from tilec.ir.errors import TileError
from tilec.runtime.cache.flight import lock_folder
from tilec.tune import job

FORM = re.compile(r"cpu|cuda(:\d{1,3})?|triton(:\d{1,3})?|recorded(:[A-Za-z0-9 ._-]{1,80})?")


@dataclass(frozen=True)
class Device:
    """`cpu`, `cuda:1`, `triton:1`, or `recorded:NAME`: no device, but recorded times of one."""

    kind: str
    place: str

    @staticmethod
    def parsed(text: str) -> Device:
        """A device of its text. Raises TileError."""
        if not FORM.fullmatch(text):
            raise TileError(f"{text!r} is no device", hint="cpu, cuda:0, triton:0, recorded:NAME")
        kind, _, place = text.partition(":")
        return Device(kind, place or ("recorded" if kind == "recorded" else "0"))

    @property
    def is_recorded(self) -> bool:
        return self.kind == "recorded"

    def fingerprint(self) -> dict[str, Any]:
        """What it is. Raises TileError where there is no such device."""
        if self.is_recorded:
            return {"kind": "cuda", "name": self.place, "sms": 1, "driver": "recorded"}
        return job.device(self.kind, int(self.place))

    def toolchain(self) -> str:
        """The digest of the compilers for it."""
        return TOOLCHAIN if self.is_recorded else job.toolchain(self.kind)

    def lock_name(self, worker: str, environment: Mapping[str, str]) -> str:
        """What at most one process has: the device, or for recorded times the worker's name."""
        if self.is_recorded:
            return f"worker-recorded-{worker}"
        if self.kind == "cpu":
            return "worker-cpu"
        visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
        place = int(self.place)
        seen = visible[place] if place < len(visible) and visible[place] else self.place
        return "worker-cuda-" + re.sub(r"[^A-Za-z0-9-]", "_", seen)


@contextmanager
def held(device: Device, worker: str, environment: Mapping[str, str]) -> Generator[None]:
    """Keep the device while this lasts; the system gives it back when this process dies.

    Raises TileError where another worker of this user on this machine has it.
    """
    folder = lock_folder(environment)
    if folder is None:
        raise TileError("there is no folder on this machine for the lock of a device",
                        hint="XDG_RUNTIME_DIR, or a writable /dev/shm")  # fmt: skip
    path = folder / device.lock_name(worker, environment)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        what = f"a worker called {worker}" if device.is_recorded else f"a worker on {device.kind}"
        raise TileError(f"{what} runs on this machine already",
                        hint="two would disturb each other's times") from None  # fmt: skip
    try:
        yield
    finally:
        os.close(handle)
