"""Targets of TUNING.md 4.5 on recorded spaces, which are no part of the project.

TILEC_TUNE_DATA names their folder. Nothing in the samplers was fitted to them.
"""

import os
from pathlib import Path

import pytest
from rich.console import Console

from tilec.bench.search import LOOKS, Suite

RECORDED = os.environ.get("TILEC_TUNE_DATA")
SEEDS = 5
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not RECORDED, reason="TILEC_TUNE_DATA names no folder of recorded spaces"),
]


@pytest.fixture(scope="module")
def contenders() -> dict:
    suite = Suite(Path(RECORDED or ""), SEEDS, None, ["gp cold", "gp warm all"])
    return suite.measure(Console(quiet=True))["contenders"]


def part(contender: dict, after: int) -> float:
    return contender["part_of_optimum"][LOOKS.index(after)]


def test_cold(contenders):
    cold = contenders["tilec gp cold"]
    assert cold["P"] >= 0.45
    assert cold["overhead"] <= 0.05


@pytest.mark.parametrize(("after", "least"), [(25, 0.93), (60, 0.96)])
def test_other_devices_known(contenders, after, least):
    assert part(contenders["tilec gp warm all"], after) >= least


def test_other_devices_known_at_first(contenders):
    """The target of 0.89 was stated for the best config of each of 5 other devices."""
    spaces = contenders["tilec gp warm all"]["spaces"]
    kernels = [name.partition("-")[0] for name in spaces]
    near = [s["part_of_optimum"][LOOKS.index(5)] for name, s in spaces.items()
            if kernels.count(name.partition("-")[0]) > 5]  # fmt: skip
    if not near:
        most = max(map(kernels.count, kernels)) - 1
        pytest.skip(f"the target at 5 evaluations needs 5 other devices, here are {most} at most")
    assert sum(near) / len(near) >= 0.89
