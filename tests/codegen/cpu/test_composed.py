"""Composed weights in compiled code: one launch, equal to the product with decoded weights."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.cpu import lower

SVDQUANT = "plus<lowrank<8>, int4<group=64>>"
GEAR = "plus<outliers<5>, int2<group=64>, lowrank<4, bf16>>"
MIXLLM = "mixed<10, int8<channel>, int4<group=64>>"
NESTED = f"mixed<4, {SVDQUANT}, int3<group=32>>"
PERMUTED = "permuted<plus<lowrank<8>, int4<group=64>>>"
EVERY = [SVDQUANT, GEAR, MIXLLM, NESTED, "permuted<uint4<group=32, zero=int>>", PERMUTED,
         "lowrank<8>", "outliers<5>"]  # fmt: skip


@tc.kernel
def biased(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], b: tc.Tensor["N"],
           y: tc.Tensor["M", "N"]):  # fmt: skip
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = tc.maximum(acc + b[n], 0.0) + n.index.to(tc.f32)


@tc.kernel
def halved(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K", block=64):
            acc = tc.dot(tc.maximum(x[m, k], 0.0), w[n, k].T) + 0.5 * acc
        y[m, n] = acc


@tc.kernel
def decoded(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k]


@tc.kernel
def picked(w: tc.Tensor["N", "K"], i: tc.Tensor["P"], y: tc.Tensor["P"]):
    for p in tc.tiles("P"):
        y[p] = w[i[p], i[p]]


@tc.kernel
def looked_up(x: tc.Tensor["M", "K"], i: tc.Tensor["N", "J"], y: tc.Tensor["M", "N", "J"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n, :] = x[m, i[n, :]]


def near(got, want, most: float = 3e-6) -> bool:
    return bool(np.linalg.norm(got - want) <= most * np.linalg.norm(want))


def made(text: str, n: int = 130, k: int = 300) -> tc.PackedTensor:
    return tc.quantize(np.random.default_rng(n).standard_normal((n, k)), text, search=False)


@pytest.mark.parametrize("rows", [1, 3, 16, 65])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32], ids=["bf16", "f32"])
@pytest.mark.parametrize("text", EVERY)
def test_a_linear_layer(text, dtype, rows):
    w = made(text)
    x = np.random.default_rng(rows).standard_normal((rows, 300)).astype(dtype)
    y = np.full((rows, 130), np.nan, np.float32)
    kernels.linear(x, w, y)
    assert near(y, x.astype(float) @ w.dequantize().astype(float).T)


@pytest.mark.parametrize("text", EVERY)
def test_with_an_epilogue_that_knows_its_columns(text):
    w, rng = made(text), np.random.default_rng(1)
    x, b = rng.standard_normal((20, 300)), rng.standard_normal(130).astype(np.float32)
    x = x.astype(np.float32)
    y = np.full((20, 130), np.nan, np.float32)
    biased(x, w, b, y)
    want = np.maximum(x.astype(float) @ w.dequantize().astype(float).T + b, 0) + np.arange(130)
    assert near(y, want)


@pytest.mark.parametrize("text", EVERY)
def test_a_loop_that_does_more_than_add(text):
    """Every part stays in the loop, and a remark says so."""
    w, rng = made(text), np.random.default_rng(2)
    x = rng.standard_normal((5, 300)).astype(np.float32)
    y = np.full((5, 130), np.nan, np.float32)
    halved(x, w, y)
    dense, want = w.dequantize().astype(float), np.zeros((5, 130))
    for start in range(0, 300, 64):
        part = slice(start, start + 64)
        want = np.maximum(x[:, part].astype(float), 0) @ dense[:, part].T + 0.5 * want
    assert near(y, want)
    types = {"x": tc.f32, "w": w.format, "y": tc.f32}
    func = lower(halved.definition, types, {"M": 5, "N": 130, "K": 300})
    said = [r.message for r in func.remarks if r.origin == "compose"]
    assert bool(said) == (text != MIXLLM)


def test_the_thin_product_and_the_order_are_made_once():
    types = {"x": tc.bf16, "w": tc.format(PERMUTED), "y": tc.f32}
    func = lower(kernels.linear.definition, types, {"M": 5, "N": 130, "K": 300})
    own = [p.hint for p in func.params if "thin" in p.hint or "ordered" in p.hint]
    assert own == ["w.ordered0", "w.0.thin0"]
    assert len(func.body.ops) == 3


@pytest.mark.parametrize("text", EVERY)
def test_elements_decode_to_their_values(text):
    w = made(text)
    y = np.full(w.shape, np.nan, np.float32)
    decoded(w, y)
    assert near(y, w.dequantize(), 1e-6)


def test_what_is_read_by_index_has_no_code():
    y, i = np.zeros(3, np.float32), np.zeros(3, np.int32)
    with pytest.raises(tc.TileError, match="is read by tiles of rows and columns, not by index"):
        picked(made(SVDQUANT), i, y)
    with pytest.raises(tc.TileError, match=r"permuted<.*> is read by tiles of rows and columns"):
        picked(made(PERMUTED), i, y)
    with pytest.raises(tc.TileError, match="rows of two widths: they are read along one dimension"):
        picked(made(MIXLLM), i, y)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32, np.int32])
@pytest.mark.parametrize("columns", [2, 37])
def test_vectors_of_places(dtype, columns):
    """Places before, at and behind the ends of a row, in rows of an odd length."""
    rng = np.random.default_rng(columns)
    x = (rng.standard_normal((3, columns)) * 8).astype(dtype)
    i = rng.integers(-3, columns + 3, (5, 41)).astype(np.int32)
    i[0, :4] = [0, columns - 1, columns, -1]
    i[1, :2] = [np.iinfo(np.int32).min, np.iinfo(np.int32).max]
    y = np.full((3, 5, 41), 77).astype(dtype)
    looked_up(x, i, y)
    inside = (i >= 0) & (i < columns)
    want = np.where(inside, x[:, np.clip(i, 0, columns - 1)], np.zeros((), dtype))
    np.testing.assert_array_equal(y.astype(float), want.astype(float))
