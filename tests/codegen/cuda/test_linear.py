"""One `linear` through the CUDA back end, executed under emulation: formats, shapes, edges."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from lang import kernels

import tilec as tc
from tilec.ir.named import QUANTISED, named

FLOATS = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32}
SHAPES = [pytest.param(s, marks=[] if s[0] in (1, 64) else pytest.mark.slow, id=str(s))
          for s in ((1, 67, 300), (16, 64, 256), (64, 130, 256), (200, 67, 300))]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("t", FLOATS)
def test_dense(t, shape):
    """Whole numbers: every partial sum is exact, so the result is, whatever the order."""
    m, n, k = shape
    rng = np.random.default_rng(m)
    x, w = (rng.integers(-4, 5, size).astype(FLOATS[t]) for size in ((m, k), (n, k)))
    types = {"x": getattr(tc, t), "w": getattr(tc, t), "y": tc.f32}
    y = poisoned((m, n), tc.f32)
    run(program_of(kernels.linear, types, {"M": m, "N": n, "K": k}), {"x": x, "w": w, "y": y})
    assert np.array_equal(y, x.astype(float) @ w.astype(float).T)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("text", ["int4<group=128>", "uint4<group=64, zero=int>",
                                  "uint4<channel, zero=float>", "int3<group=32>", "uint2<group=64>",
                                  "int8<channel>", "int5<group=100>", "uint6<group=64, zero=shift>",
                                  "int4<group=32, zero=min>", "uint1<group=64>"])  # fmt: skip
def test_whole_codes(text, shape):
    m, n, k = shape
    rng = np.random.default_rng(k)
    w = tc.quantize(rng.standard_normal((n, k)), text, search=False)
    x = rng.standard_normal((m, k)).astype(np.float16)
    y = poisoned((m, n), tc.f32)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    run(program_of(kernels.linear, types, {"M": m, "N": n, "K": k}), {"x": x, "w": w, "y": y})
    assert far(y, x.astype(float) @ w.dequantize().astype(float).T) < 1e-6


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("t", ["f16", "bf16"])
def test_every_code_in_fragment_order(t, bits):
    """Rows of the identity pick codes out of a product; scales are powers of two: exact."""
    for name in (f"int{bits}", f"uint{bits}"):
        text = f"{name}<group=128>"
        rng = np.random.default_rng(bits)
        format = named(text)
        low, high = int(QUANTISED[name]().codes.low), int(QUANTISED[name]().codes.high)
        parts = {"codes": rng.integers(low, high + 1, (128, 128)),
                 "scale": np.ldexp(1.0, rng.integers(-2, 3, (128, 1)))}  # fmt: skip
        w = tc.runtime.tensor.packed(format, parts, (128, 128))
        x = np.eye(128).astype(FLOATS[t])
        y = poisoned((128, 128), tc.f32)
        types = {"x": getattr(tc, t), "w": format, "y": tc.f32}
        program = program_of(kernels.linear, types, {"M": 128, "N": 128, "K": 128},
                             m=64, n=128, k=128 if bits == 1 else 64)  # fmt: skip
        assert "w.codes" in program.source.orders
        run(program, {"x": x, "w": w, "y": y})
        assert np.array_equal(y, w.dequantize().T), text
