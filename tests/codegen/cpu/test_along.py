"""Products of few rows with rows of a matrix, read along k: exact sums, and edges."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.cpu import lower
from tilec.ir.ops.control import For

BF16 = ml_dtypes.bfloat16


@pytest.mark.parametrize("n", [4, 63, 64, 68, 130])
@pytest.mark.parametrize("k", [32, 96, 100, 1056])
@pytest.mark.parametrize("m", [1, 5, 6, 16, 17])
def test_sums_of_small_whole_numbers_are_exact(m: int, n: int, k: int):
    rng = np.random.default_rng([m, n, k])
    x, w = (rng.integers(-8, 9, s).astype(BF16) for s in ((m, k), (n, k)))
    y = np.full((m, n), np.nan, np.float32)
    kernels.linear(x, w, y)
    np.testing.assert_array_equal(y, x.astype(np.float64) @ w.astype(np.float64).T)


@tc.kernel
def scores(q: tc.Tensor["B", "M", "D"], k: tc.Tensor["B", "N", "D"], y: tc.Tensor["B", "M", "N"]):
    for b in tc.tiles("B", block=1):
        for n in tc.tiles("N"):
            y[b.start, :, n] = tc.dot(q[b.start, :, :], k[b.start, n, :].T)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn", "int8"])
@pytest.mark.parametrize("d", [32, 96])
@pytest.mark.parametrize("n", [3, 133])
@pytest.mark.parametrize("m", [1, 5, 17])
def test_rows_that_lie_one_after_the_other_give_exact_sums(m: int, n: int, d: int, dtype: str):
    rng, stored = np.random.default_rng([m, n, d]), np.dtype(getattr(ml_dtypes, dtype, dtype))
    q = rng.integers(-8, 9, (2, m, d)).astype(np.float32)
    k = rng.integers(-8, 9, (2, n, d)).astype(stored)
    y = np.full((2, m, n), np.nan, np.float32)
    scores(q, k, y)
    want = q.astype(np.float64) @ k.astype(np.float64).swapaxes(1, 2)
    np.testing.assert_array_equal(y, want)


def test_a_result_is_near_the_exact_one():
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(BF16) for s in ((16, 4096), (64, 4096)))
    y = np.full((16, 64), np.nan, np.float32)
    kernels.linear(x, w, y)
    want = x.astype(np.float64) @ w.astype(np.float64).T
    assert np.linalg.norm(y - want) <= 2e-6 * np.linalg.norm(want)


def _step(m: int, dtype: tc.DType) -> int | None:
    dims = {"M": m, "N": 128, "K": 8192}
    func = lower(kernels.linear.definition, dict.fromkeys("xw", dtype) | {"y": tc.f32}, dims, 2)
    return next(op.tile for op in func.walk() if isinstance(op, For))


def test_few_rows_have_longer_steps():
    assert _step(16, tc.bf16) == 4 * _step(17, tc.bf16)  # type: ignore[operator]
    assert _step(16, tc.f32) == _step(17, tc.f32)
