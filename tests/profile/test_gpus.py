"""Profiles of calls on a GPU: its own clock where the driver has events, else said to be none."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fake_driver import FakeDriver
from launched import LINEAR, SCALE, call, called, fake, product, whole

from tilec.profile import profile, recording
from tilec.profile.trace import trace

__all__ = ["fake"]
EVENTS = {"cuEventCreate", "cuEventRecord", "cuEventSynchronize", "cuEventElapsedTime"}


@pytest.fixture(params=["cuda", "triton"])
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def test_times_are_those_of_events(fake: FakeDriver, backend: str):
    x, w, y, want = product(16, 16, 32)
    linear = called(LINEAR, fake, backend, x, w, y)
    launcher = linear.__call__
    fake.each = 0.5
    with profile() as p:
        for _ in range(3):
            y[:] = np.nan
            call(linear, fake, x, w, y)
            assert np.array_equal(y, want)
            fake.milliseconds += 7  # something else, between the calls
    assert linear.__call__ is launcher
    assert [c.gpu_seconds for c in p.calls] == [0.0005] * 3
    (row,) = p.rows()
    assert (row.device, row.clock, row.calls, row.warm) == ("cpu:0", "events", 3, 3)
    assert (row.median, row.total) == (0.0005, pytest.approx(0.0015))
    assert (row.share, row.bound) == (None, None)
    assert row.work is not None
    assert row.work.operations == 2 * 16 * 16 * 32
    starts = [c.gpu_start or 0.0 for c in p.calls]
    assert np.diff(starts) == pytest.approx([0.0075] * 2)
    assert len(fake.events) == 1  # the one that all times are counted from
    assert not fake.trouble


def test_a_call_that_compiles_does_not_count(fake: FakeDriver):
    x, w, y, _ = product(16, 16, 32)
    linear = called(LINEAR, fake, "cuda", x, w, y)
    with profile() as p:
        call(linear, fake, *product(32, 16, 32)[:3])
        call(linear, fake, x, w, y)
    assert sorted((r.calls, r.warm) for r in p.rows()) == [(1, 0), (1, 1)]
    made = next(c for c in p.compiles if c.kernel == "linear")
    assert made.target == "cpu:0"
    assert {"parse", "pass", "codegen", "cache", "load"} <= {s.kind for s in made.stages}


@pytest.mark.parametrize("missing", sorted(EVENTS))
def test_without_events_it_is_said(fake: FakeDriver, missing: str):
    x, w, y, want = product(16, 16, 32)
    fake.driver.addresses[missing] = 0  # type: ignore[index]
    linear = called(LINEAR, fake, "cuda", x, w, y)
    with profile() as p:
        y[:] = np.nan
        call(linear, fake, x, w, y)
    assert np.array_equal(y, want)
    (row,) = p.rows()
    assert (row.device, row.clock) == ("cpu:0", "host, launch only")
    assert row.median == p.calls[0].seconds
    assert "times are of launches alone" in str(p)


@pytest.mark.parametrize("failing", sorted(EVENTS))
def test_events_that_fail_are_no_error_of_the_call(fake: FakeDriver, failing: str):
    x, w, y, want = product(16, 16, 32)
    linear = called(LINEAR, fake, "cuda", x, w, y)
    fake.fails[failing] = 1
    with profile() as p:
        y[:] = np.nan
        call(linear, fake, x, w, y)
    assert np.array_equal(y, want)
    assert [c.clock for c in p.calls] == ["host, launch only"]
    assert p.calls[0].seconds > 0
    assert len(fake.events) <= (0 if failing in ("cuEventCreate", "cuEventRecord") else 3)


def test_many_calls_hold_few_events(fake: FakeDriver, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recording, "WAITING", 4)
    x, y = whole((8, 16)).astype(np.float32), np.empty((8, 16), np.float32)
    scale = called(SCALE, fake, "cuda", x, 2.0, 1, y)
    fake.execute = False
    most = 0
    with profile() as p:
        for _ in range(11):
            call(scale, fake, x, 2.0, 1, y)
            most = max(most, len(fake.events))
    assert len(p.calls) == 11
    assert most <= 2 * 4 + 1
    assert {c.gpu_seconds for c in p.calls} == {fake.each / 1e3}


def test_a_profile_that_ends_with_an_error_reads_its_events(fake: FakeDriver):
    x, w, y, _ = product(16, 16, 32)
    linear = called(LINEAR, fake, "cuda", x, w, y)
    seen = []

    def failing() -> None:
        with profile() as p:
            seen.append(p)
            call(linear, fake, x, w, y)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        failing()
    assert [c.gpu_seconds for c in seen[0].calls] == [fake.each / 1e3]
    assert len(fake.events) == 1


def test_the_trace_has_a_row_for_the_gpu(fake: FakeDriver):
    x, w, y, _ = product(16, 16, 32)
    linear = called(LINEAR, fake, "cuda", x, w, y)
    with profile() as p:
        call(linear, fake, x, w, y)
    events = json.loads(json.dumps(trace(p)))["traceEvents"]
    (ran,) = [e for e in events if e.get("cat") == "gpu"]
    (launch,) = [e for e in events if e.get("cat") == "launch"]
    assert ran["tid"] != launch["tid"]
    assert ran["dur"] == pytest.approx(fake.each * 1e3)
    names = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names[ran["tid"]] == "GPU cpu:0"
