"""Faults of files, directories and disks."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from tilec.bench.faults_victim import (
    FAILED,
    NOBODY,
    Outcome,
    asked,
    code,
    compiled,
    counted,
    ended,
    heals,
    key,
    opened,
    process,
    right,
)
from tilec.runtime.cache import Cache, Entry
from tilec.runtime.cache.entry import encode

FOREIGN = 54321  # a user


def damaged_bytes(folder: Path, times: int, how: str) -> Outcome:
    """The file of a kernel, cut off or with a bit changed, at each of its offsets (or `times`)."""
    cache, number = opened(folder), 1
    code(number)
    path = cache.path(key(number))
    assert path is not None
    cache.put(key(number), compiled(number))
    whole = path.read_bytes()
    step = max(1, len(whole) // times)
    codes: list[int] = []
    stuck = 0
    with mock.patch("os.fsync"):  # thousands of times, and none is about power
        for at in range(0, len(whole), step):
            bad = whole[:at]
            if how == "flip":
                bad += bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :]
            path.write_bytes(bad)
            codes.append(asked(cache, number))
            stuck += not right(cache.get(key(number)), number)
    return counted(len(codes), codes, stuck, f"{len(whole)} bytes")


def full_disk(folder: Path, times: int) -> Outcome:
    """A file system of 1 MB where one can be mounted, and a limit on the size of files."""
    times = max(times, 30)  # enough to fill it
    small = folder / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1M,mode=0700", "tmpfs", str(small)]
    done = subprocess.run(mount, capture_output=True, check=False) if os.geteuid() == 0 else None
    mounted = done is not None and done.returncode == 0
    codes: list[int] = []
    try:
        if mounted:
            codes += ended_each(lambda: _full(small, times, padding=60_000))
        codes += ended_each(lambda: _limited(folder, times))
    finally:
        if mounted:
            subprocess.run(["umount", str(small)], check=False)
    note = f"{'1 MB tmpfs, ' * mounted}RLIMIT_FSIZE; one warning each"
    return counted((1 + mounted) * times, codes, note=note)


def ended_each(what: Callable[[], int]) -> list[int]:
    """The exit code of a process that does this."""
    return [ended(process(what))]


def _full(place: Path, times: int, padding: int = 0) -> int:
    """Many kernels, of which some have no room; there is one warning."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        cache = opened(place)
        for n in range(times):
            entry = Entry(code(n) + bytes(padding))
            found = cache.get_or_make(key(n), lambda e=entry: e)
            if found.payload != entry.payload:
                return 3
    left = list((place / "cache" / "v2" / "tmp").iterdir())
    return 0 if len(said) == 1 and not left and cache.counts["not kept"] else FAILED


def _limited(place: Path, times: int) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
    return _full(place / "limited", times)


def read_only(folder: Path, times: int) -> Outcome:
    """A directory without permission to write, of a user who is not root: empty, and with entries
    that can still be read."""
    folder.chmod(0o755)
    opened(folder / "own")  # imports what it needs: nobody may not read where Python is
    codes: list[int] = []
    for filled in (False, True):
        place = folder / f"filled-{filled}"
        place.mkdir()
        if os.geteuid() == 0:
            os.chown(place, NOBODY, NOBODY)
        codes.append(ended(process(lambda p=place, f=filled: _locked(p, f, times), NOBODY)))
    return counted(2 * times, codes, note="as nobody; what is there is still found")


def _locked(place: Path, filled: bool, times: int) -> int:
    if filled:
        first = opened(place)
        for n in range(times):
            first.put(key(n), compiled(n))
    folders = [place, *(p for p in place.rglob("*") if p.is_dir())]
    for p in folders:
        p.chmod(0o500)
    try:
        cache = opened(place)
        worst = max(asked(cache, n) for n in range(times))
        return worst or (FAILED if cache.counts["hit"] != times * filled else 0)
    finally:
        for p in folders:
            p.chmod(0o700)


def bad_places(folder: Path, times: int) -> Outcome:
    """Directories in which others could put an entry: none of them is used."""
    codes: list[int] = []
    for n in range(times):
        for name, make in {**PLACES, **(OF_ROOT if os.geteuid() == 0 else {})}.items():
            place = make(folder, f"{n}-{name.replace(' ', '-')}")
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                cache = Cache(place, locks=folder / "locks")
            refused = cache.root is None and len(said) == 1
            codes.append(asked(cache, n) if refused else FAILED)
    return counted(len(codes), codes, note="refused with one warning")


