"""Counters: each says what it says, of all caches of the process."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from caches import ENTRY, KEY, stored

import tilec as tc
from tilec.compile import engine
from tilec.observe import counters, counts, fell_back
from tilec.runtime.cache import Bounds, Cache, Entry, Key, Refusal
from tilec.runtime.cache.survey import packed, rows
from tilec.runtime.engine import Engine


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", locks=tmp_path / "locks")


def counted(what: Callable[[], object]) -> dict[str, Any]:
    """What a call adds to the cache's counters: those that it changes."""
    before = asdict(counters().cache)
    what()
    after = asdict(counters().cache)
    hits = {n: k - before["hits"].get(n, 0) for n, k in after.pop("hits").items()}
    before.pop("hits")
    found: dict[str, Any] = {n: k - before[n] for n, k in after.items() if k != before[n]}
    changed = {n: k for n, k in hits.items() if k}
    return found | ({"hits": changed} if changed else {})


def test_a_miss_is_made_and_kept_once(cache: Cache):
    assert counted(lambda: cache.get_or_make(KEY, lambda: ENTRY)) == {
        "misses": 1, "made": 1, "kept": 1
    }  # fmt: skip
    assert counted(lambda: cache.get_or_make(KEY, lambda: ENTRY)) == {"hits": {"user": 1}}


def test_hits_are_by_layer(cache: Cache, tmp_path: Path):
    stored(cache)
    assert cache.root is not None
    packed(rows(cache.root), tmp_path / "site")
    other = Cache(tmp_path / "empty", layers=[tmp_path / "site"], locks=tmp_path / "locks")
    assert counted(lambda: other.get(KEY)) == {"hits": {"site": 1}}


def test_damage_is_quarantined(cache: Cache):
    path = stored(cache)
    path.write_bytes(path.read_bytes()[:-1])
    path.chmod(0o600)
    assert counted(lambda: cache.get(KEY)) == {"misses": 1, "quarantined": 1}


def test_a_failure_is_remembered(cache: Cache):
    def make() -> Entry:
        raise Refusal("no")

    def ask() -> None:
        with pytest.raises(Refusal):
            cache.get_or_make(KEY, make)

    assert counted(ask) == {"misses": 1, "made": 1, "kept": 1}
    assert counted(ask) == {"misses": 1, "refused": 1}


def test_one_waits_for_the_other(cache: Cache):
    begun, go = threading.Event(), threading.Event()

    def slowly() -> Entry:
        begun.set()
        assert go.wait(30)
        return ENTRY

    def both() -> None:
        maker = threading.Thread(target=cache.get_or_make, args=(KEY, slowly))
        maker.start()
        assert begun.wait(30)
        waiter = threading.Thread(target=cache.get_or_make, args=(KEY, lambda: Entry(b"wrong")))
        waiter.start()
        before = cache.counts["miss"]
        end = time.monotonic() + 30
        while cache.counts["miss"] < max(before, 2) and time.monotonic() < end:
            time.sleep(0.001)
        go.set()
        maker.join()
        waiter.join()

    assert counted(both) == {
        "misses": 2, "made": 1, "kept": 1, "waits": 1, "hits": {"user": 1}
    }  # fmt: skip


def test_a_wait_that_is_given_up(tmp_path: Path):
    cache = Cache(tmp_path / "cache", locks=tmp_path / "locks", lock_seconds=0.01)

    def inner() -> Entry:
        return cache.get_or_make(KEY, lambda: ENTRY)  # the lock is held by the outer one

    found = counted(lambda: cache.get_or_make(KEY, inner))
    assert found["timeouts"] == 1
    assert found["made"] == 2


def test_what_goes_for_others(tmp_path: Path):
    cache = Cache(tmp_path / "c", bounds=Bounds(64 << 10), locks=tmp_path / "locks")

    def fill() -> None:
        for i in range(20):
            cache.put(Key({"kind": "x"}, {"i": i}), Entry(os.urandom(4000)))

    found = counted(fill)
    assert found["evicted"] >= 1
    assert found["kept"] + found.get("not_kept", 0) == 20


def test_fallbacks_are_named():
    before = tc.counters().fallbacks.get("tuned config", 0)
    fell_back("tuned config", "made for sm_90", kernel="linear")
    assert tc.counters().fallbacks["tuned config"] == before + 1


def test_the_python_launcher_is_a_fallback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from tilec.ir.errors import TileError
    from tilec.runtime import engine as module

    def refuse(*_: object, **__: object) -> None:
        raise TileError("no")

    machine = engine().machine  # this process has an engine before any launcher refuses
    monkeypatch.setattr(module, "NativeLauncher", refuse)
    before = counters().fallbacks.get("native launcher", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Engine(Cache(tmp_path), machine, threads=1)
    assert counters().fallbacks["native launcher"] == before + 1


def test_a_fork_finds_no_lock_held():
    held = threading.Event()

    def hold() -> None:
        with counts._LOCK:
            held.set()
            time.sleep(0.1)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    child = os.fork()
    if not child:
        os._exit(0 if counters().compiles >= 0 else 1)
    thread.join()
    end = time.monotonic() + 10
    while (found := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    assert found == (child, 0)


def test_snapshots_are_data():
    found = tc.counters()
    assert found.compiles >= 0
    document = found.as_json()
    assert set(document) == {"cache", "compiles", "failures", "fallbacks"}
    assert document["cache"]["misses"] == found.cache.misses
    for name in type(found.cache).__annotations__:
        assert name in (type(found.cache).__doc__ or "")
