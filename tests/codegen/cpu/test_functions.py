"""Functions of floats: how near they are over all floats, and that they run in floats."""

import math
from typing import Any

import numpy as np
import pytest

import tilec as tc
from tilec.compile import engine
from tilec.cpu import cpu_source
from tilec.ir.dtype import Array


@tc.program
def exp(x: tc.Tensor["M", "N"]):
    return tc.exp(x)


@tc.program
def exp2(x: tc.Tensor["M", "N"]):
    return tc.exp2(x)


@tc.program
def log(x: tc.Tensor["M", "N"]):
    return tc.log(x)


@tc.program
def log2(x: tc.Tensor["M", "N"]):
    return tc.log2(x)


@tc.program
def tanh(x: tc.Tensor["M", "N"]):
    return tc.tanh(x)


@tc.program
def erf(x: tc.Tensor["M", "N"]):
    return tc.erf(x)


WANT = {"exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "tanh": np.tanh,
        "erf": np.vectorize(math.erf, otypes=[np.float64])}  # fmt: skip
PROGRAMS: dict[str, Any] = dict(zip(WANT, (exp, exp2, log, log2, tanh, erf), strict=True))


def floats() -> Array:
    """[rows, 512]: floats of every exponent, and more of those where the functions bend."""
    spread = np.arange(0, 1 << 32, 2003, dtype=np.uint32).view(np.float32)
    low, high = np.array([0.25, 5.0], np.float32).view(np.uint32)
    dense = np.arange(low, high, 31, dtype=np.uint32).view(np.float32)
    both = np.concatenate([spread, dense, -dense])
    return both[: both.size // 512 * 512].reshape(-1, 512)


@pytest.mark.parametrize("name", WANT)
def test_functions_of_floats_are_within_a_unit_of_the_last_place(name: str):
    x = floats()
    with np.errstate(all="ignore"):
        want = WANT[name](x.astype(np.float64))
        nearest = want.astype(np.float32)
        unit = np.spacing(np.abs(nearest)).astype(np.float64)
        got = PROGRAMS[name](x)
        far = np.abs(got.astype(np.float64) - want) / unit
    same = (got == nearest) | (np.isnan(got) & np.isnan(nearest))
    assert np.where(same, 0, far).max() < 1.1


@pytest.mark.parametrize("name", WANT)
def test_functions_of_floats_run_in_floats(name: str):
    made = PROGRAMS[name].kernel(x=tc.f32).definition
    text = cpu_source(made, {"x": tc.f32}, {"M": 64, "N": 512}, engine()).text
    assert "@llvm.fma.v" in text
    assert "double" not in text
