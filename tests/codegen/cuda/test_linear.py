"""One `linear` through the CUDA back end, executed under emulation: formats, shapes, edges."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from lang import kernels
from warpgroups import schedule, whole

import tilec as tc
from tilec.cuda import Schedule
from tilec.ir.bits import from_raw
from tilec.ir.named import named
from tilec.ir.scaled import Scaled


@tc.kernel
def summed(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], v: tc.Tensor["N", "K"],
           y: tc.Tensor["M", "N"]):  # fmt: skip
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
            acc += tc.dot(x[m, k], v[n, k].T)
        y[m, n] = acc


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


CODES = [*(f"{sign}int{bits}" for sign in ("", "u") for bits in range(1, 9)), "e4m3", "e5m2",
         "e2m1", "e3m2", "e2m3", "e2m2", "e3m0", "iq4", "ternary", "sm4", "bipolar3",
         "fixed8"]  # fmt: skip
FEW = ("int3", "uint4", "int8", "e4m3", "e2m1", "iq4")


@pytest.mark.parametrize("t", ["f16", "bf16"])
@pytest.mark.parametrize("name", [
    pytest.param(n, marks=[] if n in FEW else pytest.mark.slow) for n in CODES
])  # fmt: skip
def test_every_code_in_fragment_order(name, t):
    """Rows of the identity pick codes out of a product; scales are powers of two: exact."""
    text = f"{name}<group=128>"
    x = np.eye(128).astype(FLOATS[t])
    program, y, w = picked(text, getattr(tc, t), x)
    assert {"w.codes", "w.scale"} <= program.source.orders.keys()
    assert np.array_equal(y, w.dequantize().T), text


@pytest.mark.parametrize("name", [
    "int4", "uint4", pytest.param("int8", marks=pytest.mark.slow),
    *(pytest.param(n, marks=pytest.mark.slow) for n in ("int1", "int2", "int3", "int5", "int6",
                                                        "int7", "uint3", "ternary", "sm4"))
])  # fmt: skip
def test_every_code_as_bytes(name):
    """The same beside whole numbers: what is multiplied are bytes, and sums are whole numbers."""
    text = f"{name}<group=128>"
    program, y, w = picked(text, tc.i8, np.eye(128).astype(np.int8))
    assert "mma<32, s8, s8>" in program.source.text
    assert np.array_equal(y, w.dequantize().T), text


@pytest.mark.parametrize(("name", "t"), [
    ("int3", "f16"), ("int5", "i8"), *(pytest.param(*x, marks=pytest.mark.slow) for x in (
        ("uint5", "f16"), ("int6", "bf16"), ("int7", "f16"), ("int8", "f16"), ("int3", "i8"),
        ("e3m2", "f16"), ("e2m1", "f16"), ("iq4", "f16"), ("ternary", "f16"), ("sm4", "bf16"),
    )),
])  # fmt: skip
def test_every_width_by_warp_groups(name, t):
    """wgmma with the decoded codes as A in registers: whole numbers, so exact."""
    m, n, k = 16, 128, 512
    rng, x_type = np.random.default_rng(len(name)), getattr(tc, t)
    w = random_codes(f"{name}<group=256>", (n, k), rng)
    x, y = whole(rng, x_type, m, k), poisoned((m, n), tc.f32)
    types = {"x": x_type, "w": w.format, "y": tc.f32}
    program = program_of(kernels.linear, types, {"M": m, "N": n, "K": k},
                         schedule(256, swap="small"), m=16, n=128, k=128)  # fmt: skip
    assert "w.codes" in program.source.orders
    assert "wgmma" in program.source.text
    run(program, {"x": x, "w": w, "y": y})
    assert np.array_equal(y, x.astype(float) @ w.dequantize().astype(float).T)


@pytest.mark.parametrize("warps", [0, 1])
@pytest.mark.parametrize("text", ["int3<group=128>", "mxfp4", "e4m3<channel>"])
def test_bulk_copies(text, warps):
    """Fragment order in rings that one thread fills, of widths that lie across bytes, too."""
    m, n, k = 16, 128, 384
    rng = np.random.default_rng(k)
    w = tc.quantize(rng.standard_normal((n, k)), text, search=False)
    x, y = rng.standard_normal((m, k)).astype(np.float16), poisoned((m, n), tc.f32)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    program = program_of(kernels.linear, types, {"M": m, "N": n, "K": k},
                         Schedule(copies="bulk", specialise=warps))  # fmt: skip
    assert "w.codes" in program.source.orders
    run(program, {"x": x, "w": w, "y": y})
    assert far(y, x.astype(float) @ w.dequantize().astype(float).T) < 1e-6


def random_codes(text, shape, rng):
    """Any finite codes, and scales that are powers of two."""
    format = named(text)
    assert isinstance(format, Scaled)
    every = from_raw(format.codes, np.arange(1 << format.codes.bits))
    every = every[np.isfinite(every)]  # NaN would be all that there is of its column
    blocks = shape[0], shape[1] // (format.group or shape[1])
    parts = {"codes": every[rng.integers(0, len(every), shape)],
             "scale": np.ldexp(1.0, rng.integers(-2, 3, blocks))}  # fmt: skip
    return tc.runtime.tensor.packed(format, parts, shape)


def picked(text, t, x):
    """A product of random codes and what it runs as."""
    w = random_codes(text, (128, 128), np.random.default_rng(len(text)))
    y = poisoned((128, 128), tc.f32)
    types = {"x": t, "w": w.format, "y": tc.f32}
    program = program_of(kernels.linear, types, {"M": 128, "N": 128, "K": 128},
                         m=64, n=128, k=128)  # fmt: skip
    run(program, {"x": x, "w": w, "y": y})
    return program, y, w


@pytest.mark.parametrize("m", [pytest.param(1, marks=pytest.mark.slow), 16,
                               pytest.param(64, marks=pytest.mark.slow)])  # fmt: skip
@pytest.mark.parametrize(("text", "depth"), [
    ("mxfp4", 32), ("mxfp6", 32), ("mxfp6_e3m2", 32), ("mxfp8", 32), ("mxint8", 32), ("nvfp4", 16),
    ("fp6", 64), ("fp5", 64), ("e5m2<channel>", 64), ("fp8_rowwise", 64), ("iq4_nl", 32),
    ("bitnet", 64), ("apt3", 64), ("sm4<group=64>", 64), ("int7<group=128>", 128),
    ("uint3<group=64, zero=int>", 64), ("int5<group=64>", 64),
])  # fmt: skip
def test_formats(text, depth, m):
    """Random weights; scales of every kind in the order of the threads."""
    n, k = 128, 512
    rng = np.random.default_rng(m)
    w = tc.quantize(rng.standard_normal((n, k)), text, search=False)
    x = rng.standard_normal((m, k)).astype(np.float16)
    y = poisoned((m, n), tc.f32)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    program = program_of(kernels.linear, types, {"M": m, "N": n, "K": k}, n=128, k=depth)
    assert "w.codes" in program.source.orders
    run(program, {"x": x, "w": w, "y": y})
    assert far(y, x.astype(float) @ w.dequantize().astype(float).T) < 1e-6


@pytest.mark.parametrize("m", [pytest.param(1, marks=pytest.mark.slow), 16, 64])
@pytest.mark.parametrize("text", ["int4<group=128>", "uint4<group=128>", "int8<group=128>",
                                  "int8<channel, scale=f32>", "int3<group=64>"])  # fmt: skip
def test_whole_activations(text, m):
    """x in 8 bits, its scale for every row found by the kernel; W4A8 and W8A8."""
    n, k = 128, 512
    rng = np.random.default_rng(m)
    w = tc.quantize(rng.standard_normal((n, k)), text, search=False)
    x, y = rng.standard_normal((m, k)).astype(np.float16), poisoned((m, n), tc.f32)
    rounded = named("dynamic<int8<scale=f32>, f16>")
    program = program_of(kernels.linear, {"x": rounded, "w": w.format, "y": tc.f32},
                         {"M": m, "N": n, "K": k}, n=128, k=64)  # fmt: skip
    run(program, {"x.dense": x, "w": w, "y": y})
    values = rounded.values({"dense": x.astype(float)}, x.shape)
    assert far(y, values @ w.dequantize().astype(float).T) < 1e-6


@pytest.mark.parametrize("text", ["mxfp4", "e2m1<group=32, scale=bf16>"])
def test_extreme_scales_stay_exact(text):
    """A factor that a decoding leaves out is no part of a scale that it might overflow."""
    n, k = 32, 64
    parts = {"codes": np.tile([0.5, -6.0], (n, k // 2)), "scale": np.ldexp(1.0, [[-127, 124]] * n)}
    w = tc.runtime.tensor.packed(named(text), parts, (n, k))
    x = np.zeros((16, k), np.float16)
    x[:, 0], x[:8, 32] = 2.0, 2.0**-3
    y = poisoned((16, n), tc.f32)
    run(program_of(kernels.linear, {"x": tc.f16, "w": w.format, "y": tc.f32},
                   {"M": 16, "N": n, "K": k}, k=32), {"x": x, "w": w, "y": y})  # fmt: skip
    assert np.array_equal(y[:8], np.full((8, n), 2.0**120))
    assert np.array_equal(y[8:], np.full((8, n), 2.0**-127))


def test_dense_codes_lie_as_they_are():
    """Only parts of packed tensors are put in order: what a caller has is read as it lies."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((16, 128)).astype(ml_dtypes.float8_e4m3fn)
    w = rng.standard_normal((64, 128)).astype(ml_dtypes.float8_e4m3fn)
    y = poisoned((16, 64), tc.f32)
    program = program_of(kernels.linear, {"x": tc.e4m3, "w": tc.e4m3, "y": tc.f32},
                         {"M": 16, "N": 64, "K": 128})  # fmt: skip
    assert not program.source.orders
    run(program, {"x": x, "w": w, "y": y})
    assert far(y, x.astype(float) @ w.astype(float).T) < 1e-6


