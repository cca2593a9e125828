"""Which directories are ours alone. Entries are code: who can write them can run it.

The rule is that of sshd's StrictModes, with symbolic links followed one by one: whoever could
change what a path leads to must be this user or root.
"""

from __future__ import annotations

import os
import stat
from functools import cache
from pathlib import Path

_LINKS = 40  # followed on the way, as Linux does


def trusted(path: Path) -> Path:
    """The directory that a path leads to, without links.

    Raises OSError (mostly PermissionError) where it is none, or others could have put it there or
    can write to it.
    """
    at, left, links = Path(path.anchor or "/"), list(path.absolute().parts[1:]), 0
    while left:
        step = at / left.pop(0)
        status = step.lstat()
        _check_owner(step, status)
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _LINKS:
                raise OSError(f"{path} has too many links on the way")
            target = Path(os.readlink(step))
            if target.is_absolute():
                at = Path(target.anchor)
            left = [*target.parts[target.is_absolute() :], *left]
        elif step.name == "..":
            at = at.parent
        else:
            at = _step(step, status, last=not left)
    return at


def _step(step: Path, status: os.stat_result, last: bool) -> Path:
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(f"{step} is not a directory")
    mode = status.st_mode
    # In a directory like /tmp, others can add names but not take ours away.
    sticky = mode & stat.S_ISVTX and not last
    # A group of one's own is the rule on many systems, with files that it can write.
    group = stat.S_IWGRP if last or status.st_gid not in (0, os.getegid()) else 0
    if mode & (stat.S_IWOTH | group) and not sticky:
        raise PermissionError(f"{step} is writable by other users")
    return step


def _check_owner(step: Path, status: os.stat_result) -> None:
    if status.st_uid not in (os.geteuid(), 0, _unmapped()):
        raise PermissionError(f"{step} belongs to another user (uid {status.st_uid})")


@cache
def _unmapped() -> int:
    """The user that a sandbox shows for those outside of it, root among them (user_namespaces(7)):
    0 where that is a user like others."""
    try:
        shown = int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
        lines = Path("/proc/self/uid_map").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return 0
    spans = [tuple(map(int, line.split())) for line in lines]
    return 0 if any(first <= shown < first + count for first, _, count in spans) else shown


def private(path: Path) -> Path:
    """A directory of this user, made if it is missing, that no other can write.

    Raises OSError where that can't be.
    """
    for missing in reversed([p for p in (path, *path.parents) if not p.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)  # whatever the umask is
    found = trusted(path)
    status = found.lstat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to another user (uid {status.st_uid})")
    return found
