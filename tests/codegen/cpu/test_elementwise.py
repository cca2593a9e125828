"""Grids, seeds and stacks of signs in compiled code: the values of the format, to the bit."""

from __future__ import annotations

from functools import cache

import ml_dtypes
import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.cpu import lower
from tilec.ir.bits import from_raw
from tilec.ir.dtype import Array
from tilec.ir.interpret import interpret
from tilec.ir.named import named
from tilec.runtime.tensor import PackedTensor, packed

EVERY = ["grid<8, 256, 32, even>", "grid<8, 512, 16, even>", "grid<8, 1024, 16, each>",
         "grid<4, 256, 32, even>", "grid<4, 512, 32, each>", "grid<8, 2048, 32, none, u3, 32>",
         "grid<8, 2048, 16, none, u3, 8>", "grid<2, 4, 64, each, u8>", "seedlm<8, 3>",
         "seedlm<12, 4>", "seedlm<3, 5>", "bitstack<1, 1>", "bitstack<4, 5>"]  # fmt: skip
SUMS = ["plus<grid<8, 256, 32, even>, lowrank<4>>", "plus<seedlm<8, 3>, outliers<2>>",
        "mixed<8, bitstack<2, 2>, seedlm<8, 3>>"]  # fmt: skip


@tc.kernel
def decoded(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k]


@tc.kernel
def row(w: tc.Tensor["K"], y: tc.Tensor["K"]):
    for k in tc.tiles("K"):
        y[k] = w[k] * 2.0


@tc.kernel
def picked(w: tc.Tensor["N", "K"], i: tc.Tensor["P"], y: tc.Tensor["P"]):
    for p in tc.tiles("P"):
        y[p] = w[i[p], i[p]]


@cache
def drawn(text: str, n: int, k: int) -> PackedTensor:
    """A tensor whose components have every bit set at some place; numbers are of common size."""
    format, rng = named(text), np.random.default_rng([n, k])
    parts: dict[str, Array] = {}
    for c in format.components((n, k)):
        shape = tuple(int(str(d)) for d in c.shape)
        if c.dtype.is_float:
            parts[c.name] = c.dtype.round(rng.standard_normal(shape))
        else:
            raw = rng.integers(0, 1 << c.dtype.bits, shape)
            parts[c.name] = from_raw(c.dtype, raw) if c.dtype.bits <= 8 else raw
    return packed(format, parts, (n, k))


@cache
def rounded(text: str) -> PackedTensor:
    """A normal sample."""
    return tc.quantize(np.random.default_rng(4).standard_normal((40, 300)), text, search=False)


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


def test_every_seed_in_compiled_code():
    seeds = np.arange(1 << 16).reshape(256, 256)
    rng = np.random.default_rng(0)
    parts = {"seeds": seeds, "coefficients": rng.integers(-8, 8, (256, 256 * 4)),
             "exponents": seeds % 16, "scale": np.array([2.0**-20])}  # fmt: skip
    w = packed(named("seedlm<12, 4>"), parts, (256, 256 * 12))
    y = np.full(w.shape, np.nan, np.float32)
    decoded(w, y)
    assert y.tobytes() == w.dequantize().tobytes()


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32], ids=["bf16", "f32"])
@pytest.mark.parametrize("text", [*EVERY, *SUMS])
def test_a_linear_layer(text, dtype, rows):
    rng = np.random.default_rng(rows)
    w = drawn(text, 40, 300) if text in EVERY else rounded(text)
    x = rng.standard_normal((rows, 300)).astype(dtype)
    y = np.full((rows, 40), np.nan, np.float32)
    kernels.linear(x, w, y)
    want = x.astype(float) @ w.dequantize().astype(float).T
    assert np.linalg.norm(y - want) <= 3e-6 * np.linalg.norm(want)


@pytest.mark.parametrize("text", ["grid<8, 256, 32, even>", "seedlm<8, 3>"])
def test_a_tensor_of_one_dimension(text):
    w = tc.quantize(np.random.default_rng(5).standard_normal(700), text, search=False)
    y = np.full(700, np.nan, np.float32)
    row(w, y)
    np.testing.assert_array_equal(y, 2 * w.dequantize())


def test_what_is_read_by_index_has_no_code():
    y, i = np.zeros(3, np.float32), np.zeros(3, np.int32)
    for text in ("grid<8, 256, 32>", "seedlm<8, 3>", "bitstack<2, 2>"):
        w = tc.quantize(np.ones((8, 64)), text, search=False)
        with pytest.raises(tc.TileError, match="is read by tiles of rows and columns, not by ind"):
            picked(w, i, y)