def test_two_weights_of_one_type_and_two_recipes():
    """u4 less 8, and u4 as it is: each is decoded by its own recipe."""
    m, n, k = 16, 128, 256
    rng = np.random.default_rng(5)
    w, v = (tc.quantize(rng.standard_normal((n, k)), text, search=False)
            for text in ("uint4<group=128>", "uint4<group=128, zero=none>"))  # fmt: skip
    x, y = rng.standard_normal((m, k)).astype(np.float16), poisoned((m, n), tc.f32)
    types = {"x": tc.f16, "w": w.format, "v": v.format, "y": tc.f32}
    program = program_of(summed, types, {"M": m, "N": n, "K": k}, n=128, k=128)
    assert {"w.codes", "v.codes"} <= program.source.orders.keys()
    run(program, {"x": x, "w": w, "v": v, "y": y})
    want = x.astype(float) @ (w.dequantize().astype(float) + v.dequantize().astype(float)).T
    assert far(y, want) < 1e-6


@pytest.mark.parametrize(("left", "right"), [("int4<channel>", "int4<group=128>"),
                                             ("int3<channel>", "int8<channel>"),
                                             ("e2m1<channel>", "e2m1<group=128>")])  # fmt: skip
def test_codes_on_both_sides(left, right):
    """Factors of both are left to the scales."""
    m, n, k = 32, 128, 256
    rng = np.random.default_rng(7)
    x, w = (tc.quantize(rng.standard_normal((rows, k)), text, search=False)
            for rows, text in ((m, left), (n, right)))  # fmt: skip
    y = poisoned((m, n), tc.f32)
    types = {"x": x.format, "w": w.format, "y": tc.f32}
    program = program_of(kernels.linear, types, {"M": m, "N": n, "K": k}, n=128, k=128)
    run(program, {"x": x, "w": w, "y": y})
    assert far(y, x.dequantize().astype(float) @ w.dequantize().astype(float).T) < 1e-6
