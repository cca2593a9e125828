"""Counters of this process: what the cache did, compiles, and where something slower was taken."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tilec.observe.log import WARNING, say

_COUNTS: Counter[str] = Counter()
_LOCK = threading.Lock()

if hasattr(os, "register_at_fork"):  # a child must not find the lock held by a thread it has not
    os.register_at_fork(
        before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release
    )


@dataclass(frozen=True)
class CacheCounters:
    """What caches on disk were asked for, and did.

    hits         lookups that an entry answered, by its layer: user, site, packaged
    misses       lookups that none did
    made         artifacts that this process compiled and offered to the cache
    kept         entries published; `not_kept`: those for which the disk had no room or an error
    quarantined  files that were no sound entry, moved out of the way
    unreadable   reads that failed with an error of the disk
    evicted      entries that had to go for others, removed by this process
    refused      failures remembered from before (negative entries), raised without a compiler
    waits        artifacts that another process or thread made while this one waited for it
    timeouts     waits that were given up, so that work was done twice
    """

    hits: Mapping[str, int]
    misses: int
    made: int
    kept: int
    not_kept: int
    quarantined: int
    unreadable: int
    evicted: int
    refused: int
    waits: int
    timeouts: int


@dataclass(frozen=True)
class Counters:
    """A snapshot of what this process did since it began: numbers only grow.

    compiles   kernels made ready for arguments of a kind, from the cache or not
    failures   compiles that ended with an error
    fallbacks  how often something slower or plainer was taken, by what it replaces:
               `native launcher` (calls through ctypes instead), `tuned config` (the default one
               instead, as the tuned one does not fit), `cache place` (another folder), ...
    """

    cache: CacheCounters
    compiles: int
    failures: int
    fallbacks: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """For documents."""
        return asdict(self)


_HIT, _FALLBACK = "cache.hits.", "fallback."


def count(what: str, times: int = 1) -> None:
    """Count what happened."""
    with _LOCK:
        _COUNTS[what] += times


def fell_back(what: str, why: object, topic: str = "launch", **values: object) -> None:
    """Count and log that something else than `what` is used, and why."""
    count(_FALLBACK + what)
    say(topic, WARNING, "fallback", instead_of=what, why=why, **values)


def counters() -> Counters:
    """What this process counted so far."""
    with _LOCK:
        found = dict(_COUNTS)

    def named(start: str) -> dict[str, int]:
        return {n.removeprefix(start): k for n, k in sorted(found.items()) if n.startswith(start)}

    numbers = {n: found.get(f"cache.{n}", 0) for n in CacheCounters.__annotations__ if n != "hits"}
    cache = CacheCounters(named(_HIT), **numbers)
    return Counters(cache, found.get("compiles", 0), found.get("failures", 0), named(_FALLBACK))
