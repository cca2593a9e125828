"""Functions of floats: how near they are over all floats, and that they run in floats."""

import math

import numpy as np
import pytest

from tilec.compile import Kernel, engine
from tilec.cpu import cpu_source
from tilec.ir.dtype import Array, f32
from tilec.lang.text import parse

EACH = """kernel each(x: f32[M, N], y: f32[M, N]) {
  for m in tiles(M) { y[m, :] = FUNCTION(x[m, :]) }
}"""
WANT = {"exp": np.exp, "exp2": np.exp2, "log": np.log, "log2": np.log2, "tanh": np.tanh,
        "erf": np.vectorize(math.erf, otypes=[np.float64])}  # fmt: skip


def each(name: str) -> Kernel:
    """The kernel of a function."""
    return Kernel(parse(EACH.replace("FUNCTION", name))["each"])


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
    got = np.full_like(x, 7)
    each(name)(x, got)
    with np.errstate(all="ignore"):
        want = WANT[name](x.astype(np.float64))
        nearest = want.astype(np.float32)
        unit = np.spacing(np.abs(nearest)).astype(np.float64)
        far = np.abs(got.astype(np.float64) - want) / unit
    same = (got == nearest) | (np.isnan(got) & np.isnan(nearest))
    assert np.where(same, 0, far).max() < 1.1


@pytest.mark.parametrize("name", WANT)
def test_functions_of_floats_run_in_floats(name: str):
    types, dims = dict.fromkeys("xy", f32), {"M": 64, "N": 512}
    text = cpu_source(each(name).definition, types, dims, engine()).text
    assert "@llvm.fma.v" in text
    assert "double" not in text
