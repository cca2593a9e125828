"""Products of whole codes: activations and weights of at most 8 bits, multiplied as bytes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from formats import random_parts, scaled
from lang import kernels

import tilec as tc
from tilec.cpu import cpu_source
from tilec.ir.dtype import Array
from tilec.ir.named import QUANTISED, named
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.tensor import PackedTensor, packed

WHOLE = [*sorted(QUANTISED), "ternary", *(f"sm{b}" for b in range(2, 9)),
         *(f"bipolar{b}" for b in range(1, 8))]  # fmt: skip

SHAPES = [pytest.param(s, marks=[] if s[0] == 5 else pytest.mark.slow, id=str(s))
          for s in ((1, 64, 256), (5, 67, 300), (70, 130, 515))]  # fmt: skip


def random_tensor(text: str, shape: tuple[int, int], exact: bool = True) -> PackedTensor:
    format = scaled(text)
    return packed(format, random_parts(format, shape, exact), shape)


def product(x: Array | PackedTensor, w: Array | PackedTensor) -> Array:
    y = np.full((x.shape[0], w.shape[0]), np.nan, np.float32)
    kernels.linear(x, w, y)
    return y


def far(y: Array, x: Array, w: Array) -> float:
    """The error of y by its norm, beside the product in float64."""
    want = x.astype(np.float64) @ w.astype(np.float64).T
    return float(np.linalg.norm(y - want) / np.linalg.norm(want))


@pytest.mark.parametrize("rows", [2, 20])
@pytest.mark.parametrize("name", WHOLE)
def test_every_code_reaches_a_product_of_bytes(name, rows):
    """Rows with one element pick codes out, each extreme of i8 among them: exact."""
    for block in ("group=32", "channel", "group=24"):
        w = random_tensor(f"{name}<{block}>", (70, 128))
        for start in range(0, 128, 40):
            x = np.zeros((rows, 128), np.int8)
            for r in range(rows):
                x[r, (start + 7 * r) % 128] = (1, -128, 127, -1)[r % 4]
            want = x.astype(float) @ w.dequantize().astype(float).T
            assert np.array_equal(product(x, w), want.astype(np.float32)), (w, start)


def test_the_instruction_is_used_where_both_are_whole():
    """Not for codes that are no whole numbers, nor for activations without a sign; of so many rows
    that they are not split into digits."""
    for x, w, found in (
        (tc.i8, "int4<group=64>", True),
        (named("int8<channel>"), "uint3<group=64, zero=int>", True),
        (named("dynamic<int4<group=32>, bf16>"), "ternary<group=64>", True),
        (tc.i8, "nf4<group=64>", False),
        (tc.u8, "int4<group=64>", False),
        (named("e4m3<channel>"), "int4<group=64>", False),
        (tc.f32, "int4<group=64>", False),
    ):
        types = {"x": x, "w": named(w), "y": tc.f32}
        text = kernels.linear.source(types, {"M": 64, "N": 64, "K": 256})
        able = "+avx512vnni" in text and "+avx512vbmi," in text
        assert ("vpdpbusd" in text) == (found and able), (x, w)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("x", ["int8<channel>", "int8<group=128>", "int8<tensor>", "int4<channel>",
                               "uint4<channel>", "uint4<channel, zero=int>",
                               "int8<rows=2, group=64>", "sm4<group=32>", "e4m3<channel>",
                               "fp6<channel>"])  # fmt: skip
def test_both_operands_quantised(x, shape):
    m, n, k = shape
    rng = np.random.default_rng(m)
    a = tc.quantize(rng.standard_normal((m, k)), x, search=False)
    for w in ("int4<group=128>", "uint4<group=64, zero=int>", "uint8<group=32>", "int8<channel>",
              "bipolar3<group=128>", "int3<group=32, zero=min>", "nf4<group=64>"):  # fmt: skip
        b = tc.quantize(rng.standard_normal((n, k)), w, search=False)
        assert far(product(a, b), a.dequantize(), b.dequantize()) < 5e-7, w


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("x", ["int8<scale=f32>", "int8<group=128>", "int4<group=64, scale=bf16>",
                               "e4m3<scale=f32>", "e5m2<group=128>",
                               "e4m3<group=48, scale=f32>",
                               pytest.param("mxfp8", marks=pytest.mark.slow)])  # fmt: skip
def test_activations_that_the_kernel_quantises(x, shape):
    m, n, k = shape
    rng = np.random.default_rng(k)
    data = rng.standard_normal((m, k)) * np.exp(rng.standard_normal((m, 1)))
    dense = torch.tensor(data).bfloat16()
    a = tc.dynamic(dense, x)
    for w in ("int4<group=128>", "int8<channel>", "uint5<group=32, zero=shift>", "nf4<group=64>"):
        b = tc.quantize(rng.standard_normal((n, k)), w, search=False)
        assert far(product(a, b), a.dequantize(), b.dequantize()) < 5e-7, w
    assert far(product(a, data.astype(np.float32)), a.dequantize(), data) < 1e-6


@tc.kernel
def decoded(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k]


@pytest.mark.parametrize("text", ["int8<scale=f32>", "int8<group=24>", "int3<group=7, scale=bf16>",
                                  "e4m3<group=16, scale=f32>",
                                  "e5m2<channel, scale=f32>", "mxfp8",
                                  pytest.param("mxfp4", marks=pytest.mark.slow)])  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16], ids=str)
def test_a_kernel_rounds_as_the_format_says(text, dtype):
    """To the bit, also where a row is zero, tiny, huge, or not finite."""
    rng = np.random.default_rng(8)
    x = (rng.standard_normal((9, 50)) * np.exp2(rng.integers(-9, 9, (9, 1)))).astype(dtype)
    x[1], x[2, 3], x[4, 5], x[5, 49] = 0, np.inf, np.nan, -np.inf
    x[3] = np.asarray(rng.standard_normal(50) * 6e-8).astype(dtype)
    for m in (1, 9):
        a = tc.dynamic(x[:m], text)
        y = np.full((m, 50), 7.0, np.float32)
        decoded(a, y)
        assert np.array_equal(y, a.dequantize(), equal_nan=True)
        assert m == 1 or (np.isnan(y).sum() and not y[1].any())


def test_each_launch_rounds_what_the_tensor_holds():
    x = np.ones((4, 64), np.float32)
    w = tc.quantize(np.eye(64), "int8<channel, scale=f32>")
    a = tc.dynamic(x, "int8<scale=f32>")
    first = product(a, w)
    x *= 3
    assert np.allclose(product(a, w), 3 * first, rtol=1e-6)


def test_what_is_written_between_grids_is_read_anew():
    """The codes of an operand are memory of the kernel's own: copies of them are made after."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 256)).astype(np.float32)
    a = tc.dynamic(x, "int8<group=64, scale=f32>")
    w = tc.quantize(rng.standard_normal((200, 256)), "int4<group=64>", search=False)
    for _ in range(3):
        x[:] = rng.standard_normal((40, 256))
        assert far(product(a, w), a.dequantize(), w.dequantize()) < 5e-7


@pytest.mark.parametrize("machine", ["x86-64-v2", "x86-64-v3", "skylake-avx512", "cascadelake"])
def test_on_processors_with_less(machine):
    """Without products of bytes, or without permutations of them."""
    features = {"x86-64-v2": "", "x86-64-v3": "+avx2,+fma"}.get(
        machine, "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512dq"
        + (",+avx512vnni" if machine == "cascadelake" else ""))  # fmt: skip
    older = Engine(Cache(None), host_machine(machine, features))
    rng = np.random.default_rng(2)
    w = tc.quantize(rng.standard_normal((70, 96)), "int4<group=32>", search=False)
    for m in (2, 9):
        x = rng.integers(-128, 128, (m, 96)).astype(np.int8)
        types = {"x": tc.i8, "w": w.format, "y": tc.f32}
        source = cpu_source(kernels.linear.definition, types, {"M": m, "N": 70, "K": 96},
                            host=older)  # fmt: skip
        compiled = older.load(source)
        y = np.full((m, 70), np.nan, np.float32)
        older.dispatcher("linear", lambda _, c=compiled: c).launch(x, w, y)
        assert far(y, x, w.dequantize()) < 5e-7
