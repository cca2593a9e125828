"""Times of calls on a machine that others use too: groups that were disturbed are left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

DISTURBED = 0.02  # of a group's time, waiting for a processor
GROUP = 0.002  # seconds of calls between two looks at /proc, which let threads fall asleep
COLD = 2  # times the last cache that is read between cold calls
LAST_CACHE = 32 << 20  # bytes, where the system does not say

Call = Callable[[], object]


def waited() -> int:
    """Nanoseconds that the threads of this process have waited for a processor."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[1])
        except OSError:  # the thread has ended
            continue
    return total


def warm(call: Call, seconds: float) -> list[float]:
    """Seconds of calls one after the other, for some time, of undisturbed groups only.

    The first call of a group wakes threads up and is not counted. Where all groups were disturbed,
    the times of the least disturbed one.
    """
    kept: list[float] = []
    least, best = float("inf"), list[float]()
    end = time.perf_counter() + seconds
    while not best or time.perf_counter() < end:
        before, began, times = waited(), time.perf_counter(), list[float]()
        while len(times) < 2 or time.perf_counter() - began < GROUP:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        took = time.perf_counter() - began
        share = (waited() - before) / (took * 1e9)
        if share < DISTURBED:
            kept += times[1:]
        if share < least:
            least, best = share, times[1:]
    return kept or best


def cold(call: Call, seconds: float) -> list[float]:
    """Seconds of calls that find nothing of theirs in caches, for some time, at least three."""
    other = np.zeros(COLD * last_cache() // 8)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        other += 1.0
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


def last_cache() -> int:
    """Bytes of the largest cache of this processor, by sysfs."""
    sizes = [0]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text("ascii").strip()
        unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0)
        number = text.rstrip("KMG")
        sizes.append(int(number) << unit if number.isdecimal() else 0)
    return max(sizes) or LAST_CACHE
