"""Codes in interleaved words: decoded in registers, executed from PTX, judged from machine code."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.artifacts import triton_source
from tilec.ir.named import QUANTISED, named
from tilec.ir.source import KernelSource
from tilec.runtime.tensor import PackedTensor, packed
from tilec.runtime.triton import compile_for
from tilec.sass import stats_of

pytest.importorskip("triton")
import triton
import triton_naive
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton_ptx import executed

FLOATS = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}


def linear(x: np.ndarray, w: PackedTensor, dtype: str, target: str) -> np.ndarray:
    """x @ w.T from the PTX that Triton made."""
    m, n = len(x), w.shape[0]
    source = source_of(w, dtype, m)
    y = np.full((m, n), np.nan, np.float32)
    given = {"x": x, "y": y}
    for p in source.params[1:-1]:
        c = p.name.removeprefix("w_")
        order = source.orders.get(f"w.{c}")
        raw = w.parts()[c] if order is None else order.words(w.parts()[c])  # type: ignore[union-attr]
        given[p.name] = raw.astype(np.uint16 if order else np.float16)
    report = executed(source, given, target)
    assert report.clean, report
    return y


def source_of(w: PackedTensor, dtype: str, m: int) -> KernelSource:
    types = {"x": getattr(tc, dtype), "w": w.format, "y": tc.f32}
    n, k = w.shape
    return triton_source(kernels.linear.definition, {"M": m, "N": n, "K": k}, types)


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["int1", "uint1", "int2", "uint2", "int4", "uint4"])
def test_every_code_reaches_a_product(name, dtype, target):
    """Rows of the identity pick codes out; scales are powers of two: exact."""
    k = 256
    format = named(f"{name}<group=256>")
    codes = QUANTISED[name]().codes
    rng = np.random.default_rng(codes.bits)
    parts = {"codes": rng.integers(int(codes.low), int(codes.high) + 1, (64, k)),
             "scale": np.ldexp(1.0, rng.integers(-2, 3, (64, 1)))}  # fmt: skip
    w = packed(format, parts, (64, k))
    for first in range(0, k, 64):
        x = np.eye(k)[first : first + 64].astype(FLOATS[dtype])
        want = w.dequantize().T[first : first + 64]
        assert np.array_equal(linear(x, w, dtype, target), want), first


@pytest.mark.parametrize("rows", [16, 64])
def test_takes_fewer_issue_slots_than_the_naive_kernel(rows):
    """Tiles of `rows` x 64, steps of 128: weights as the first operand of wgmma, in registers."""
    types = {"x": "*fp16", "w": "*i32", "s": "*fp16", "y": "*fp32"}
    sizes = {"M": rows, "N": 4096, "K": 4096, "BM": rows, "BN": 64}
    signature = types | dict.fromkeys(sizes, "constexpr")
    even = {(i,): [["tt.divisibility", 16]] for i in range(4)}
    made = triton.compile(ASTSource(triton_naive.w4a16_kernel, signature, sizes, even),
                          target=GPUTarget("cuda", 90, 32))  # fmt: skip
    (naive,) = stats_of(made.asm["cubin"])
    format = named("int4<group=128>")
    types = {"x": tc.f16, "w": format, "y": tc.f32}
    dims = {"M": rows, "N": 4096, "K": 4096}
    source = triton_source(kernels.linear.definition, dims, types)
    (ours,) = stats_of(compile_for(source, "sm_90").cubin)
    assert naive.loop is not None
    assert ours.loop is not None
    assert naive.loop.instructions > 2.5 * ours.loop.instructions
    assert ours.loop.count("HGMMA.RS") == 8
    assert not ours.loop.count("STS")
    assert not ours.spills
