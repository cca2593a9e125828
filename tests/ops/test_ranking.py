"""The largest elements of rows, on every back end."""

from __future__ import annotations

import launches
import pytest
from ranking_launches import CASES

SLOW = pytest.mark.slow


@pytest.mark.parametrize("name", CASES)
def test_on_this_processor(name):
    launches.on_cpu(CASES[name])


@pytest.mark.parametrize(
    "name",
    [n if n in ("few numbers", "whole numbers") else pytest.param(n, marks=SLOW) for n in CASES],
)
def test_cuda(name):
    launches.on_cuda(CASES[name])


@SLOW
@pytest.mark.parametrize("name", CASES)
def test_triton(name):
    pytest.importorskip("triton")
    launches.on_triton(CASES[name])
