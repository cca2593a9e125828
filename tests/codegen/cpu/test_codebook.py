"""Learnt codebooks in compiled code: the values of the format, to the bit."""

from __future__ import annotations

from functools import cache

import ml_dtypes
import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.cpu import lower
from tilec.ir.dtype import Array
from tilec.ir.interpret import interpret
from tilec.ir.named import named
from tilec.runtime.tensor import PackedTensor, packed

EVERY = ["codebook<1>", "codebook<2, rows=1>", "codebook<3, rows=1, table=f32>", "codebook<4>",
         "codebook<4, rows=1>", "codebook<4, group=64>", "codebook<5, columns=64>",
         "codebook<4, rows=1, channel, scale=f32>", "codebook<7, rows=5, table=bf16, group=9>",
         "codebook<6, rows=3, columns=100, group=32, scale=e8m0>",
         "codebook<8, rows=2, columns=48>", "codebook<4, vector=2>",
         "codebook<8, vector=4, table=f32>", "codebook<12, vector=8, channel>",
         "codebook<6, vector=2, rows=8, columns=64, group=30, scale=bf16>",
         "codebook<9, vector=4, rows=1, table=bf16>"]  # fmt: skip
COMPOSED = ["plus<codebook<6, vector=8>, codebook<6, vector=8>>",
            "plus<outliers<3>, codebook<4, rows=1>>", "mixed<8, int8, codebook<3, rows=1>>",
            "permuted<codebook<4, group=32>>"]  # fmt: skip


@tc.kernel
def decoded(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k]


@tc.kernel
def stacked(w: tc.Tensor["B", "N", "K"], y: tc.Tensor["B", "N", "K"]):
    for b, n, k in tc.tiles("B", "N", "K"):
        y[b, n, k] = w[b, n, k]


@tc.kernel
def row(w: tc.Tensor["K"], y: tc.Tensor["K"]):
    for k in tc.tiles("K"):
        y[k] = w[k] * 2.0


@tc.kernel
def picked(w: tc.Tensor["N", "K"], i: tc.Tensor["P"], y: tc.Tensor["P"]):
    for p in tc.tiles("P"):
        y[p] = w[i[p], i[p]]


@cache
def drawn(text: str, *shape: int) -> PackedTensor:
    """A tensor whose codes are all that there are, and whose entries and scales are random."""
    format, rng = named(text), np.random.default_rng([*shape])
    parts: dict[str, Array] = {}
    for c in format.components(shape):
        size = tuple(int(str(d)) for d in c.shape)
        if c.dtype.kind == "uint":
            parts[c.name] = rng.permutation(np.arange(np.prod(size)) % (1 << c.dtype.bits))
            parts[c.name] = parts[c.name].reshape(size)
        else:
            parts[c.name] = c.dtype.round(rng.standard_normal(size))
            if c.dtype.name == "e8m0":
                parts[c.name] = np.ldexp(1.0, rng.integers(-3, 4, size))
    return packed(format, parts, shape)


@pytest.mark.parametrize("text", EVERY)
def test_elements_decode_to_the_bit(text):
    w = drawn(text, 37, 531)
    y = np.full(w.shape, np.nan, np.float32)
    decoded(w, y)
    assert y.tobytes() == w.dequantize().tobytes()


@pytest.mark.parametrize("text", EVERY)
def test_the_interpreter_says_the_same(text):
    w = drawn(text, 9, 267)
    func = lower(decoded.definition, {"w": w.format, "y": tc.f32}, {"N": 9, "K": 267})
    parts, y = w.parts(), np.full(w.shape, np.nan)
    interpret(func, {f"w.{name}": part for name, part in parts.items()} | {"y": y}, {})
    assert y.tobytes() == w.format.values(parts, w.shape).tobytes()


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32], ids=["bf16", "f32"])
@pytest.mark.parametrize("text", EVERY)
def test_a_linear_layer(text, dtype, rows):
    w = drawn(text, 37, 301)
    x = np.random.default_rng(rows).standard_normal((rows, 301)).astype(dtype)
    y = np.full((rows, 37), np.nan, np.float32)
    kernels.linear(x, w, y)
    want = x.astype(float) @ w.dequantize().astype(float).T
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("text", COMPOSED)
def test_parts_of_other_formats(text, rows):
    w = tc.quantize(np.random.default_rng(0).standard_normal((37, 301)), text, search=False)
    x = np.random.default_rng(rows).standard_normal((rows, 301)).astype(ml_dtypes.bfloat16)
    y = np.full((rows, 37), np.nan, np.float32)
    kernels.linear(x, w, y)
    want = x.astype(float) @ w.dequantize().astype(float).T
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)


def test_tensors_of_other_ranks():
    for text in ("codebook<4>", "codebook<3, columns=50, group=30>", "codebook<8, vector=4>"):
        w = drawn(text, 701)
        y = np.full(701, np.nan, np.float32)
        row(w, y)
        np.testing.assert_array_equal(y, 2 * w.dequantize())
    for text in ("codebook<4, rows=1>", "codebook<3, rows=4, columns=50>", "codebook<4, channel>"):
        w = drawn(text, 3, 10, 133)
        y = np.full(w.shape, np.nan, np.float32)
        stacked(w, y)
        np.testing.assert_array_equal(y, w.dequantize())


def test_what_is_read_by_index_has_no_code():
    y, i = np.zeros(3, np.float32), np.zeros(3, np.int32)
    with pytest.raises(tc.TileError, match="is read by tiles of rows and columns, not by index"):
        picked(drawn("codebook<4>", 8, 64), i, y)
