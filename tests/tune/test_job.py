from types import SimpleNamespace
from typing import Any

import pytest
from fake_driver import FakeDriver

import tilec as tc
from tilec.ir.errors import TileError
from tilec.serve import keys, models
from tilec.tune import job
from tilec.tune.config import Config
from tilec.tune.job import (
    Job,
    Policy,
    choice_of,
    config_key,
    device,
    device_digest,
    policy_of,
    subject,
    toolchain,
)


@tc.kernel
def scale(x: tc.Tensor["M", "N"], s: tc.f32, y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = x[m, n] * s


@tc.kernel
def other(a: tc.Tensor["P", "Q"], t: tc.f32, out: tc.Tensor["P", "Q"]):
    for m, n in tc.tiles("P", "Q"):
        out[m, n] = a[m, n] * t


TYPES = {"x": tc.f32, "y": tc.f32}


def of(m=4, n=8, **more):
    return subject(scale.definition, TYPES, {"M": m, "N": n}, **more)


def test_a_job_goes_over_json():
    job = of().job
    assert Job.from_json(job.to_json()) == job
    assert job.results == ("y",)
    assert job.func.name == "scale"
    assert [p.name for p in job.definition.signature.params] == ["x", "s", "y"]
    data = job.to_json()
    for broken in ({**data, "code": "x"}, {**data, "kind": "shell"}, {**data, "backend": "gcc"},
                   {**data, "ir": 3}, []):  # fmt: skip
        with pytest.raises(TileError):
            Job.from_json(broken)


def test_names_of_the_user_are_not_in_digests():
    same = subject(other.definition, {"a": tc.f32, "out": tc.f32}, {"P": 4, "Q": 8})
    assert same.job.kernel == of().job.kernel
    assert same.job.ir != of().job.ir


def test_digests_tell_kernels_shapes_and_back_ends_apart():
    a, b, c = of(), of(8), of(backend="cuda", target="sm_90a")
    assert len({a.job.kernel, b.job.kernel, c.job.kernel}) == 3
    assert a.family == b.family != c.family


def test_keys_are_those_of_the_service():
    here, made_by, policy = device(), toolchain(), policy_of("cpu")
    theirs = keys.device_digest(models.Fingerprint.model_validate(here))
    assert device_digest(here) == theirs
    said = models.Policy.model_validate(policy.to_json())
    mine = config_key(of().job.kernel, theirs, made_by, policy)
    assert mine == keys.config_key(of().job.kernel, theirs, made_by, said)


def test_keys_depend_on_everything():
    policies = [Policy(), Policy("graph"), Policy(cache="cold"), Policy(threads=2)]
    found = {config_key(k, d, t, p) for k in "ab" for d in "cd" for t in "ef" for p in policies}
    assert len(found) == 32
    assert toolchain("cpu") != toolchain("triton")


def test_policies_are_checked():
    assert Policy.from_json({"threads": 2}) == Policy(threads=2)
    for bad in ({"mode": "fast"}, {"cache": "hot"}, {"threads": -1}, {"threads": True}, {"x": 1}):
        with pytest.raises(TileError):
            Policy.from_json(bad)


def test_a_config_is_a_choice():
    cpu: Any = choice_of("cpu", Config.parsed("m=16,threads=1")).cpu
    cuda: Any = choice_of("cuda", Config.parsed("swap=small")).schedule
    triton: Any = choice_of("triton", Config.parsed("warps=8")).schedule
    assert (cpu.tiles, cuda.swap, triton.warps) == ({"m": 16}, "small", 8)
    with pytest.raises(TileError, match="threads is 3"):
        choice_of("cpu", Config.parsed("threads=3"))


def test_the_fingerprint_of_a_gpu(monkeypatch):
    monkeypatch.setattr(job, "gpu", lambda: SimpleNamespace(driver=FakeDriver().driver))
    assert device("cuda") == {"kind": "cuda", "name": "fake 0", "sms": 4, "capability": "9.0",
                              "driver": "13.1"}  # fmt: skip
