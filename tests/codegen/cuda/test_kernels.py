"""Kernels other than `linear` through the CUDA back end, executed under emulation."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from lang import kernels
from products import attention

import tilec as tc


@pytest.mark.parametrize("shape", [(64, 128, 64), (40, 100, 64), (16, 33, 32)], ids=str)
def test_flash_attention(shape):
    """The online softmax, one pass over k and v; the last tile ends within."""
    m, n, d = shape
    rng = np.random.default_rng(n)
    q, k, v = (rng.standard_normal((rows, d)).astype(ml_dtypes.bfloat16) for rows in (m, n, n))
    types = {"q": tc.bf16, "k": tc.bf16, "v": tc.bf16, "y": tc.f32}
    y = poisoned((m, d), tc.f32)
    program = program_of(attention, types, {"M": m, "N": n, "D": d}, m=32, n=32)
    run(program, {"q": q, "k": k, "v": v, "y": y})
    s = q.astype(float) @ k.astype(float).T * 0.125
    p = np.exp(s - s.max(1, keepdims=True))
    assert far(y, p @ v.astype(float) / p.sum(1, keepdims=True)) < 4e-3  # p is rounded to bf16


@pytest.mark.parametrize("shape", [(7, 300), (64, 128)], ids=str)
def test_softmax(shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y = poisoned(shape, tc.f32)
    program = program_of(
        kernels.softmax, {"x": tc.f32, "y": tc.f32}, {"M": shape[0], "N": shape[1]}
    )
    run(program, {"x": x, "y": y})
    p = np.exp(x.astype(float) - x.max(1, keepdims=True))
    assert far(y, p / p.sum(1, keepdims=True)) < 1e-6
