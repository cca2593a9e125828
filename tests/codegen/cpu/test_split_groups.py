"""Products over all of k with weights whose scales are of groups of k: no element is decoded."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from formats import random_parts, scaled

import tilec as tc
from tilec.cpu import lower
from tilec.ir.ops.reduce import Dot
from tilec.runtime.tensor import packed


@tc.kernel
def whole(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = tc.dot(x[m, :], w[n, :].T)


FORMATS = ["int4<group=64>", "uint4<group=32, zero=int>", "nf4<group=64>", "e2m1<group=16>",
           "int8<group=128>", "int3<group=64>"]  # fmt: skip


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("m", [1, 5, 40])
def test_products_of_groups(text: str, m: int):
    rng, shape = np.random.default_rng([m, len(text)]), (70, 256)
    w = packed(scaled(text), random_parts(scaled(text), shape), shape)
    x = rng.standard_normal((m, shape[1])).astype(ml_dtypes.bfloat16)
    y = np.full((m, shape[0]), np.nan, np.float32)
    whole(x, w, y)
    want = x.astype(np.float64) @ w.dequantize().T.astype(np.float64)
    assert np.linalg.norm(y - want) <= 1e-5 * np.linalg.norm(want)


def test_the_scales_are_on_the_accumulator():
    types = {"x": tc.bf16, "w": scaled("int4<group=64>"), "y": tc.f32}
    func = lower(whole.definition, types, {"M": 8, "N": 128, "K": 256})
    dots = [op for op in func.walk() if isinstance(op, Dot)]
    assert len(dots) == 4
    assert all(op.scale is not None for op in dots)
    assert not any("element by element" in r.message for r in func.remarks)
