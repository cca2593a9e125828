import json

import pytest

from tilec.ir.errors import TileError
from tilec.tune.config import Config
from tilec.tune.records import Failure, Study, Trial
from tilec.tune.space import Parameter, Space

SPACE = Space((Parameter("bm", (16, 32)), Parameter("order", ("row", "col"))))
FAST = Trial(Config.parsed("bm=16,order=row"), (2e-3, 1e-3, 1.5e-3), cost=0.5, note="warm")
LOST = Trial(Config.parsed("bm=32,order=row"), failure=Failure.WORKER_LOST)
STUDY = Study("k", "cpu", SPACE, (("M", 16),), "eager", 3, 50, (FAST, LOST))


def test_json_reads_back():
    assert Study.from_json(json.loads(json.dumps(STUDY.to_json()))) == STUDY
    assert FAST.seconds == 1.5e-3
    assert STUDY.best == FAST


def test_only_two_failures_are_retried():
    assert [f.value for f in Failure if f.retried] == ["worker_lost", "infra"]
    assert len(Failure) == 10


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"samples": []}, "either samples or a failure"),
        ({"failure": "infra"}, "either samples or a failure"),
        ({"samples": [0.0]}, "more than 0"),
        ({"samples": [float("nan")]}, "finite"),
        ({"samples": ["1"]}, "expected a number"),
        ({"samples": [True]}, "expected a number"),
        ({"samples": [10**400]}, "finite"),
        ({"samples": [1.0] * 10_001}, "at most"),
        ({"cost": -1}, "at least 0"),
        ({"failure": "tired", "samples": []}, "no failure class"),
        ({"note": "x" * 4001}, "at most"),
        ({"extra": 1}, "'extra' is no field"),
        ({"config": [1]}, "expected an object"),
    ],
)
def test_a_bad_trial_is_one_clear_error(change, why):
    with pytest.raises(TileError, match=why):
        Trial.from_json({**FAST.to_json(), **change})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"budget": 0}, "budget of 1"), ({"seed": -1}, "seed"), ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "whole number"), ({"budget": True}, "whole number"),
        ({"shape": {"M": "a b"}}, "M"), ({"kernel": 1}, "string"), ({"space": None}, "null"),
    ],
)  # fmt: skip
def test_a_bad_study_is_one_clear_error(change, why):
    with pytest.raises(TileError, match=why):
        Study.from_json({**STUDY.to_json(), **change})
    with pytest.raises(TileError, match="'seed' is missing"):
        Study.from_json({k: v for k, v in STUDY.to_json().items() if k != "seed"})