def _theirs(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    os.chown(place, FOREIGN, FOREIGN)
    return place


def _open(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    place.chmod(0o777)
    return place


def _linked(folder: Path, name: str) -> Path:
    (folder / f"{name}-mine").mkdir(mode=0o700)
    (folder / name).symlink_to(f"{name}-mine")
    os.chown(folder / name, FOREIGN, FOREIGN, follow_symlinks=False)
    return folder / name / "cache"


Place = Callable[[Path, str], Path]
PLACES: dict[str, Place] = {
    "open": _open,
    "in an open one": lambda f, n: _open(f, n) / "cache",
}
OF_ROOT: dict[str, Place] = {  # which only root can make
    "theirs": _theirs,
    "in theirs": lambda f, n: _theirs(f, n) / "cache",
    "their link": _linked,
}


def strange_files(folder: Path, times: int) -> Outcome:
    """What is no file of ours in the place of an entry."""
    cache, codes, stuck, changed = opened(folder), list[int](), 0, 0
    aside = folder / "aside"
    for n in range(times):
        for make in THINGS:
            path = cache.path(key(n))
            assert path is not None
            cache.put(key(n), compiled(n))
            shutil.rmtree(path) if path.is_dir() else path.unlink()  # the last did not heal
            aside.unlink(missing_ok=True)
            aside.write_bytes(b"precious")
            make(path, aside)
            codes.append(asked(cache, n))
            stuck += not heals(cache, n)
            changed += aside.read_bytes() != b"precious"
    assert cache.root is not None
    wrong_key = encode(key(times + 1), compiled(times + 1))
    for n in range(times):
        path = cache.path(key(n))
        assert path is not None
        path.write_bytes(wrong_key)
        codes.append(asked(cache, n))
        stuck += not heals(cache, n)
    return counted(len(codes), codes, stuck + changed, "also another kernel's entry")


def _filled(path: Path, _: Path) -> None:
    path.mkdir()
    (path / "file").write_text("x")


def _hard_link(path: Path, aside: Path) -> None:
    if os.geteuid() == 0:
        os.chown(aside, FOREIGN, FOREIGN)
    os.link(aside, path)


def _device(path: Path, _: Path) -> None:
    if os.geteuid() == 0:
        os.mknod(path, 0o020600, os.makedev(1, 5))
    else:
        path.symlink_to("/dev/zero")


THINGS: tuple[Callable[[Path, Path], object], ...] = (
    lambda p, a: p.symlink_to(a),
    lambda p, _: p.symlink_to(p),
    lambda p, _: os.mkfifo(p),
    _device,
    _hard_link,
    _filled,
    lambda p, _: p.touch(0o600),
    lambda p, _: (p.touch(0o666), p.chmod(0o666)),
)


def errors_of_the_disk(folder: Path, times: int) -> Outcome:
    """Errors from the calls that read and write, at once and for good."""
    codes: list[int] = []
    stuck = 0
    every = itertools.product(ERRORS, CALLS)
    for number, name in every if times > 2 else zip(itertools.cycle(ERRORS), CALLS):
        place = folder / f"{number}-{name}"
        place.mkdir()
        codes += ended_each(lambda p=place, c=name, e=number: _failing(p, c, e, times))
        cache = opened(place)
        stuck += sum(not heals(cache, n) for n in range(times))
    return counted(len(codes) * times, codes, stuck, f"in {', '.join(CALLS)}")


ERRORS = (errno.EIO, errno.ESTALE, errno.EBUSY, errno.EDQUOT, errno.ENOSPC, errno.EROFS)
CALLS = ("open", "fsync", "write", "link", "replace", "mkdir", "fstat", "scandir")


def _failing(place: Path, name: str, number: int, times: int) -> int:
    cache = opened(place)
    for n in range(0, times, 2):
        cache.put(key(n), compiled(n))
    with _broken(place, name, number):
        return max(asked(cache, n) for n in range(times))


@contextmanager
def _broken(place: Path, name: str, number: int) -> Generator[None]:
    """Every second call that is about this folder fails; those of other modules never do."""
    real, calls = getattr(os, name), [0]

    def call(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        of_us = any(isinstance(a, int) or str(place) in str(a) for a in args[:2])
        if of_us and calls[0] % 3:
            raise OSError(number, os.strerror(number))
        return real(*args, **options)

    with mock.patch.object(os, name, call):
        yield


def skewed_clock(folder: Path, times: int) -> Outcome:
    """Entries of tomorrow and of yesterday."""
    codes: list[int] = []
    real = time.time
    for days in (-1, 1, -400, 400):
        cache = opened(folder)
        with mock.patch("time.time", lambda d=days: real() + d * 86400):
            codes += [asked(cache, n) for n in range(times)]
            with suppress(OSError):
                cache.tidied()
        codes += [asked(cache, n) for n in range(times)]
    return counted(len(codes), codes)
