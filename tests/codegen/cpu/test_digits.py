"""Rows of bf16 times codes that are whole numbers, as products of bytes: one for each digit."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
from formats import random_parts, scaled
from lang import kernels
from piped import Piped

import tilec as tc
from tilec.compile import engine
from tilec.ir.dtype import Array
from tilec.passes.pipeline import Option
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import assembly, host_machine
from tilec.runtime.tensor import PackedTensor, packed

FEATURES = "+avx2,+fma,+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512vnni,+avx512vbmi"
FORMATS = [
    *(f"int{bits}<group=64, scale=f32>" for bits in range(1, 9)),
    "uint4<channel, scale=f32, zero=int>", "uint2<group=16, scale=f16, zero=min>",
    "uint3<group=48, scale=f32, zero=float>", "bipolar1<group=32, scale=f32>",
    "e2m1<group=16, scale=e4m3<tensor, scale=f32>>", "e2m3<group=32, scale=f32>",
    "ternary<tensor, scale=f32>", "sm4<group=32, scale=f32>", "iq4<group=32, scale=f16>",
]  # fmt: skip
PRODUCT = "llvm.x86.avx512.vpdpbusd.512("


@pytest.fixture(scope="module")
def host() -> Engine:
    """A processor that multiplies bytes and no bf16, on this one."""
    has = engine().machine.features.split(",")
    if any(f not in has for f in FEATURES.split(",")):
        pytest.skip(f"this processor lacks one of {FEATURES}")
    return Engine(Cache(None), host_machine("x86-64-v4", FEATURES))


def source(host: Engine, w: PackedTensor, m: int, step: int = 0):
    types = {"x": tc.bf16, "w": w.format, "y": tc.f32}
    options: dict[str, dict[str, Option]] = {"tile": {"k": step}} if step else {}
    n, k = w.shape
    return Piped(kernels.linear, options).compiled(types, {"M": m, "N": n, "K": k}, host)


def product(host: Engine, x: Array, w: PackedTensor, step: int = 0) -> Array:
    found = source(host, w, len(x), step)
    assert PRODUCT in found.text
    y = np.full((len(x), w.shape[0]), np.nan, np.float32)
    compiled = host.load(found)
    host.dispatcher("linear", lambda _: compiled).launch(x.astype(ml_dtypes.bfloat16), w, y)
    return y


def weight(text: str, shape: tuple[int, int]) -> PackedTensor:
    format = scaled(text)
    return packed(format, random_parts(format, shape), shape)


@pytest.mark.parametrize("text", FORMATS)
def test_every_code_and_digit_takes_part(host, text):
    """Numbers of a row are up to 2**14 apart, so that each of its digits counts."""
    rng, w = np.random.default_rng(0), weight(text, (67, 384))
    dense = w.dequantize().astype(np.float64)
    for m in (1, 2, 3, 8, 13) if text == FORMATS[3] else (1, 6):
        x = rng.integers(-127, 128, (m, 384)) * 2.0 ** rng.integers(-7, 7, (m, 384))
        error = np.linalg.norm(product(host, x, w) - x @ dense.T)
        assert error < 3e-7 * np.linalg.norm(x @ dense.T)


@pytest.mark.parametrize("text", ["int4<group=64, scale=f32>", "nvfp4", "int8<channel, scale=f32>"])
def test_rounding_is_that_of_sums_in_f32(host, text):
    """Also where few numbers are a thousand times as great as the others, or all of them far from
    1, whatever the sign of the exponent."""
    rng, w = np.random.default_rng(0), weight(text, (128, 1024))
    dense = w.dequantize().astype(np.float64)
    usual = rng.standard_normal((4, 1024))
    few = np.where(rng.random((4, 1024)) < 0.01, 1000.0, 1.0)
    for x in (usual, usual * few, usual * 2.0**-80, usual * 2.0**100):
        x = x.astype(ml_dtypes.bfloat16).astype(np.float64)
        error = np.linalg.norm(product(host, x, w).astype(np.float64) - x @ dense.T)
        assert error < 3e-7 * np.linalg.norm(x @ dense.T)


def test_what_is_rounded_is_small_beside_the_greatest(host):
    """|error| <= K * 2**-21 * max |x| max |w|, however far apart the numbers of a row are."""
    rng, w = np.random.default_rng(0), weight("int8<group=64, scale=f32>", (64, 512))
    dense = w.dequantize().astype(np.float64)
    x = rng.standard_normal((2, 512)) * 2.0 ** rng.integers(-60, 60, (2, 512))
    x = x.astype(ml_dtypes.bfloat16).astype(np.float64)
    error = np.abs(product(host, x, w, 64) - x @ dense.T)
    assert (error <= 512 * 2.0**-21 * np.abs(x).max() * np.abs(dense).max()).all()


def test_rows_of_zeros_and_of_any_other_numbers(host):
    """What has no digits is multiplied as floats are: infinities, NaN, all very small."""
    rng, w = np.random.default_rng(0), weight("int4<group=64, scale=f32>", (128, 256))
    dense = w.dequantize().astype(np.float64)
    for m in (1, 2, 6, 11):
        for special in (0.0, np.inf, -np.inf, np.nan, 2.0**-110, 1e36):
            x = rng.standard_normal((m, 256))
            x[-1, 70:90] = special
            if abs(special) < 1:
                x[-1, 64:128] = special  # a whole step
            x = x.astype(ml_dtypes.bfloat16).astype(np.float64)
            if abs(special) < 1:
                x[-1] = special
            with np.errstate(invalid="ignore", over="ignore"):
                want = x @ dense.T
                got = product(host, x, w).astype(np.float64)
            assert np.array_equal(np.isnan(got), np.isnan(want))
            assert np.array_equal(np.isposinf(got), np.isposinf(want))
            for g, e in zip(got, want, strict=True):
                if np.isfinite(e).all():
                    assert np.linalg.norm(g - e) <= 1e-6 * np.linalg.norm(e), special


@pytest.mark.parametrize("m", [*range(1, 9), 11, 16])
def test_sums_stay_in_registers(host, m):
    """Beside up to 24 of them there is room for one number of a row and two vectors of codes."""
    text = assembly(source(host, weight("int4<group=128, scale=f32>", (128, 256)), m).text,
                    host.machine)  # fmt: skip
    loops = [block for block in text.split(":\n") if block.count("vpdpbusd") >= 12]
    assert loops
    for block in loops:
        assert not re.search(r"vmov\w+\s+(%zmm\d+, -?\d*\(%rsp\)|-?\d*\(%rsp\), %zmm)", block)


def test_where_floats_are_as_fast_they_are_multiplied():
    """And for more rows, and for codes that are no whole numbers."""
    looked_up = "e2m1<group=32, scale=f32>"
    older = host_machine("x86-64-v4", FEATURES)
    newer = host_machine("znver5", FEATURES + ",+avx512bf16")
    slow = host_machine("sapphirerapids", newer.features)
    four, floats = "int4<group=64, scale=f32>", "e4m3<group=32, scale=e8m0>"
    for machine, text, m, digits in (
        (older, four, 16, True), (older, four, 17, False), (older, floats, 1, False),
        (older, looked_up, 8, True), (older, looked_up, 9, False),
        (newer, four, 1, False), (slow, four, 1, True),
    ):  # fmt: skip
        found = source(Engine(Cache(None), machine), weight(text, (128, 256)), m)
        assert (PRODUCT in found.text) == digits, (machine.cpu, text, m)
