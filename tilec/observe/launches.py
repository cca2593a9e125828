"""Every kernel of the process that can be called, so that a profile finds them.

It is told of a kernel when that is made, and of no call: calls go straight to the launcher.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from tilec.ir.errors import TileError

_ALL: weakref.WeakSet[Any] = weakref.WeakSet()
_WATCHERS: list[Callable[[Any], None]] = []
_LOCK = threading.Lock()

if hasattr(os, "register_at_fork"):  # a child must not find the lock held by a thread it has not
    os.register_at_fork(
        before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
    )


def enrolled(kernel: Any) -> None:
    """A kernel or program was made: its attribute `__call__` is what a call of it calls."""
    with _LOCK:
        _ALL.add(kernel)
        watchers = tuple(_WATCHERS)
    for watcher in watchers:
        watcher(kernel)


def _show_all(watcher: Callable[[Any], None]) -> None:
    with _LOCK:
        found = list(_ALL)
    for kernel in found:
        watcher(kernel)


@contextmanager
def watching(watcher: Callable[[Any], None]) -> Generator[None]:
    """The watcher gets every kernel that there is, and each that is made meanwhile.

    Raises TileError where there is a watcher already: two could not both restore what they found.
    """
    with _LOCK:
        if _WATCHERS:
            raise TileError("a profile is under way already", hint="one at a time")
        _WATCHERS.append(watcher)
    try:
        _show_all(watcher)
        yield
    finally:
        with _LOCK:
            _WATCHERS.remove(watcher)
