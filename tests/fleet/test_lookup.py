"""Lookups: quick and never an error, whatever the service does."""

import os
import threading
import time

import pytest
from pretended_service import pretended, refused

from tilec.bench.reliability_lookup import MANNERS, black_hole, latency, nobody, published, service
from tilec.ir.errors import TileError
from tilec.tune.client.lookup import Breaker, Lookup
from tilec.tune.client.wire import Address

KEY = {"kernel": "ab" * 32, "device": "cd" * 32, "toolchain": "ef" * 32, "policy": {}}
PATIENT = 30.0  # seconds: where an answer is expected, however busy the machine is


def row(config: object = None) -> dict[str, object]:
    return {"key": "k", "kernel": "ab", "family": "cd", "shape": {}, "config": config or {"m": 16},
            "time_ms": 2.0, "provenance": {"worker": "w"}}  # fmt: skip


def test_finds_what_there_is():
    with pretended(**{"v1_configs:lookup": (200, [row(), None])}) as peer:
        lookup = Lookup(peer.address, PATIENT)
        found, nothing = lookup.lookup([KEY, KEY]) or [None, None]
        assert found is not None
        assert nothing is None
        assert (found.config.text, found.seconds) == ("m=16", 0.002)
        assert not lookup.failures
        assert peer.said("/v1/configs:lookup") == [{"keys": [KEY, KEY]}]


@pytest.mark.parametrize("manner", [m for m in MANNERS if m not in ("401", "503", "two answers")])
def test_no_manner_of_a_service_is_an_error(manner):
    """How long it takes is measured by the suite."""
    with service(MANNERS[manner]) as url:
        found = latency(manner, url)
    assert (found.raised, found.found) == (0, 0)
    assert sum(found.counted.values()) == 1  # one failure, and then the breaker


@pytest.mark.parametrize("place", [nobody, black_hole])
def test_nobody_there(place):
    with place() as url:
        assert latency("", url, PATIENT).counted == {"unreachable": 1}


def test_a_failed_lookup_is_tried_again_after_the_pause():
    with pretended(**{"v1_configs:lookup": [refused(500), (200, [row()])]}) as peer:
        now, lookup = [0.0], Lookup(peer.address, PATIENT)
        lookup.breaker = Breaker(30.0, lambda: now[0])
        assert lookup.breaker.pause() == 0
        assert lookup.lookup([KEY]) is None
        assert lookup.lookup([KEY]) is None  # not asked
        assert len(peer.heard) == 1
        now[0] = 20.0
        assert lookup.breaker.pause() == 10
        now[0] = 31.0
        assert all(lookup.lookup([KEY]) or [None])
        assert all(lookup.lookup([KEY]) or [None])
        assert lookup.breaker.pause() == 0


def test_of_many_that_wait_for_the_pause_one_tries():
    now = [0.0]
    breaker = Breaker(30.0, lambda: now[0])
    breaker.ended(False)
    assert not breaker.tries()
    now[0] = 31.0
    assert [breaker.tries() for _ in range(4)] == [True, False, False, False]
    breaker.ended(True)
    assert breaker.tries()


def test_threads_do_not_queue_behind_a_slow_lookup():
    with service(MANNERS["silence"]) as url:
        lookup = Lookup(Address(url))
        threads = [threading.Thread(target=lookup.lookup, args=([KEY],)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lookup.failures == {"timeout": 1}  # one of them waited


def test_a_caller_that_is_late_itself_says_what_it_was(monkeypatch):
    def started(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "tilec-lookup":
            time.sleep(0.3)  # another process has the core

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", started)
    with service(MANNERS["silence"]) as url:
        assert latency("silence", url).counted == {"timeout": 1}


def test_a_fork_has_a_connection_of_its_own():
    with pretended(**{"v1_configs:lookup": (200, [row()])}) as peer:
        lookup = Lookup(peer.address, PATIENT)
        assert all(lookup.lookup([KEY]) or [None])
        child = os.fork()
        if child == 0:
            os._exit(0 if all(lookup.lookup([KEY]) or [None]) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert all(lookup.lookup([KEY]) or [None])


def test_too_many_keys_is_a_bug_of_the_caller():
    with pytest.raises(TileError, match="at most 256"):
        Lookup(Address("http://127.0.0.1:9")).lookup([KEY] * 257)


def test_the_answer_of_the_suite_would_be_taken():
    """`published` gives configs that are refused for what was damaged, not for its form."""
    from tilec.bench.reliability_lookup import says

    with service(says("200 OK", published({"m": 1}))) as url:
        assert latency("", url, PATIENT).found == 201
