"""Room for what goes through a program by recursion: some calls deep for each step of a chain."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock

DEPTH = 10_000  # calls inside of each other; as many through C fit a stack of 8 MB


class _Limit:
    """Python's limit while some thread needs more, and what it was before."""

    def __init__(self) -> None:
        self.lock, self.users, self.before = Lock(), 0, 0

    def more(self, by: int) -> None:
        with self.lock:
            if not self.users:
                self.before = sys.getrecursionlimit()
            self.users += by
            sys.setrecursionlimit(max(self.before, DEPTH) if self.users else self.before)


_LIMIT = _Limit()


@contextmanager
def deep() -> Generator[None]:
    """Calls may be DEPTH deep inside; afterwards as deep as before. Also a decorator."""
    _LIMIT.more(1)
    try:
        yield
    finally:
        _LIMIT.more(-1)
