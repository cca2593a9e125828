"""Loads of scaled memory become ops on components: rows by index, in the interpreter."""

from __future__ import annotations

import numpy as np
import pytest

import tilec as tc
from tilec.ir.interpret import interpret
from tilec.passes import parse_pipeline, run


@tc.kernel
def picked(w: tc.Tensor["N", "K"], i: tc.Tensor["P", tc.i32], y: tc.Tensor["P", "K"]):
    for p in tc.tiles("P"):
        y[p, :] = w[i[p], :]


@pytest.mark.parametrize("codes", ["int4", "uint3", "nf4", "iq4", "bipolar1", "bipolar3", "e2m1"])
@pytest.mark.parametrize("block", ["tensor", "channel", "group=4"])
def test_rows_outside_are_zeros(codes, block):
    """Whatever code 0 means, and where no code means 0."""
    rng, i = np.random.default_rng(0), np.array([2, -1, 4, 5, 0])
    w = tc.quantize(rng.standard_normal((5, 10)), f"{codes}<{block}, scale=f32>", search=False)
    func = picked.ir(w=w.format, y=tc.f32)
    lowered = run(parse_pipeline("specialise{N=5 K=10 P=5},tile,lower-formats"), func)
    y = np.full((5, 10), np.nan)
    parts = {f"w.{name}": x for name, x in w.parts().items()}
    interpret(lowered, {**parts, "i": i, "y": y}, {})
    inside = (i >= 0) & (i < 5)
    assert np.array_equal(y, np.where(inside[:, None], w.dequantize()[i * inside], 0.0))
