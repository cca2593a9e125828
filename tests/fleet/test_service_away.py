"""A service that is away when a kernel is first called hides nothing from the later calls."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from pretended_service import pretended, refused
from waiting import soon

import tilec as tc
from tilec import tuned as tuning
from tilec.tune.client.again import Again
from tilec.tune.client.lookup import Breaker, Lookup
from tilec.tune.config import Config
from tilec.tune.job import Job, Policy, config_key, subject
from tilec.tune.space import Parameter, Space
from tilec.tune.spaces import derived
from tilec.tune.store import Store

JOB = Job("func @k() {\n}\n")
HERE = {"kind": "cpu", "name": "a"}
SPACE = Space((Parameter("m", (1, 2, 4)),))


@dataclass
class Found:
    key: str
    config: Config
    seconds: float = 1e-3
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Away:
    """A service that says nothing until it is back."""

    config: Config
    back: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def lookup(self, keys: Sequence[Mapping[str, Any]]) -> list[Found | None] | None:
        self.asked += 1
        if not self.back.is_set():
            return None
        return [Found(config_key(k["kernel"], k["device"], k["toolchain"],
                                 Policy.from_json(k["policy"])), self.config)
                for k in keys]  # fmt: skip


def test_what_was_not_said_is_not_remembered():
    service, silent = Away(Config.of({"m": 2})), []
    store = Store(None, service)

    def look() -> Config | None:
        return store.lookup(JOB, HERE, "ab" * 4, Policy(), lambda: SPACE, lambda: silent.append(1))

    assert look() is look() is None
    assert (service.asked, len(silent), store.counts) == (2, 2, {"unsaid": 2})
    service.back.set()
    assert look() == look() == service.config
    assert (service.asked, len(silent)) == (3, 2)


def test_a_real_lookup_says_that_it_did_not_hear():
    """Through the breaker: failing, open, and closed again."""
    row = {"key": "k", "config": {"m": 2}, "time_ms": 1.0, "provenance": {}}
    with pretended(**{"v1_configs:lookup": [refused(500), (200, [row]), (200, [None])]}) as peer:
        now, lookup = [0.0], Lookup(peer.address)
        lookup.breaker = Breaker(30.0, lambda: now[0])
        key = {"kernel": "ab" * 32, "device": "cd" * 32, "toolchain": "ef" * 32, "policy": {}}
        assert lookup.lookup([key]) is None
        assert lookup.lookup([key]) is None
        now[0] = 31.0
        assert [r and r.config.text for r in lookup.lookup([key]) or ()] == ["m=2"]
        assert lookup.lookup([key]) == [None]
        assert lookup.lookup([]) == []


def test_questions_are_asked_until_they_are_answered_and_no_longer():
    answers = {"a": [False, False, True], "b": [True], "c": [False, True]}
    asked = []
    again = Again(lambda: 0.0, 0.01)

    def of(name):
        def ask():
            asked.append(name)
            return answers[name].pop(0)

        return ask

    again.add(of("a"))
    again.add(of("b"))
    assert soon(lambda: asked == ["a", "a", "a", "b"])  # while it is away one question is enough
    assert soon(lambda: again._thread is None)
    again.add(of("c"))
    assert soon(lambda: asked[4:] == ["c", "c"])


def test_the_breaker_decides_when():
    pauses, times = [0.2, 0.0], []
    again = Again(lambda: pauses.pop(0), 0.01)
    start = time.monotonic()

    def ask():
        times.append(time.monotonic() - start)
        return len(times) == 2

    again.add(ask)
    assert soon(lambda: len(times) == 2)
    assert times[0] >= 0.2


@pytest.mark.parametrize("mode", ["lookup", "background"])
def test_a_kernel_takes_what_a_service_says_when_it_is_back(monkeypatch, mode):
    @tc.kernel
    def twice(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
        for m, n in tc.tiles("M", "N"):
            y[m, n] = x[m, n] + x[m, n]

    monkeypatch.setattr(tuning.Kernel, "_try", lambda *_: None)  # it would tune
    of = subject(twice.definition, {"x": tc.f32, "y": tc.f32}, {"M": 64, "N": 256})
    space = derived(of.job).space
    other = next(c for c in space if c != space.default)
    service, known = Away(other), tuning.Knowledge()
    known.store, known._again = Store(None, service), Again(lambda: 0.0, 0.01)
    monkeypatch.setattr(tuning, "knowledge", lambda: known)
    kernel = tuning.Kernel(twice.definition, tune=mode)
    x = np.random.default_rng(0).standard_normal((64, 256), np.float32)
    y = np.zeros_like(x)

    def right():
        y[:] = np.nan
        kernel(x, y)
        np.testing.assert_array_equal(y, 2 * x)

    right()
    assert set(kernel._configs.values()) == {None}
    assert soon(lambda: service.asked > 3)
    right()
    service.back.set()
    assert soon(lambda: set(kernel._configs.values()) == {service.config})
    assert soon(lambda: known._again._thread is None)
    right()
    assert not kernel._unsaid
    assert known.store.counts["service"] == 1
