"""Gradients as kernels: the same numbers, and no matrix of attention's weights in memory."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_texts import (
    ACTIVATIONS,
    ATTENTION,
    CROSS_ENTROPY,
    LAYER_NORM,
    LINEAR,
    MASKS,
    RMS_NORM,
    SOFTMAX,
    SWIGLU,
)
from gradients import case

from tilec.ir.ops import control
from tilec.ir.types import Memory
from tilec.passes import parse_pipeline, run
from tilec.passes.gradient import gradient

WINDOW = MASKS["window"][0].replace("-inf", "-1e999")
PROGRAMS = {
    "linear": LINEAR.format(ACTIVATIONS["gelu"][0]),
    "rms_norm": RMS_NORM,
    "layer_norm": LAYER_NORM,
    "attention": SOFTMAX + ATTENTION.replace("MASKED", WINDOW),
    "cross_entropy": CROSS_ENTROPY,
    "swiglu": SWIGLU,
    "embedding": """kernel embedding(w: f64[N, K], t: i32[M], x: f64[M, K], y: f64[M]) {
      y[:] = sum(w[t[:], :] * x[:, :], axis=1)
    }""",
    "of two lookups": """kernel lookups(w: f64[N, K], t: i32[M], v: f64[K, E], y: f64[M, E]) {
      y[:, :] = dot(exp(w[t[:], :]) + w[t[:] + 1, :], v[:, :])
    }""",
}
DIMS = {"M": 23, "N": 37, "K": 24, "D": 20, "E": 12}


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_compute_the_same(name: str):
    rows = {"t": np.arange(23) % 9} if "t: i32" in PROGRAMS[name] else {}
    c = case(PROGRAMS[name], DIMS | ({"M": 37} if name == "attention" else {}), **rows)
    func = gradient(c.func, by="+".join(c.floats()))
    fused = run(parse_pipeline("fuse"), func)
    assert all(isinstance(op, control.Grid) for op in fused.body.ops)
    want = c.gradients(func)
    for n, found in c.gradients(fused).items():
        if n in want:
            assert np.linalg.norm(found - want[n]) <= 1e-12 * np.linalg.norm(want[n]), n


def test_no_weights_of_attention_lie_in_memory():
    c = case(PROGRAMS["attention"], {"N": 64, "M": 96, "D": 4, "E": 3})
    func = gradient(c.func, by="q,k+v")
    fused = run(parse_pipeline("fuse"), func)
    own = [p.type for p in fused.params if p not in func.params]
    assert not [t for t in own if isinstance(t, Memory) and len(t.shape) > 1]
    want = c.gradients(func)
    for n, found in c.gradients(fused).items():
        if n in want:
            assert np.linalg.norm(found - want[n]) <= 1e-12 * np.linalg.norm(want[n]), n
