"""What this machine can do at most, measured once and kept in the cache with the date."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tilec.compile import engine
from tilec.observe import INFO, say
from tilec.profile.ceilings import Run, arithmetic, of_bytes, read
from tilec.profile.devices import least
from tilec.profile.work import KINDS, Work
from tilec.runtime.cache import Cache, Entry, Key, open_cache
from tilec.settings import settings

SIZES = tuple(1 << n for n in (18, 21, 24, 27))  # bytes that are read: from caches, then memory
_SECONDS = 0.1  # for which each ceiling is tried


@dataclass(frozen=True)
class Ceilings:
    """The most that all threads did in a second when it was `measured` (ISO date, UTC): bytes read
    of data of some size, and operations of multiply-adds in registers, by the kind of their
    operands as in `Device`: `fp8` is what `half` is, pairs of bf16 where the processor has them."""

    measured: str
    threads: int
    reads: tuple[tuple[int, float], ...]
    rates: Mapping[str, float]

    def bandwidth(self, size: int) -> float:
        """Bytes a second for data of a size: those of the least measured one that is as large."""
        return next((b for n, b in self.reads if n >= size), self.reads[-1][1])

    def rate(self, work: Work) -> float:
        """Operations a second for operands as this work has."""
        return self.rates[work.operands]

    def least(self, work: Work) -> tuple[float, str]:
        """The seconds that a call needs at least, and what decides them: memory or arithmetic."""
        return least(self, work, work.compulsory)

    def as_json(self) -> dict[str, Any]:
        """For documents."""
        return asdict(self)


def ceilings(again: bool = False) -> Ceilings:
    """The ceilings of this machine and as many threads as kernels use: from the cache, or measured
    now, which takes about a second, where they are not there or it is to be done `again`."""
    cache = open_cache(settings().environment)
    found = None if again else known(cache)
    if found is None:
        found = _measured()
        cache.put(_key(), Entry(b"", found.as_json()))
        say("profile", INFO, "ceilings measured", **found.as_json())
    return found


def known(cache: Cache) -> Ceilings | None:
    """The ceilings that were measured before, if any."""
    entry = cache.get(_key())
    if entry is None:
        return None
    said = entry.header
    reads = tuple((n, rate) for n, rate in said["reads"])
    return Ceilings(said["measured"], said["threads"], reads, said["rates"])


def _key() -> Key:
    host = engine()
    parts = {"host": platform.node(), "threads": host.pool.threads, "sizes": SIZES, "kinds": KINDS}
    return Key({"kind": "ceilings", **host.machine.made_by}, parts)


def _measured() -> Ceilings:
    reads: list[tuple[int, float]] = []
    for size in SIZES:
        run, nbytes = read(size)
        reads.append((size, nbytes / _fastest(run)))
    loops = {"f32": arithmetic(narrow=False), "half": arithmetic(), "int8": of_bytes()}
    rates = {kind: operations / _fastest(run) for kind, (run, operations) in loops.items()}
    rates["fp8"] = rates["half"]
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Ceilings(date, engine().pool.threads, tuple(reads), rates)


def _fastest(run: Run) -> float:
    """The least seconds of several runs, at least three."""
    least, end, count = float("inf"), time.perf_counter() + _SECONDS, 0
    while count < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        least, count = min(least, time.perf_counter() - start), count + 1
    return least
