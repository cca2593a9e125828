"""Kernel trials: one measuring process for a job, ended when the lease or the time is over."""

import threading
from typing import Any

import pytest
from pretended_service import lease

from tilec.fleet.kernels import KernelDevice
from tilec.fleet.protocol import Failed, Lease, Measured
from tilec.ir.errors import TileError
from tilec.tune.config import Config
from tilec.tune.records import Failure, Trial

JOB = {"kind": "kernel", "ir": "x", "backend": "cpu", "target": "host"}
GOOD = Trial(Config.of({"a": 1}), (0.1, 0.2), cost=1.0, compiled=0.25)
BAD = Trial(Config.of({"a": 2}), (), Failure.WRONG_RESULT, 1.0, "differs")


class Pretended:
    """Stands for a Measurer."""

    def __init__(self, *found: Any, seconds: float = 0.0) -> None:
        self.found, self.seconds, self.closed = found, seconds, threading.Event()

    def trial(self, config: Config) -> Trial:
        self.closed.wait(self.seconds)
        if isinstance(self.found[0], Exception):
            raise self.found[0]
        return self.found[0]

    def confirm(self, configs: tuple[Config, ...], seconds: float) -> list[Trial]:
        return list(self.found)

    def close(self) -> None:
        self.closed.set()


def asked(timeout_s: float = 10.0, job: object = None, **more: Any) -> Lease:
    return Lease.from_json({**lease(**more), "job": job or JOB, "timeout_s": timeout_s})


def device(*made: Pretended) -> tuple[KernelDevice, list[Any]]:
    waiting, seen = list(made), []

    def make(*wanted: Any) -> Any:
        seen.append(wanted)
        return waiting.pop(0)

    return KernelDevice(make), seen


def test_the_process_is_kept_for_a_job_and_ended_for_the_next():
    first, second = Pretended(GOOD), Pretended(BAD)
    ours, seen = device(first, second)
    for _ in range(2):
        found = ours(asked(), threading.Event())
        assert isinstance(found, Measured)
        assert (found.samples, found.compiled) == ((GOOD.samples,), 0.25)
    assert len(seen) == 1
    assert not first.closed.is_set()
    found = ours(asked(job={**JOB, "data_seed": 1}), threading.Event())
    assert isinstance(found, Failed)
    assert (found.failure, found.detail) == (Failure.WRONG_RESULT, "differs")
    assert first.closed.is_set()
    ours.close()
    assert second.closed.is_set()


def test_a_confirmation_has_times_for_each_config_that_ran():
    ours, _ = device(Pretended(GOOD, BAD))
    found = ours(asked(purpose="confirm", configs=[{"a": 1}, {"a": 2}]), threading.Event())
    assert isinstance(found, Measured)
    assert found.samples == (GOOD.samples, ())
    ours, _ = device(Pretended(BAD, BAD))
    found = ours(asked(purpose="confirm", configs=[{"a": 1}, {"a": 2}]), threading.Event())
    assert isinstance(found, Failed)


def test_a_default_that_does_not_compile_is_no_fault_of_the_worker():
    ours, _ = device(Pretended(TileError("the default config can't be measured")))
    found = ours(asked(), threading.Event())
    assert isinstance(found, Failed)
    assert found.failure == Failure.COMPILE_ERROR


@pytest.mark.parametrize("timed", [True, False])
def test_the_process_is_ended_when_the_time_or_the_lease_is_over(timed):
    measurer, stop = Pretended(GOOD, seconds=20.0), threading.Event()
    ours, _ = device(measurer)
    if not timed:
        threading.Timer(0.1, stop.set).start()
    found = ours(asked(0.2 if timed else 30.0), stop)
    assert measurer.closed.is_set()
    assert isinstance(found, Failed) == timed
    if isinstance(found, Failed):
        assert found.failure == Failure.RUN_TIMEOUT


@pytest.mark.parametrize("job", [{"kind": "recorded"}, {**JOB, "backend": "x"}, {**JOB, "z": 1}])
def test_a_job_that_is_none(job):
    ours, _ = device()
    found = ours(asked(job=job), threading.Event())
    assert isinstance(found, Failed)
    assert found.failure == Failure.COMPILE_ERROR
