"""Of all processes that miss an entry at once, one makes it and the others wait: locks in a folder
of this machine's memory, never in the cache, which may be on a network."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir

from tilec.runtime.cache.trust import private

SECONDS = 30.0  # then the one that makes it is taken for stopped, and work is done twice
_SHORTEST, _LONGEST = 0.001, 0.02  # between two looks
_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0)

# A lock belongs to an open file, which a forked process shares: it would hold it for as long as it
# lives. This is of the process, as fork is.
_held: set[int] = set()


def _forget() -> None:
    for handle in _held:
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def lock_folder(environment: Mapping[str, str]) -> Path | None:
    """A private folder for locks on this machine, or None: $XDG_RUNTIME_DIR/tilec, else one in
    shared memory, else one among temporary files."""
    runtime = Path(environment.get("XDG_RUNTIME_DIR", ""))
    named = f"tilec-{os.geteuid()}"
    places = [Path("/dev/shm", named), Path(gettempdir(), named)]
    for place in [*([runtime / "tilec"] if runtime.is_absolute() else []), *places]:
        try:
            if place.parent.is_dir():
                return private(place)
        except OSError:
            continue
    return None


@contextmanager
def alone(path: Path | None, seconds: float) -> Generator[bool]:
    """Hold the lock that a file is. The value says whether it is held: not where it can't be had
    in so many seconds, or there can be none."""
    handle = _opened(path)
    held = handle is not None and _acquired(handle, seconds)
    try:
        yield held
    finally:
        if handle is not None and handle in _held:  # else this is a fork of the one that had it
            if held:
                fcntl.flock(handle, fcntl.LOCK_UN)  # a fork that came in between has it too
            _held.discard(handle)
            os.close(handle)


def _opened(path: Path | None) -> int | None:
    if path is None:
        return None
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(path, _OPEN, 0o600)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
    except OSError:
        ours = False
    if not ours:
        os.close(handle)
        return None
    _held.add(handle)
    return handle


def _acquired(handle: int, seconds: float) -> bool:
    end, pause = time.monotonic() + seconds, _SHORTEST
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST)
        except OSError:
            return False
        else:
            return True
