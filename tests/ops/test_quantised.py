"""Layers that make codes, on every back end."""

from __future__ import annotations

import launches
import numpy as np
import pytest
from op_launches import f32
from quantised_launches import CASES

import tilec as tc
from tilec.ops import quantised
from tilec.runtime.tensor import packed

SLOW = pytest.mark.slow
QUICK = ("linear_silu", "low_rank_down")


@pytest.mark.parametrize("name", CASES)
def test_on_this_processor(name):
    launches.on_cpu(CASES[name])


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=SLOW) for n in CASES])
def test_cuda(name):
    launches.on_cuda(CASES[name])


@SLOW
@pytest.mark.parametrize("name", CASES)
def test_triton(name):
    pytest.importorskip("triton")
    launches.on_triton(CASES[name])


def test_a_layer_with_a_branch():
    """Two kernels: what the first makes are the operands of the second."""
    x, w, a, b = f32(33, 192), f32(48, 192, seed=1), f32(16, 192, seed=2), f32(48, 16, seed=3)
    codes = np.zeros((33, 192), np.int8)
    scale, thin = np.zeros((33, 3), np.float32), np.zeros((33, 16), np.float32)
    quantised.low_rank_down(x, a, codes, scale, thin, 127.0)
    made = tc.format("int8<group=64, scale=f32>")
    left = packed(made, {"codes": codes.astype(float), "scale": scale.astype(float)}, (33, 192))
    right = tc.quantize(w, "int4<group=64>")
    y = np.full((33, 48), np.nan, np.float32)
    quantised.low_rank_up(left, right, thin, b, y)
    want = left.dequantize().astype(float) @ right.dequantize().astype(float).T
    want += x.astype(float) @ a.T.astype(float) @ b.T.astype(float)
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)
    assert np.abs(left.dequantize() - x).max() <= np.abs(x).max() / 250
