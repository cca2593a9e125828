"""Recorded spaces as a device: the same times for the same seed, failures, faults."""

import gzip
import json
import subprocess
import sys
import threading

import pytest
from pretended_service import lease
from waiting import soon

from tilec.bench.reliability_fleet import left_over, synthetic
from tilec.fleet import recorded
from tilec.fleet.poison import FAULTS, failure_of, poisoned
from tilec.fleet.protocol import Failed, Lease, Measured
from tilec.fleet.recorded import FakeDevice, Recorded, describe, load, read
from tilec.ir.errors import TileError
from tilec.tune.config import Config
from tilec.tune.records import Failure

STOP = threading.Event()


@pytest.fixture(scope="module")
def space() -> Recorded:
    return synthetic(0.001, (3, 4), {5: "loop"})


def asked(*configs: Config, **more) -> Lease:
    given = lease(configs=[c.to_json() for c in configs], **more)
    return Lease.from_json({**given, "job": {"kind": "recorded", "space": "x", "noise_seed": 3}})


def config(space: Recorded, place: int) -> Config:
    assert space.space.rows is not None
    return space.space.config(space.space.rows[place])


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_a_file_reads_back(tmp_path, space, suffix):
    text = describe(space).encode()
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    again = recorded.recorded(tmp_path)["a"]
    assert again.space == space.space
    for ours, theirs in zip(again.samples, space.samples, strict=True):
        assert ours == pytest.approx(theirs)
    assert (again.costs, again.faults) == (space.costs, space.faults)


@pytest.mark.parametrize("damage", [
    {"configs": []}, {"time_ms": [1.0]}, {"parameters": {"a": []}}, {"samples_ms": None},
    {"default": {"z": 1}}, {"faults": {"x": "loop"}}, {"trial_cost_s": ["a"] * 12},
])  # fmt: skip
def test_a_damaged_file_is_one_error(space, damage):
    with pytest.raises(TileError):
        read("a", {**json.loads(describe(space)), **damage})


def test_what_is_no_file_of_a_space(tmp_path):
    with pytest.raises(TileError, match=r"no \*\.json"):
        recorded.recorded(tmp_path)
    for text in (b"{", b"\x1f\x8b\x00"):
        (tmp_path / "x.json.gz").write_bytes(text)
        with pytest.raises(TileError):
            load("x", tmp_path / "x.json.gz")


def test_times_are_those_that_were_recorded_and_the_same_for_all_who_draw(space):
    device = FakeDevice({"x": space}, poisoned)
    found = device(asked(config(space, 1)), STOP)
    again = FakeDevice({"x": space}, poisoned)(asked(config(space, 1)), STOP)
    assert isinstance(found, Measured)
    assert isinstance(again, Measured)
    assert found.samples == again.samples
    assert set(found.samples[0]) <= set(space.samples[1])
    other = device(asked(config(space, 1), purpose="confirm"), STOP)
    assert isinstance(other, Measured)
    assert other.samples != found.samples


def test_what_failed_when_it_was_recorded_fails():
    space = synthetic(0.001, (8, 8))
    failing = space.samples.index(())
    found = FakeDevice({"x": space}, poisoned)(asked(config(space, failing)), STOP)
    assert isinstance(found, Failed)
    assert found.failure == Failure.LAUNCH_ERROR
    both = asked(config(space, 0), config(space, failing), purpose="confirm")
    together = FakeDevice({"x": space}, poisoned)(both, STOP)
    assert isinstance(together, Measured)
    assert [bool(s) for s in together.samples] == [True, False]


def test_what_is_not_recorded(space):
    device = FakeDevice({}, poisoned)
    found = device(asked(config(space, 1)), STOP)
    assert isinstance(found, Failed)
    assert found.failure == Failure.INFRA
    with pytest.raises(TileError):
        FakeDevice({"x": space}, poisoned)(asked(Config.of({"z": 1})), STOP)


def test_a_trial_of_a_recorded_space_ends_when_it_is_stopped():
    space = synthetic(1000.0, (3, 4))
    stop = threading.Event()
    stop.set()
    given = asked(config(space, 1))
    found = FakeDevice({"x": space}, poisoned, pace=5e-3)(given, stop)
    assert found.cost < 2  # not the 2.5 seconds and more that it should take


def test_faults_are_those_of_the_file(space):
    seen: list[str] = []

    def fault(name: str, timeout_s: float, stop: threading.Event) -> Failed:
        seen.append(name)
        return Failed(Failure.RUN_TIMEOUT, "")

    FakeDevice({"x": space}, fault)(asked(config(space, 5)), STOP)
    assert seen == ["loop"]


def test_ends_have_classes():
    assert failure_of("signal 11") == Failure.DEVICE_FAULT
    assert failure_of("exit 0") == Failure.LAUNCH_ERROR
    assert failure_of("processes 65") == Failure.RESOURCE_EXCEEDED
    with pytest.raises(TileError, match="no fault"):
        poisoned("smile", 1.0, STOP)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_poison_costs_its_time_and_leaves_nothing(fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # so that its processes are known
    found = poisoned(fault, 6.0, STOP)
    assert found.cost < 7.0
    assert found.failure in (Failure.RUN_TIMEOUT, Failure.DEVICE_FAULT, Failure.LAUNCH_ERROR,
                             Failure.RESOURCE_EXCEEDED)  # fmt: skip
    assert soon(lambda: left_over(tmp_path) == 1, 60)  # this one


def test_left_over_sees_what_was_started_in_a_folder_and_nothing_else(tmp_path):
    """A grandchild too that has another session, no environment, and whose parent is gone."""
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    script = """if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-c", "input()"], {})
        os._exit(0)"""
    started = []
    for folder in (here, elsewhere, elsewhere):
        folder.mkdir(exist_ok=True)
        asking = ["-c", "import os, sys\n" + script + "\nos.wait()"]
        started.append(subprocess.Popen([sys.executable, *asking], cwd=folder,
                                        stdin=subprocess.PIPE))  # fmt: skip
    try:
        assert [p.wait() for p in started] == [0, 0, 0]
        assert soon(lambda: (left_over(here), left_over(elsewhere)) == (1, 2), 60)
        assert left_over(tmp_path) == 0
    finally:
        for p in started:
            assert p.stdin is not None
            p.stdin.close()
    assert soon(lambda: left_over(here) + left_over(elsewhere) == 0, 60)
    named = subprocess.Popen(
        [sys.executable, "-c", "input()", str(tmp_path / "journal")], stdin=subprocess.PIPE
    )
    assert soon(lambda: left_over(tmp_path) == 1, 60)
    named.communicate()
