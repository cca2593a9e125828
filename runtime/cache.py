"""A disk cache of compiled artifacts, addressed by the content that they were made from.

One file per entry: magic, lengths, key, header (JSON), payload, sha256 of all before. A file that
is not exactly what was written is a miss and is removed, whatever happened to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

_MAGIC = b"tilec\x00e\x01"  # the last byte is the version of the file's layout
_FRONT = struct.Struct("<8sIQ32s")  # magic, header bytes, payload bytes, key
_DIGEST_BYTES = 32
_LAYOUT = "v1"
_LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Entry:
    """What the cache stores: a payload, and what its reader must know about it."""

    payload: bytes
    header: Mapping[str, Any] = field(default_factory=dict[str, Any])


def cache_key(**parts: Any) -> str:
    """The name of an artifact: sha256 over all that decides its content, in hexadecimal.

    Parts are JSON values (tuples count as lists). Raises TypeError or ValueError on any other.
    """
    return hashlib.sha256(_canonical(parts)).hexdigest()


def default_directory(environment: Mapping[str, str]) -> Path:
    """Where the cache is: $TILEC_CACHE_DIR, else tilec in the XDG cache directory."""
    chosen = environment.get("TILEC_CACHE_DIR", "")
    if chosen:
        return Path(chosen)
    # The XDG rules say that a relative path is to be ignored.
    xdg = Path(environment.get("XDG_CACHE_HOME", ""))
    base = xdg if xdg.is_absolute() else Path(environment.get("HOME", "~")).expanduser() / ".cache"
    return base / "tilec"


class Cache:
    """Entries in a directory that only this user can write; without one, a cache of nothing.

    Trouble with the disk is never an error: it is a miss, or an entry that is not kept, and one
    RuntimeWarning.
    """

    def __init__(self, directory: Path | None, *, lock_seconds: float = _LOCK_SECONDS) -> None:
        self._lock_seconds = lock_seconds
        self._root: Path | None = None
        if directory is not None:
            try:
                self._root = _private_directory(directory)
            except OSError as error:
                self._complain(f"no cache in {directory}: {error}")

    @property
    def root(self) -> Path | None:
        """Where entries are kept, or None when they are not."""
        return self._root

    def path(self, key: str) -> Path | None:
        """The file of an entry, which need not exist."""
        return None if self._root is None else self._root / key[:2] / f"{key}.tlc"

    def get(self, key: str) -> Entry | None:
        """The entry, verified; None when it is missing or damaged, then also removed."""
        path = self.path(key)
        if path is None:
            return None
        try:
            found = _decode(key, _read(path))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            with suppress(OSError):
                path.unlink()
            return None
        return found

    def put(self, key: str, entry: Entry) -> bool:
        """Publish an entry at once and whole; returns whether it was kept."""
        path = self.path(key)
        if path is None:
            return False
        try:
            _publish(path, _encode(key, entry))
        except OSError as error:
            self._complain(f"can't keep a compiled kernel in {path.parent}: {error}")
            return False
        return True

    def get_or_make(self, key: str, make: Callable[[], Entry]) -> Entry:
        """The entry, made if missing. Of all processes that miss it at once, one makes it; the
        others wait for that one, but not forever."""
        found = self.get(key)
        if found is not None:
            return found
        if self._root is None:
            return make()
        lock = FileLock(self._root / "locks" / key[:3], timeout=self._lock_seconds)
        try:
            lock.acquire()
        except (Timeout, OSError):
            # The holder hangs or the disk can't lock: work twice rather than not at all.
            return self._make(key, make)
        try:
            return self.get(key) or self._make(key, make)
        finally:
            lock.release()

    def _make(self, key: str, make: Callable[[], Entry]) -> Entry:
        entry = make()
        self.put(key, entry)
        return entry

    def _complain(self, message: str) -> None:
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def _encode(key: str, entry: Entry) -> bytes:
    header = _canonical(dict(entry.header))
    front = _FRONT.pack(_MAGIC, len(header), len(entry.payload), bytes.fromhex(key))
    body = front + header + entry.payload
    return body + hashlib.sha256(body).digest()


def _decode(key: str, data: bytes) -> Entry:
    """Raises ValueError when `data` is not exactly an entry of this key."""
    if len(data) < _FRONT.size + _DIGEST_BYTES:
        raise ValueError("too short")
    magic, header_bytes, payload_bytes, stored_key = _FRONT.unpack_from(data)
    middle = _FRONT.size + header_bytes
    end = middle + payload_bytes
    if magic != _MAGIC or stored_key.hex() != key or end + _DIGEST_BYTES != len(data):
        raise ValueError("another layout, key or length")
    view = memoryview(data)
    if hashlib.sha256(view[:end]).digest() != data[end:]:
        raise ValueError("wrong checksum")
    return Entry(data[middle:end], json.loads(data[_FRONT.size : middle]))


def _read(path: Path) -> bytes:
    """The bytes of a regular file of ours. Raises OSError or ValueError on anything else."""
    # Not blocking: the name may be that of a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(handle, "rb", buffering=0) as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise ValueError("not a file of this user")
        return file.read()


def _publish(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:
        with suppress(OSError):
            os.unlink(name)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _private_directory(base: Path) -> Path:
    """The directory of entries under `base`, created if missing.

    Raises PermissionError when anyone else could have put an entry there: entries are code.
    """
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    root = base.resolve() / _LAYOUT
    for part in (root, root / "locks"):
        part.mkdir(mode=0o700, exist_ok=True)
    for part in (base.resolve(), root, root / "locks"):
        status = part.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), 0):
            raise PermissionError(f"{part} is not a directory of this user")
        if status.st_mode & 0o022:
            raise PermissionError(f"{part} is writable by other users")
    return root
