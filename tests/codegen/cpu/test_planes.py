"""Codes in planes in compiled code: every code of every type, and products with them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from formats import PUBLISHED_SCALED, random_parts, scaled
from lang import kernels

import tilec as tc
from tilec.compile import cpu_source
from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES
from tilec.ir.named import QUANTISED, named
from tilec.ir.planes import Planes
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.tensor import PackedTensor, packed

ELEMENTS = sorted([*QUANTISED, *(n for n in CODES if n != "e8m0"), "e4m3", "e5m2"])
SPLIT = {1: "1", 2: "1, 1", 3: "2, 1", 4: "3, 1", 5: "4, 1", 6: "4, 2", 7: "4, 2, 1", 8: "5, 3"}


@tc.kernel
def decoded(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k]


@tc.kernel
def stacked(w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "N", "K"]):
    for e, n in tc.tiles("E", "N"):
        y[e, n, :] = w[e, n, :]


def planes(text: str, split: bool) -> Planes:
    """The format in planes of one bit, or of widths that its codes have."""
    bits = scaled(text).codes.bits
    format = named(f"planes<{text}, {SPLIT[bits]}>" if split else f"planes<{text}>")
    assert isinstance(format, Planes)
    return format


def taken_apart(format: Planes, shape: tuple[int, ...], exact: bool, finite: bool = True
                ) -> PackedTensor:  # fmt: skip
    """Random components of the scaled format, with every code in them, in planes."""
    t = format.codes
    raw = np.arange(int(np.prod(shape))).reshape(shape) * 37 % (1 << t.bits)
    codes = from_raw(t, raw)
    codes = np.where(np.isfinite(codes), codes, from_raw(t, np.zeros(1, int))) if finite else codes
    parts = random_parts(format.scaled, shape, exact) | {"codes": codes}
    return packed(format, format.apart(parts), shape)


@pytest.mark.parametrize(("name", "split"), [*((n, True) for n in ELEMENTS), ("uint3", False),
                                             ("int8", False), ("e3m2", False), ("nf4", False)]
                         )  # fmt: skip
def test_every_code_decodes_to_its_value(name, split):
    """Infinities, NaNs and -0 too, at places of every kind in a row of odd length."""
    format = planes(f"{name}<group=32, scale=f32>", split)
    w = taken_apart(format, (40, 259), exact=True, finite=False)
    want = format.inner.values(format.joined(w.parts()), w.shape)
    y = np.full(w.shape, 77, np.float32)
    decoded(w, y)
    assert np.array_equal(y, want, equal_nan=True)
    number = ~np.isnan(want)
    assert np.array_equal(np.signbit(y)[number], np.signbit(want)[number])


@pytest.mark.parametrize("name", PUBLISHED_SCALED)
def test_scales_and_zeros_are_those_of_the_scaled_format(name):
    """Scales of every granularity, some of which have formats of their own: equal to the bit."""
    format = planes(name, split=True)
    w = taken_apart(format, (133, 301), exact=False)
    y = np.full(w.shape, np.nan, np.float32)
    decoded(w, y)
    plain = packed(format.inner, format.joined(w.parts()), w.shape)
    want = np.full(w.shape, np.nan, np.float32)
    decoded(plain, want)
    assert np.array_equal(y, want)
    assert np.array_equal(y, w.dequantize())


@pytest.mark.parametrize(
    "options",
    ["group=24, zero=none", "channel, zero=mid", "tensor, zero=int", "rows=8, group=32, zero=float",
     "rows=8, channel, zero=shift", "rows=3, group=7, zero=min", "tensor, zero=shift",
     "rows=16, channel, zero=int", "group=1000, zero=float", "channel, zero=min"],
)  # fmt: skip
def test_every_zero_and_block(options):
    format = planes(f"uint5<{options}>", split=True)
    w = taken_apart(format, (37, 101), exact=False)
    y = np.full(w.shape, np.nan, np.float32)
    decoded(w, y)
    assert np.array_equal(y, format.inner.values(format.joined(w.parts()), w.shape))


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize(
    ("text", "dtype"),
    [("planes<int3<group=64>>", "bf16"), ("planes<int3<group=64>, 2, 1>", "f32"),
     ("fp6_llm", "bf16"), ("planes<uint5<group=32, zero=int>, 4, 1>", "bf16"),
     ("planes<uint7<group=64, zero=shift>, 4, 2, 1>", "f32"), ("planes<fp8_block, 4, 4>", "bf16"),
     ("planes<nvfp4, 2, 2>", "f32"), ("planes<apt3>", "bf16")],
)  # fmt: skip
def test_a_linear_layer(text, dtype, rows):
    w = tc.quantize(np.random.default_rng(0).standard_normal((131, 301)), text, search=False)
    x = np.random.default_rng(rows).standard_normal((rows, 301))
    x = x.astype({"bf16": ml_dtypes.bfloat16, "f32": np.float32}[dtype])
    y = np.full((rows, 131), np.nan, np.float32)
    kernels.linear(x, w, y)
    want = x.astype(float) @ w.dequantize().astype(float).T
    assert np.linalg.norm(y - want) < 3e-6 * np.linalg.norm(want)


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("name", ["int3", "uint5", "e3m2", "sm4"])
def test_whole_numbers_are_exact(name, rows):
    """Powers of two as scales, small whole activations: the product of the scaled format."""
    format = planes(f"{name}<group=32>", split=True)
    w = taken_apart(format, (77, 131), exact=True)
    x = np.random.default_rng(rows).integers(-4, 5, (rows, 131)).astype(np.float32)
    y, want = np.full((2, rows, 77), np.nan, np.float32)
    kernels.linear(x, w, y)
    kernels.linear(x, packed(format.inner, format.joined(w.parts()), w.shape), want)
    assert np.array_equal(y, want)


@pytest.mark.parametrize("cpu", ["x86-64-v2", "x86-64-v3"])
@pytest.mark.parametrize("name", ["int3", "e3m2", "nf4", "e4m3_ieee", "sm5", "bipolar7"])
def test_on_processors_with_less(name, cpu):
    older = Engine(Cache(None), host_machine(cpu, "+avx2,+fma" if cpu.endswith("v3") else ""))
    format = planes(f"{name}<group=32, scale=f32>", split=True)
    w = taken_apart(format, (21, 67), exact=True, finite=False)
    y = np.full(w.shape, 77, np.float32)
    types, dims = {"w": format, "y": tc.f32}, {"N": 21, "K": 67}
    compiled = older.load(cpu_source(decoded.definition, types, dims, host=older))
    older.dispatcher("decoded", lambda _, c=compiled: c).launch(w, y)
    want = format.inner.values(format.joined(w.parts()), w.shape)
    assert np.array_equal(y, want, equal_nan=True)


@pytest.mark.parametrize("text", ["int3<group=32>", "uint6<rows=4, group=24, zero=min>", "fp6"])
def test_tensors_of_three_dimensions(text):
    format = planes(text, split=True)
    w = taken_apart(format, (3, 10, 70), exact=False)
    y = np.full(w.shape, np.nan, np.float32)
    stacked(w, y)
    assert np.array_equal(y, w.dequantize())


@pytest.mark.parametrize("text", ["plus<planes<int3<group=64>, 2, 1>, lowrank<4>>",
                                  "mixed<5, planes<int8, 4, 4>, planes<int3>>",
                                  "permuted<planes<fp6, 4, 2>>"])  # fmt: skip
def test_parts_of_composed_formats(text):
    w = tc.quantize(np.random.default_rng(0).standard_normal((70, 150)), text, search=False)
    x = np.random.default_rng(1).standard_normal((33, 150)).astype(np.float32)
    y = np.full((33, 70), np.nan, np.float32)
    kernels.linear(x, w, y)
    want = x.astype(float) @ w.dequantize().astype(float).T
    assert np.linalg.norm(y - want) < 3e-6 * np.linalg.norm(want)
