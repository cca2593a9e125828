"""Faults of processes: killed, many at once, stopped, more than there is room for."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import time
from functools import partial
from pathlib import Path
from unittest import mock

from tilec.bench.faults_victim import (
    FAILED,
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
from tilec.runtime.cache import Bounds, Cache, Entry
from tilec.runtime.cache.survey import rows
from tilec.runtime.cache.sweep import files

KERNELS = 25  # that the killed compile
COLD = 8  # keys that many ask for at once
MEGABYTE = 1 << 20


def killed(folder: Path, times: int) -> Outcome:
    """Processes that compile and publish, each killed at a random moment; every second where files
    can't be without a name."""
    chance = random.Random(1)
    for n in range(KERNELS):
        code(n)
    longest = _seconds(folder)
    cache, codes, stopped, trial = opened(folder), list[int](), 0, 0
    while stopped < times and trial < 5 * times:
        trial += 1
        child = process(partial(_publishes, folder, trial))
        time.sleep(chance.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        result = ended(child)
        stopped += result == -signal.SIGKILL
        if result not in (0, -signal.SIGKILL):
            codes.append(result)
        found = cache.get(key(trial % KERNELS))
        codes.append(0 if found is None or right(found, trial % KERNELS) else 3)
        _forget(cache, trial)
    damage = cache.counts["damaged"]
    again = opened(folder)  # the next start
    left = len(list((folder / "cache" / "v2" / "tmp").iterdir()))
    stuck = left + sum(not heals(again, n) for n in range(KERNELS))
    note = f"{trial} processes, {stopped} killed before their end; {damage} damaged entries, " \
           f"{left} leftovers after the next start"  # fmt: skip
    return counted(stopped, codes, stuck, note)


def _seconds(folder: Path) -> float:
    """How long a process lives that is not killed."""
    start = time.perf_counter()
    for n in range(3):
        ended(process(partial(_publishes, folder / "timed", n)))
    return (time.perf_counter() - start) / 3


def _publishes(folder: Path, trial: int) -> int:
    folder.mkdir(exist_ok=True)
    if trial % 2:
        mock.patch("tilec.runtime.cache.disk._without_a_name", return_value=False).start()
    return asked(opened(folder), trial % KERNELS)


def _forget(cache: Cache, trial: int) -> None:
    """So that most processes have something to do."""
    path = cache.path(key(trial % KERNELS))
    if path is not None and trial % 3:
        path.unlink(missing_ok=True)


def cold_key(folder: Path, times: int) -> Outcome:
    """Processes that miss the same keys at the same moment."""
    for n in range(COLD):
        code(n)
    start, log = time.time() + 0.2 + times / 40, folder / "compiles"
    children = [process(partial(_misses, folder, log, start)) for _ in range(times)]
    codes = [ended(c) for c in children]
    made = log.read_text().split()
    most = max(made.count(str(n)) for n in range(COLD))
    waits = sorted(float(x) for x in (folder / "waits").read_text().split())
    note = f"{len(made) / COLD:.2f} compiles a key, {waits[int(0.99 * len(waits))]:.2f} s at the " \
           f"99th percentile, of {COLD} that take 0.1 s each"  # fmt: skip
    done = counted(times, codes, note=note)
    return Outcome(done.trials, done.wrong, done.failed, done.stuck, note, most)


def _misses(folder: Path, log: Path, start: float) -> int:
    cache, worst = opened(folder), 0
    time.sleep(max(start - time.time(), 0))
    began = time.perf_counter()
    for n in range(COLD):

        def make(number: int = n) -> Entry:
            _note(log, str(number))
            time.sleep(0.1)
            return compiled(number)

        found = cache.get_or_make(key(n), make)
        worst = max(worst, 0 if right(found, n) else 3)
    _note(folder / "waits", f"{time.perf_counter() - began:.4f}")
    return worst


def _note(path: Path, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(handle, f"{text}\n".encode())
    os.close(handle)


def stopped_holder(folder: Path, times: int) -> Outcome:
    """SIGSTOP to the process that compiles: the others wait for as long as they are told, then
    compile; it may go on later."""
    code(0)
    seconds, ready = 0.5, folder / "ready"

    def hold() -> int:
        def make() -> Entry:
            ready.touch()
            os.kill(os.getpid(), signal.SIGSTOP)
            return compiled(0)

        return 0 if right(opened(folder).get_or_make(key(0), make), 0) else 3

    holder = process(hold)
    os.waitpid(holder, os.WUNTRACED)
    assert ready.exists()
    began = time.perf_counter()
    others = [process(lambda: asked(opened(folder, lock_seconds=seconds), 0)) for _ in range(times)]
    codes = [ended(c) for c in others]
    took = time.perf_counter() - began
    os.kill(holder, signal.SIGCONT)
    codes.append(ended(holder))
    stuck = int(not heals(opened(folder), 0))
    return counted(times, codes, stuck, f"others done after {took:.2f} s, with {seconds} s allowed")


def under_load(folder: Path, times: int) -> Outcome:
    """Eight processes that keep 100 kB at a time in a cache of 64 MB, one entry of which is being
    read."""
    bounds = Bounds(64 * MEGABYTE, 1 << 15)
    cache = opened(folder, bounds=bounds)
    cache.put(key(0), compiled(0))
    path = cache.path(key(0))
    assert path is not None
    os.utime(path, (1, 1))  # the first that would go
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        writers = [process(partial(_writes, folder, bounds, w, times)) for w in range(8)]
        most, codes = 0, list[int]()
        while len(codes) < len(writers):
            codes += [c for c in map(_done, writers) if c is not None]
            most = max(most, sum(f.size for f in files(cache.layers[0])))
            time.sleep(0.02)
        kept = path.exists()
    damage = sum(bool(r.damage) for r in rows(cache.layers[0]))
    over = max(most - bounds.bytes, 0) > 100_000
    few, many = 100, 10_000 if times >= 100 else 1000
    quick = [_p99(folder / f"put-{n}", n) for n in (few, many)]
    note = (
        f"most {most / MEGABYTE:.1f} of 64 MB; an entry that is read stays; a put at the 99th "
        f"percentile: {quick[0]:.1f} ms of {few} entries, {quick[1]:.1f} ms of {many}"
    )
    return counted(8 * times, codes, damage + over + (not kept), note)


def _done(child: int) -> int | None:
    try:
        found, status = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None


def _writes(folder: Path, bounds: Bounds, writer: int, times: int) -> int:
    cache = opened(folder, bounds=bounds)
    for n in range(times):
        entry = Entry(writer.to_bytes(1, "little") * 100_000)
        found = cache.get_or_make(key(1000 * (writer + 1) + n), lambda e=entry: e)
        if found.payload != entry.payload:
            return 3
    return 0 if not cache.counts["not kept"] else FAILED


def _p99(folder: Path, count: int) -> float:
    """Milliseconds of a put in a cache of so many entries."""
    folder.mkdir()
    cache, entry = opened(folder), Entry(b"x" * 1000)
    with mock.patch("os.fsync"):
        for n in range(count - 100):
            cache.put(key(n), entry)
    found: list[float] = []
    for n in range(100):
        start = time.perf_counter()
        cache.put(key(count + n), entry)
        found.append(time.perf_counter() - start)
    return 1e3 * sorted(found)[98]
