"""The cache: look up, keep, and make once what is missing."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tilec.observe import DEBUG, INFO, WARNING, count, say
from tilec.runtime.cache import disk, sweep
from tilec.runtime.cache.entry import Damage, Entry, OtherVersion, Stored, decode, encode
from tilec.runtime.cache.flight import SECONDS, alone, lock_folder
from tilec.runtime.cache.key import SCHEMA, Key
from tilec.runtime.cache.refusal import Refusal, refusal, refused
from tilec.runtime.cache.sweep import Bounds
from tilec.runtime.cache.trust import private, trusted

LAYOUT = "v2"  # of the directory; others are left alone
PACKAGED = Path(__file__).parents[2].resolve() / "packaged"  # a layer that comes with tilec
_FOLDERS = ("tmp", "quarantine")


def entry_path(root: Path, key: Key) -> Path:
    """The file of an entry."""
    return root / key.environment / "o" / key.name[:2] / f"{key.name}.tlc"


def failure_path(root: Path, key: Key) -> Path:
    """The file of a negative entry."""
    return root / key.environment / "f" / key.name[:2] / f"{key.name}.neg"


class Cache:
    """Entries in a directory that only this user can write; without one, a cache of nothing.

    Entries are also found in `layers`, directories that are only read, and that only this user or
    root can write. `locks` is a folder of this machine, by default one in memory; on a `network`
    files are not locked. Trouble with the disk is never an error: it is a miss, or an entry that
    is not kept, and one RuntimeWarning in all. `counts` says how often what happened.
    """

    def __init__(
        self, directory: Path | None, *, layers: Sequence[Path] = (), bounds: Bounds | None = None,
        locks: Path | None = None, lock_seconds: float = SECONDS, network: bool = False,
    ) -> None:  # fmt: skip
        self.bounds = bounds or Bounds()
        self.counts: Counter[str] = Counter()
        self._lock_seconds, self._network = lock_seconds, network
        self._complained = False
        self._root: Path | None = None
        self._locks: Path | None = None
        self._below = [p for p in map(self._layer, layers) if p is not None]
        if directory is not None:
            try:
                self._root = _prepared(directory)
            except OSError as error:
                self._complain(f"no cache in {directory}: {error}")
        if self._root is not None:
            self._locks = locks or lock_folder({})

    @property
    def root(self) -> Path | None:
        """Where entries are kept, or None when they are not."""
        return self._root

    @property
    def layers(self) -> tuple[Path, ...]:
        """Where entries are looked for, in order: the first is the one that is written, if any."""
        return (*([] if self._root is None else [self._root]), *self._below)

    def path(self, key: Key) -> Path | None:
        """The file of an entry, which need not exist."""
        return None if self._root is None else entry_path(self._root, key)

    def has(self, made_by: Mapping[str, Any]) -> bool:
        """Whether something made by this may be there: a folder of it is, in some layer."""
        folder = Key(made_by, {}).environment
        return any((layer / folder).exists() for layer in self.layers)

    def get(self, key: Key) -> Entry | None:
        """The entry, verified; None when it is missing or damaged, then also out of the way."""
        found = self._find(key)
        if found is None:
            self.counts["miss"] += 1
            count("cache.misses")
            say("cache", DEBUG, "miss", key=key.name, kernel=key.about.get("kernel", ""))
        return found

    def put(self, key: Key, entry: Entry) -> bool:
        """Publish an entry at once and whole; returns whether it was kept."""
        return self._root is not None and self._put(key, entry, entry_path(self._root, key))

    def get_or_make(self, key: Key, make: Callable[[], Entry]) -> Entry:
        """The entry, made if missing. Of all processes that miss it at once, one makes it; the
        others wait for that one, but not forever.

        A Refusal that `make` raises is remembered for a day, and raised again.
        """
        found = self.get(key)
        if found is not None:
            return found
        if self._root is None:
            return make()
        self._raise_known(key)
        with alone(self._lock(key.name), self._lock_seconds) as held:
            self.counts["alone" if held else "not alone"] += 1
            found = self._find(key)
            if found is not None:
                count("cache.waits")
                return found
            if not held and self._locks is not None:
                count("cache.timeouts")
                say("cache", WARNING, "wait given up", key=key.name, seconds=self._lock_seconds)
            self._raise_known(key)
            return self._make(key, make)

    def tidied(self, more: int = 0) -> list[Path]:
        """What a sweep evicts now, to keep so many blocks more. Raises OSError."""
        if self._root is None:
            return []
        return sweep.sweep(self._root, self.bounds, more, locks=not self._network)

    def _find(self, key: Key) -> Entry | None:
        kernel = key.about.get("kernel", "")
        for layer in self.layers:
            found = self._read(entry_path(layer, key), key.name, own=layer == self._root)
            if found is not None:
                self.counts["hit"] += 1
                name = self._named(layer)
                count(f"cache.hits.{name}")
                say("cache", DEBUG, "hit", layer=name, key=key.name, kernel=kernel)
                return found.entry
        return None

    def _named(self, layer: Path) -> str:
        """What counters call a layer."""
        if layer == self._root:
            return "user"
        return "packaged" if layer.parent == PACKAGED else "site"

    def _make(self, key: Key, make: Callable[[], Entry]) -> Entry:
        self.counts["made"] += 1
        count("cache.made")
        try:
            entry = make()
        except Refusal as error:
            if self._root is not None:
                self._put(key, refused(error, time.time()), failure_path(self._root, key))
            raise
        self.put(key, entry)
        return entry

    def _raise_known(self, key: Key) -> None:
        """Raises the Refusal that this key is known for, if any."""
        if self._root is None:
            return
        found = self._read(failure_path(self._root, key), key.name, own=True)
        known = None if found is None else refusal(found.entry, time.time())
        if known is not None:
            self.counts["refused"] += 1
            count("cache.refused")
            say("cache", INFO, "known failure", key=key.name, why=known.message)
            raise known

    def _read(self, path: Path, name: str, *, own: bool) -> Stored | None:
        look = partial(disk.read, path, self.bounds.bytes, stamp=own,
                       locks=own and not self._network)  # fmt: skip
        inode = None
        try:
            seen = disk.tried(look)
            inode = seen.inode
            return decode(seen.data, name)
        except (FileNotFoundError, NotADirectoryError, OtherVersion):
            return None
        except (disk.NoFile, Damage):
            self.counts["damaged"] += 1
            if own:
                self._set_aside(path, inode)
                count("cache.quarantined")
                say("cache", WARNING, "quarantined", file=path)
        except OSError as error:
            self.counts["unreadable"] += 1
            count("cache.unreadable")
            self._complain(f"can't read a compiled kernel: {error}")
        return None

    def _set_aside(self, path: Path, inode: tuple[int, int] | None) -> None:
        """Make way for a new entry, unless one is there already."""
        assert self._root is not None
        with suppress(OSError):
            status = path.lstat()
            if inode is not None and inode != (status.st_dev, status.st_ino):
                return
            aside = self._root / "quarantine" / f"{path.name}.{time.time_ns()}"
            try:
                os.rename(path, aside)
            except OSError:
                path.unlink()

    def _put(self, key: Key, entry: Entry, path: Path) -> bool:
        assert self._root is not None
        try:
            data = encode(key, entry)
            if not self._room(len(data)):
                self.counts["no room"] += 1
                count("cache.not_kept")
                return False
            self._folders(key, path)
            disk.publish(path, data, self._root / "tmp")
        except OSError as error:
            self.counts["not kept"] += 1
            count("cache.not_kept")
            self._complain(f"can't keep a compiled kernel in {path.parent}: {error}")
            return False
        self.counts["kept"] += 1
        count("cache.kept")
        return True

    def _room(self, size: int) -> bool:
        """Whether there is room for a file, made if need be. Raises OSError."""
        assert self._root is not None
        blocks = self.bounds.charge(size)
        if blocks > self.bounds.blocks // 2:
            return False
        kept = self._reserved(blocks)
        if kept is not None and not sweep.full(kept, self.bounds):
            return True
        with alone(self._lock("sweep"), 0) as held:
            if held or self._locks is None:
                evicted = len(self.tidied(blocks))
                self.counts["evicted"] += evicted
                count("cache.evicted", evicted)
                say("cache", INFO, "evicted", entries=evicted, folder=self._root)
                kept = sweep.reserve(self._root, blocks)
        return kept is None or not sweep.beyond(kept, self.bounds)

    def _reserved(self, blocks: int) -> int | None:
        assert self._root is not None
        try:
            return sweep.reserve(self._root, blocks)
        except OSError:  # no ledger, or no longer a file: a sweep makes one
            return None

    def _lock(self, what: str) -> Path | None:
        """The lock of a thing in this cache, one of 4096 files: two things may share one."""
        if self._locks is None:
            return None
        told = f"{self._root} {what}".encode("utf-8", "surrogateescape")
        return self._locks / hashlib.sha256(told).hexdigest()[:3]

    def _folders(self, key: Key, path: Path) -> None:
        """The directories of an entry, and the file that says what makes all entries there."""
        assert self._root is not None
        environment = self._root / key.environment
        for part in (environment, path.parent.parent, path.parent):
            disk.folder(part)
        manifest = environment / "manifest.json"
        if not os.path.lexists(manifest):
            said = {"schema": SCHEMA, "made_by": key.shown()["made_by"]}
            text = json.dumps(said, indent=1, sort_keys=True) + "\n"
            disk.publish(manifest, text.encode(), self._root / "tmp")

    def _layer(self, path: Path) -> Path | None:
        try:
            return trusted(path / LAYOUT)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain(f"{path} is not read: {error}")
            return None

    def _complain(self, message: str) -> None:
        say("cache", WARNING, "trouble", what=message)
        if not self._complained:
            self._complained = True
            warnings.warn(message, RuntimeWarning, stacklevel=4)


def _prepared(directory: Path) -> Path:
    """The directory of entries, with what belongs in it if it can be written. Raises OSError."""
    base = private(directory)
    root = base / LAYOUT
    try:
        for part in (root, *(root / name for name in _FOLDERS)):
            disk.folder(part)
        sweep.tidy(root)
    except OSError:
        if not os.path.isdir(root):
            raise
    return trusted(root)
