"""Bounds: how much a cache may hold, and what goes when it is more.

A file that grows by a byte for each block that is kept, the ledger, tells every process how much
all of them kept since someone last looked at all entries: a put looks at none. Losing it costs a
look. Entries go in the order of their files' times, which is that of their last use.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tilec.ir.errors import TileError
from tilec.runtime.cache.disk import FRESH, abandoned, publish

_BLOCK = 4096
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LEFT, _FULL, _MOST = 3 / 4, 7 / 8, 15 / 16  # of the bound: what a sweep leaves, when it begins
_WEEK = 7 * 24 * FRESH
_KEPT_DAMAGE = 64  # files in quarantine
_NAME = re.compile(r"[0-9a-f]{64}\.(tlc|neg)")
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True)
class Bounds:
    """The most that a cache holds. An entry is charged for its blocks of 4 KiB, and for no less
    than its share of `bytes` if there were `entries` of them, so that one sum keeps both."""

    bytes: int = 2 << 30
    entries: int = 1 << 15

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Bounds:
        """With $TILEC_CACHE_BYTES, such as 500M. Raises TileError for what is no size."""
        text = environment.get("TILEC_CACHE_BYTES", "")
        if not text:
            return cls()
        found = re.fullmatch(r"([0-9]{1,12})([KMGT]?)", text.upper())
        if found is None or not int(found[1]):
            raise TileError(f"TILEC_CACHE_BYTES is {text!r}, expected a size such as 500M or 2G")
        return cls(int(found[1]) * _UNITS[found[2]])

    @property
    def blocks(self) -> int:
        """The bound, in blocks."""
        return max(self.bytes // _BLOCK, 1)

    def charge(self, size: int) -> int:
        """What a file of so many bytes is charged, in blocks."""
        return max(-(-size // _BLOCK), self.blocks // self.entries, 1)


@dataclass(frozen=True)
class File:
    """A file of an entry, and when it was last used (seconds of the epoch)."""

    path: Path
    size: int
    used: float

    @property
    def failure(self) -> bool:
        """Whether it is of a negative entry."""
        return self.path.suffix == ".neg"


def reserve(root: Path, blocks: int) -> int:
    """Note that blocks are being kept; how many there are now by the ledger. Raises OSError."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(root / "ledger", flags)
    try:
        os.write(handle, b"x" * blocks)
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def full(kept: int, bounds: Bounds) -> bool:
    """Whether it is time for a sweep."""
    return kept > _FULL * bounds.blocks


def beyond(kept: int, bounds: Bounds) -> bool:
    """Whether nothing more is kept until there was a sweep. What is being written while another
    process looks at all entries may be in no ledger: there is room for that."""
    return kept > _MOST * bounds.blocks


def files(root: Path) -> Iterator[File]:
    """The files of all entries. Links are never followed; whatever else is there is left out."""
    for folder in _folders(root):
        for item in _listed(folder):
            if not _NAME.fullmatch(item.name):
                continue
            with suppress(OSError):
                status = item.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    yield File(Path(item.path), status.st_size, status.st_mtime)


def sweep(root: Path, bounds: Bounds, more: int = 0, *, locks: bool = True) -> list[Path]:
    """Bring what is kept, and so many blocks more, below the bound, and the ledger up to date, and
    tidy up; what was evicted.

    An entry that is being read stays. Raises OSError where the ledger can't be written.
    """
    ledger = root / "ledger"
    before = _noted(ledger)
    found = sorted(files(root), key=lambda f: f.used)
    kept = sum(bounds.charge(f.size) for f in found)
    evicted: list[Path] = []
    if full(kept + more, bounds):
        for file in found:
            if kept + more <= _LEFT * bounds.blocks:
                break
            if _evicted(file.path, locks):
                kept -= bounds.charge(file.size)
                evicted.append(file.path)
    tidy(root)
    kept += max(_noted(ledger) - before, 0)  # what others keep meanwhile
    if ledger.is_dir():
        os.rename(ledger, root / "quarantine" / f"ledger.{time.time_ns()}")
    publish(ledger, b"x" * min(kept, bounds.blocks), root / "tmp")
    return evicted


def _noted(ledger: Path) -> int:
    try:
        return ledger.lstat().st_size
    except OSError:
        return 0


def tidy(root: Path, quarantine: float = _WEEK) -> int:
    """Remove what processes that have ended left behind, and old damage; how many files."""
    now, gone = time.time(), 0
    for item in _listed(root / "tmp"):
        with suppress(OSError):
            if abandoned(item.name, now - item.stat(follow_symlinks=False).st_mtime):
                os.unlink(item.path)
                gone += 1
    return gone + _tidy_quarantine(root / "quarantine", now, quarantine)


def _tidy_quarantine(folder: Path, now: float, most: float) -> int:
    def changed(item: os.DirEntry[str]) -> float:
        with suppress(OSError):
            return item.stat(follow_symlinks=False).st_ctime
        return 0.0

    items = sorted(_listed(folder), key=changed, reverse=True)
    gone = [x for i, x in enumerate(items) if i >= _KEPT_DAMAGE or now - changed(x) >= most]
    for item in gone:
        with suppress(OSError):
            if item.is_dir(follow_symlinks=False):
                shutil.rmtree(item.path, ignore_errors=True)
            else:
                os.unlink(item.path)
    return len(gone)


def _evicted(path: Path, locks: bool) -> bool:
    try:
        handle = os.open(path, _OPEN)
    except FileNotFoundError:
        return True  # another process was faster
    except OSError:
        return False
    try:
        if locks:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who reads it shares the lock
        os.unlink(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _folders(root: Path) -> Iterator[Path]:
    """The folders of entries: <environment>/o/<two digits>, and f for failures."""
    for environment in _listed(root):
        if not re.fullmatch(r"[0-9a-f]{16}", environment.name) or environment.is_symlink():
            continue
        for kind in ("o", "f"):
            yield from (Path(x.path) for x in _listed(Path(environment.path, kind)))


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a directory that is no link; nothing where there is none."""
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return []
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []
