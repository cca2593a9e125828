"""Files of the cache: read whole, published whole. Errors that pass are tried again."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

FRESH = 3600.0  # seconds: a file's time says when it was last used, to within this
# What a network file system says now and not a moment later.
_PASSING = frozenset((errno.ESTALE, errno.EBUSY, errno.EAGAIN, errno.EIO, errno.EINTR))
_TRIES = 3
_PAUSE = 0.002
# Of a name that is no file of bytes: a link, a socket, a device.
_NO_FILE = frozenset((errno.ELOOP, errno.ENXIO, errno.ENODEV))
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0)


class NoFile(ValueError):
    """What has the name of an entry is no file that only this user can write."""


@dataclass(frozen=True)
class Seen:
    """The bytes of a file, and which file that was."""

    data: bytes
    inode: tuple[int, int]


def tried(what: Callable[[], T]) -> T:
    """The result of a call, made again where an error may pass. Raises the last error."""
    for left in reversed(range(_TRIES)):
        try:
            return what()
        except OSError as e:
            if e.errno not in _PASSING or not left:
                raise
            time.sleep(_PAUSE)
    raise RuntimeError("not tried at all")


def read(path: Path, most: int, *, stamp: bool, locks: bool) -> Seen:
    """The bytes of a file of this user or root, of no more than `most` bytes.

    With `locks` it can't be evicted meanwhile; with `stamp` its time becomes that of its last use.
    Raises NoFile for a name of anything else, and OSError.
    """
    try:
        handle = os.open(path, _READ)  # O_NONBLOCK: the name may be that of a pipe
    except OSError as e:
        if e.errno in _NO_FILE:
            raise NoFile(str(e)) from None
        raise
    try:
        status = os.fstat(handle)
        _check(status, most)
        if locks:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        with open(handle, "rb", buffering=0, closefd=False) as file:
            data = file.read()
        if stamp and abs(time.time() - status.st_mtime) > FRESH:
            with suppress(OSError):
                os.utime(handle)
    finally:
        os.close(handle)
    return Seen(data, (status.st_dev, status.st_ino))


def _check(status: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NoFile("not a regular file")
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NoFile("a file that other users can write")
    if status.st_size > most:
        raise NoFile(f"{status.st_size} bytes, where {most} is the most that there may be")


def publish(path: Path, data: bytes, temporary: Path, mode: int = 0o600) -> None:
    """A file at once and whole, also if the machine stops. Raises OSError.

    Until then it has no name, so that a process that is killed leaves nothing; where the file
    system can't do that it is in the folder `temporary`, under a name that says whose it is.
    """
    folder(path.parent)
    place = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not _without_a_name(path.name, place, data, temporary, mode):
            _under_a_name(path, data, temporary, mode)
        os.fsync(place)
    finally:
        os.close(place)


def _without_a_name(name: str, place: int, data: bytes, temporary: Path, mode: int) -> bool:
    """False where the file system has no files without a name, or the name is taken."""
    try:
        handle = os.open(temporary, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, mode)
    except (AttributeError, OSError):
        return False
    with os.fdopen(handle, "wb", buffering=0):
        _write(handle, data)
        try:  # only with `dst_dir_fd` does Python call linkat, which follows the link in /proc
            os.link(f"/proc/self/fd/{handle}", name, dst_dir_fd=place, follow_symlinks=True)
        except OSError:
            return False
    return True


def _under_a_name(path: Path, data: bytes, temporary: Path, mode: int) -> None:
    handle, name = tempfile.mkstemp(dir=temporary, prefix=f"{owner()}-")
    try:
        with os.fdopen(handle, "wb", buffering=0):
            os.fchmod(handle, mode)
            _write(handle, data)
        tried(lambda: os.replace(name, path))
    except OSError:
        with suppress(OSError):
            os.unlink(name)
        raise


def _write(handle: int, data: bytes) -> None:
    """All of the bytes, on the disk."""
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
    os.fsync(handle)


def folder(path: Path) -> None:
    """A directory in one of ours, made if it is missing. Raises OSError for a name of anything
    else, also of a link to a directory."""
    with suppress(FileExistsError):
        tried(lambda: os.mkdir(path, 0o700))
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise NotADirectoryError(f"{path} is not a directory")


def owner() -> str:
    """This process as a word: on which machine since when, in which name space, its number."""
    return f"{_where()}-{os.getpid()}"


def abandoned(name: str, age: float) -> bool:
    """Whether the process that made a temporary file so many seconds ago has ended.

    Of a process elsewhere nothing is known: an hour without a change is taken for its end.
    """
    where, _, rest = name.partition("-")
    number = rest.partition("-")[0]
    if where != _where() or not number.isdecimal():
        return age > FRESH
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return age > 24 * FRESH  # another process may have the number by now


def _where() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return boot.replace("-", "")[:12] + os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return "unknown"
