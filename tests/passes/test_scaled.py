"""Loads of scaled memory become ops on components: rows by index, in the interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from formats import random_parts, scaled

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


@tc.kernel
def by_expert(
    x: tc.Tensor["P", "K"], w: tc.Tensor["E", "N", "K"], i: tc.Tensor["P", tc.i32],
    y: tc.Tensor["P", "N"],
):  # fmt: skip
    for p, n in tc.tiles("P", "N", block=(1, None)):
        acc = tc.zeros((p, n))
        for k in tc.tiles("K", block=4):
            acc += tc.dot(x[p, k], w[i[p.start], n, k].T)
        y[p, n] = acc


EXPERTS = {
    "int4<group=4>": True,
    "uint4<group=4, zero=int>": True,
    "uint3<channel, zero=min>": True,
    "bipolar1<group=4>": True,
    "int4<tensor>": True,
    "uint4<tensor, zero=mid>": False,  # outside, the scale is not 0
    "nvfp4": True,
}


@pytest.mark.parametrize("format", EXPERTS)
def test_a_matrix_outside_is_zeros(format):
    """A number before rows and columns does not keep the scale from the accumulator, where codes or
    scales that are read as 0 make the product 0."""
    shape, i = (3, 5, 16), np.array([2, -1, 3, 0])
    parts = random_parts(scaled(format), shape, exact=True)
    func = by_expert.ir(x=tc.f32, w=scaled(format), y=tc.f32)
    lowered = run(parse_pipeline("specialise{E=3 N=5 K=16 P=4},tile,lower-formats"), func)
    x = np.random.default_rng(1).integers(-4, 5, (4, 16)).astype(float)
    y = np.full((4, 5), np.nan)
    interpret(lowered, {"x": x, **{f"w.{n}": a for n, a in parts.items()}, "i": i, "y": y}, {})
    inside = (i >= 0) & (i < 3)
    w = scaled(format).values(parts, shape)[i * inside]
    np.testing.assert_array_equal(y, np.einsum("pk,pnk->pn", x, w) * inside[:, None])
    hoisted = any("the scale on the accumulator" in str(r) for r in lowered.remarks)
    assert hoisted == EXPERTS[format]
