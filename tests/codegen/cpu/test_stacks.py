"""Stacks of matrices in codes lie in streams: a task reads those of one as of a matrix."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import tilec as tc
from tilec.compile import engine
from tilec.cpu import cpu_source
from tilec.ir.packing import Plain
from tilec.ir.stream import Stream
from tilec.ops import moe, plan

FORMATS = ["int4<group=32>", "uint4<group=64, zero=int>", "int8<channel>", "nvfp4", "nf4<group=32>",
           "int3<group=16>", "int8<tensor>"]  # fmt: skip
APART = "read one by one"


@tc.kernel
def each(x: tc.Tensor["M", "K"], w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "M", "N"]):
    for e, m, n in tc.tiles("E", "M", "N", block=(1, None, None)):
        acc = tc.zeros((m, n))
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[e.start, n, k].T)
        y[e.start, m, n] = acc


@tc.kernel
def chosen(x: tc.Tensor["M", "K"], i: tc.Tensor["B", tc.i32], w: tc.Tensor["E", "N", "K"],
           y: tc.Tensor["B", "M", "N"]):  # fmt: skip
    for b, m, n in tc.tiles("B", "M", "N", block=(1, None, None)):
        acc = tc.zeros((m, n))
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[i[b.start], n, k].T)
        y[b.start, m, n] = acc


@tc.kernel
def in_odd_tiles(x: tc.Tensor["M", "K"], i: tc.Tensor["B", tc.i32], w: tc.Tensor["E", "N", "K"],
                 y: tc.Tensor["B", "M", "N"]):  # fmt: skip
    for b, m, n in tc.tiles("B", "M", "N", block=(1, None, 24)):
        acc = tc.zeros((m, n))
        for k in tc.tiles("K", block=8):
            acc += tc.dot(x[m, k], w[i[b.start], n, k].T)
        y[b.start, m, n] = acc


@tc.kernel
def elements(w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "N", "K"]):
    for e, n, k in tc.tiles("E", "N", "K"):
        y[e, n, k] = w[e, n, k].to(tc.f32)


@tc.kernel
def rows(w: tc.Tensor["E", "N", "K"], i: tc.Tensor["B", tc.i32], j: tc.Tensor["B", tc.i32],
         y: tc.Tensor["B", "K"]):  # fmt: skip
    for b, k in tc.tiles("B", "K", block=(1, None)):
        y[b.start, k] = w[i[b.start], j[b.start], k].to(tc.f32)


def made(text: str, *shape: int, layout=None) -> tc.PackedTensor:
    x = np.random.default_rng(list(shape)).standard_normal(shape)
    return tc.quantize(x, text, search=False, layout=layout)


def near(got, want, most: float = 3e-6) -> bool:
    return bool(np.linalg.norm(got - want) <= most * np.linalg.norm(want))


def given(m: int, k: int, dtype: type = np.float32):
    return np.random.default_rng(m).standard_normal((m, k)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("m", [1, 5, 17])
@pytest.mark.parametrize("text", FORMATS)
def test_a_product_with_each(text, m, dtype):
    w, x = made(text, 3, 128, 160), given(m, 160, dtype)
    assert isinstance(w.layout, Stream)
    y = np.full((3, m, 128), np.nan, np.float32)
    each(x, w, y)
    assert near(y, np.einsum("mk,enk->emn", x.astype(float), w.dequantize().astype(float)))


@pytest.mark.parametrize("kernel", [chosen, in_odd_tiles])
@pytest.mark.parametrize("text", FORMATS)
def test_numbers_that_there_are_not_read_zeros(text, kernel):
    w, x = made(text, 4, 64, 96), given(3, 96)
    i = np.asarray([2, -1, 0, 4, 3, 1 << 30, 2, -(1 << 31)], np.int32)
    y = np.full((len(i), 3, 64), np.nan, np.float32)
    kernel(x, i, w, y)
    dense = w.dequantize().astype(float)
    for b, e in enumerate(i):
        if 0 <= e < 4:
            assert near(y[b], x.astype(float) @ dense[e].T)
        else:
            assert not y[b].any()


@pytest.mark.parametrize("text", FORMATS)
def test_elements_and_rows(text):
    w = made(text, 3, 64, 80)
    y = np.full(w.shape, np.nan, np.float32)
    elements(w, y)
    np.testing.assert_array_equal(y, w.dequantize())
    i, j = np.asarray([0, 2, 3, -1, 1], np.int32), np.asarray([63, 0, 5, 5, 64], np.int32)
    y = np.full((5, 80), np.nan, np.float32)
    rows(w, i, j, y)
    np.testing.assert_array_equal(y[:2], w.dequantize()[[0, 2], [63, 0]])
    assert not y[2:].any()


@pytest.mark.parametrize("shape", [(3, 64, 80), (1, 192, 33), (5, 64, 1)])
@pytest.mark.parametrize("text", FORMATS)
def test_what_goes_in_comes_out(text, shape):
    w = made(text, *shape)
    plain = made(text, *shape, layout=Plain())
    assert (w.layout, plain.layout) == (Stream(), Plain())
    parts, wanted = w.parts(), plain.parts()
    assert parts.keys() == wanted.keys()
    for name, part in wanted.items():
        np.testing.assert_array_equal(parts[name], part)
    np.testing.assert_array_equal(w.relayout(Plain()).dequantize(), plain.dequantize())


@pytest.mark.parametrize(("text", "shape"), [
    ("int4<group=32>", (2, 48, 64)), ("int4<group=32>", (2, 3, 64, 64)),
    ("int8<rows=16, group=32>", (2, 64, 64)),
])  # fmt: skip
def test_others_lie_row_by_row(text, shape):
    """Rows that fill no blocks, stacks of stacks, and scales that rows share."""
    assert made(text, *shape).layout == Plain()


def _source(w: tc.PackedTensor):
    types = {"x": tc.bf16, "token": tc.i32, "w": w.format, "expert": tc.i32, "first": tc.i32,
             "end": tc.i32, "offset": tc.i32, "y": tc.f32}  # fmt: skip
    experts, n, k = w.shape
    dims = {"T": 8, "K": k, "E": experts, "N": n, "R": 16, "B": 6, "S": 4}
    return cpu_source(moe.linear.definition, types, dims, engine(), {"w": w.layout})


def test_experts_are_decoded_by_vectors():
    """Not a code of a stream is read for itself; row by row, every one is."""
    stream = _source(made("int4<group=128>", 4, 128, 256))
    plain = _source(made("int4<group=128>", 4, 128, 256, layout=Plain()))
    assert not any(APART in r.message for r in stream.remarks)
    assert any(APART in r.message for r in plain.remarks)
    singly = [s.text.count("load i16") for s in (stream, plain)]
    assert singly[0] == 0 < singly[1]


def test_routed_tokens():
    """Tokens by expert, some experts without any."""
    rng = np.random.default_rng(0)
    picks = np.stack([rng.permutation(5) for _ in range(9)])[:, :2]
    r = plan.route(picks, rng.random(picks.shape), 8)
    t = plan.tasks(r.start, 4)
    x, w = given(9, 96, ml_dtypes.bfloat16), made("int4<group=32>", 8, 64, 96)
    y = np.full((len(r.token), 64), np.nan, np.float32)
    moe.linear(x, r.token.astype(np.int32), w, t.owner, t.first, t.end, t.offset, y)
    owner = np.repeat(np.arange(8), r.counts)
    want = np.einsum("rk,rnk->rn", x[r.token].astype(float), w.dequantize()[owner].astype(float))
    assert near(y, want)
