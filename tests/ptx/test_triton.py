"""Kernels that Triton compiled: exact where every sum is, else within the stated rounding.

Triton's code is known to run on GPUs. That it gives the right results here, with nothing found
wrong, tests fragments, descriptors, swizzles and waits of the interpreter.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tilec import ptx

pytest.importorskip("triton")

import triton.language as tl
from ptx import kernels
from ptx.kernels import compiled

E4M3, BF16 = np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.bfloat16)
KINDS = {
    "fp16": (np.dtype(np.float16), "*fp16", tl.float32),
    "bf16": (BF16, "*bf16", tl.float32),
    "tf32": (np.dtype(np.float32), "*fp32", tl.float32),
    "fp8": (E4M3, "*fp8e4nv", tl.float32),
    "int8": (np.dtype(np.int8), "*i8", tl.int32),
}
slow = pytest.mark.slow


def clean(report: ptx.Report) -> None:
    assert report.clean, report


def whole(shape: tuple[int, ...], kind: np.dtype, seed: int = 1) -> np.ndarray:
    """Small whole numbers: their products and sums are exact."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(kind)


def gemm(kind: str, sm: int, size: tuple[int, int, int], warps: int = 4) -> None:
    dtype, pointer, total = KINDS[kind]
    m, n, k = size
    types = {"a": pointer, "b": pointer, "c": "*i32" if kind == "int8" else "*fp32",
             "M": "i32", "N": "i32", "K": "i32"}  # fmt: skip
    constants = {"BM": 64, "BN": 64, "BK": 64 if dtype.itemsize == 1 else 32, "SUM": total}
    made = compiled(kernels.gemm, types, constants, sm, "N K", num_stages=3, num_warps=warps)
    a, b = whole((m, k), dtype), whole((n, k), dtype, 2)
    c = np.zeros((m, n), np.int32 if kind == "int8" else np.float32)
    clean(made.run((-(-m // 64), -(-n // 64)), a, b, c, m, n, k))
    np.testing.assert_array_equal(c, a.astype(np.float64) @ b.astype(np.float64).T)


@pytest.mark.parametrize("sm", [80, 90])
def test_gemm(sm):
    gemm("fp16", sm, (128, 64, 128))


@slow
@pytest.mark.parametrize(
    ("kind", "sm"), [(k, sm) for k in KINDS for sm in (80, 89, 90) if (k, sm) != ("fp8", 80)]
)
def test_gemm_of_every_type(kind, sm):
    gemm(kind, sm, (128, 128, 256))
    gemm(kind, sm, (96, 80, 208), warps=8)


@slow
def test_gemm_by_tensor_descriptors():
    types = {"a": "*bf16", "b": "*bf16", "c": "*fp16", "M": "i32", "N": "i32", "K": "i32"}
    made = compiled(kernels.gemm_by_descriptors, types, {"B": 64}, 90, "M N K", num_stages=3)
    a, b, c = whole((192, 256), BF16), whole((256, 128), BF16, 2), np.zeros((192, 128), np.float16)
    clean(made.run((3, 2), a, b, c, 192, 128, 256))
    np.testing.assert_array_equal(c, a.astype(np.float64) @ b.astype(np.float64))


@slow
def test_gemm_by_specialised_warps():
    types = {"a": "*fp16", "b": "*fp16", "c": "*fp32", "M": "i32", "N": "i32", "K": "i32"}
    made = compiled(kernels.gemm_by_specialised_warps, types, {"B": 64}, 90, "M N K", num_stages=3)
    assert made.threads > 128
    half = np.dtype(np.float16)
    a, b, c = whole((128, 256), half), whole((64, 256), half, 2), np.zeros((128, 64), np.float32)
    clean(made.run((2, 1), a, b, c, 128, 64, 256))
    np.testing.assert_array_equal(c, a.astype(np.float64) @ b.astype(np.float64).T)


@slow
def test_gemm_with_sums_of_halves():
    types = {"a": "*fp16", "b": "*fp16", "c": "*fp32", "M": "i32", "N": "i32", "K": "i32"}
    constants = {"BM": 64, "BN": 64, "BK": 32, "SUM": tl.float16}
    half = np.dtype(np.float16)
    a, b = whole((64, 128), half) // 2, whole((64, 128), half, 2) // 2
    for sm in (80, 90):
        c = np.zeros((64, 64), np.float32)
        clean(compiled(kernels.gemm, types, constants, sm, "N K").run((1, 1), a, b, c, 64, 64, 128))
        np.testing.assert_array_equal(c, a.astype(np.float64) @ b.astype(np.float64).T)


@slow
@pytest.mark.parametrize(("sm", "m", "rows"), [(80, 20, 16), (90, 100, 64)])
def test_w4a16(sm, m, rows):
    n, k, group = 128, 256, 64
    rng = np.random.default_rng(3)
    x = whole((m, k), np.dtype(np.float16))
    words = rng.integers(0, 2**32, (k // 8, n), np.uint32)
    scale = (rng.integers(1, 9, (k // group, n)) / 8).astype(np.float16)
    y = np.zeros((m, n), np.float32)
    types = {"x": "*fp16", "q": "*i32", "scale": "*fp16", "y": "*fp32", "M": "i32", "N": "i32",
             "K": "i32"}  # fmt: skip
    made = compiled(kernels.w4a16, types, {"BM": rows, "BN": 64, "BK": group}, sm, "N K")
    clean(made.run((-(-m // rows), 2), x, words.view(np.int32), scale, y, m, n, k))
    codes = np.stack([words >> 4 * j & 15 for j in range(8)], axis=1).reshape(k, n)
    weights = (codes.astype(np.float64) - 8) * np.repeat(scale.astype(np.float64), group, axis=0)
    np.testing.assert_array_equal(y, x.astype(np.float64) @ weights)


@slow
@pytest.mark.parametrize("sm", [80, 90])
def test_attention(sm):
    heads, t, d = 2, 150, 64
    rng = np.random.default_rng(4)
    q, k, v = (rng.standard_normal((heads, t, d)).astype(np.float16) for _ in range(3))
    out = np.zeros_like(q)
    scale = np.float32(d**-0.5 * np.log2(np.e))
    types = {"q": "*fp16", "k": "*fp16", "v": "*fp16", "out": "*fp16", "T": "i32", "scale": "fp32"}
    made = compiled(kernels.attention, types, {"BQ": 64, "BK": 64, "D": d}, sm)
    clean(made.run((-(-t // 64), heads), q, k, v, out, t, float(scale)))
    s = q.astype(np.float64) @ k.astype(np.float64).transpose(0, 2, 1) * d**-0.5
    s = np.where(np.tril(np.ones((t, t), bool)), s, -np.inf)
    p = np.exp(s - s.max(axis=2, keepdims=True))
    want = p / p.sum(axis=2, keepdims=True) @ v.astype(np.float64)
    # The weights are rounded to fp16 (2**-11 each), and so is the result.
    np.testing.assert_allclose(out.astype(np.float64), want, atol=3 * 2.0**-11 * np.abs(v).max())


def test_softmax():
    x = np.random.default_rng(5).standard_normal((6, 300)).astype(np.float16)
    y = np.zeros((6, 300), np.float32)
    made = compiled(kernels.softmax, {"x": "*fp16", "y": "*fp32", "N": "i32"}, {"B": 512}, 90)
    clean(made.run(6, x, y, 300))
    e = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(y, e / e.sum(axis=1, keepdims=True), rtol=1e-6)


@slow
def test_layer_norm():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((5, 200)).astype(np.float32)
    w, b = rng.standard_normal((2, 200)).astype(np.float32)
    y = np.zeros_like(x)
    types = {"x": "*fp32", "w": "*fp32", "b": "*fp32", "y": "*fp32", "N": "i32", "epsilon": "fp32"}
    made = compiled(kernels.layer_norm, types, {"B": 256}, 80)
    clean(made.run(5, x, w.copy(), b.copy(), y, 200, 1e-5))
    v = x.astype(np.float64)
    want = (v - v.mean(1, keepdims=True)) / np.sqrt(v.var(1, keepdims=True) + 1e-5) * w + b
    np.testing.assert_allclose(y, want, atol=1e-5)


@slow
def test_sums_by_atomics():
    x = whole((200, 96), np.dtype(np.float32))
    out = np.zeros(96, np.float32)
    types = {"x": "*fp32", "out": "*fp32", "M": "i32", "N": "i32"}
    made = compiled(kernels.column_sums, types, {"BM": 64, "BN": 64}, 90)
    clean(made.run((4, 2), x, out, 200, 96))
    np.testing.assert_array_equal(out, x.sum(axis=0))


@slow
def test_gather():
    rng = np.random.default_rng(7)
    table = rng.standard_normal((50, 32)).astype(np.float16)
    index, out = rng.integers(0, 50, 45).astype(np.int32), np.zeros((45, 32), np.float16)
    types = {"table": "*fp16", "index": "*i32", "out": "*fp16", "N": "i32"}
    made = compiled(kernels.gather, types, {"D": 32, "B": 16}, 80)
    clean(made.run(3, table, index, out, 45))
    np.testing.assert_array_equal(out, table[index])
    index[7] = 50
    (finding,) = made.run(3, table, index, out, 45).of_kind("bounds")
    assert str(finding.place).startswith("kernels.py:")
    assert "has 3200 bytes" in finding.message


@slow
def test_running_sums_and_sorting():
    x = whole((8, 128), np.dtype(np.float32))
    out = np.zeros_like(x)
    types = {"x": "*fp32", "out": "*fp32"}
    clean(compiled(kernels.running_sums, types, {"B": 128, "R": 8}, 90).run(1, x, out))
    np.testing.assert_array_equal(out, np.cumsum(x, axis=1))
    clean(compiled(kernels.sort_rows, types, {"B": 128, "R": 8}, 80).run(1, x, out))
    np.testing.assert_array_equal(out, np.sort(x, axis=1))


@slow
def test_the_best_of_rows():
    x = np.random.default_rng(8).standard_normal((7, 100)).astype(np.float32)
    x[3, 40] = x[3, 90] = 9
    value, place = np.zeros(7, np.float32), np.zeros(7, np.int32)
    types = {"x": "*fp32", "value": "*fp32", "place": "*i32", "N": "i32"}
    clean(compiled(kernels.best_of_rows, types, {"B": 128}, 90).run(7, x, value, place, 100))
    np.testing.assert_array_equal(place, x.argmax(axis=1))
    np.testing.assert_array_equal(value, x.max(axis=1))


@slow
def test_counts():
    x, out = np.random.default_rng(9).integers(0, 16, 200).astype(np.int32), np.zeros(16, np.int32)
    made = compiled(kernels.counts, {"x": "*i32", "out": "*i32", "N": "i32"}, {"B": 256}, 90)
    clean(made.run(1, x, out, 200))
    np.testing.assert_array_equal(out, np.bincount(x, minlength=16))


@slow
@pytest.mark.parametrize("sm", [80, 90])
def test_transposed(sm):
    x = np.arange(64 * 128, dtype=np.float16).reshape(64, 128)
    out = np.zeros((128, 64), np.float16)
    types = {"x": "*fp16", "out": "*fp16", "M": "i32", "N": "i32"}
    clean(compiled(kernels.transposed, types, {"B": 64}, sm, "M N").run((1, 2), x, out, 64, 128))
    np.testing.assert_array_equal(out, x.T)


def philox(seed: int, counter: np.ndarray) -> np.ndarray:
    """The first word of Philox 4x32-10 (Salmon et al., 2011)."""
    mask = np.uint64(0xFFFFFFFF)
    c = [counter.astype(np.uint64), *(np.zeros(len(counter), np.uint64) for _ in range(3))]
    k = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)]
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [q >> np.uint64(32) ^ c[1] ^ k[0], q & mask, p >> np.uint64(32) ^ c[3] ^ k[1], p & mask]
        k = [(k[0] + np.uint64(0x9E3779B9)) & mask, (k[1] + np.uint64(0xBB67AE85)) & mask]
    return c[0].astype(np.uint32)


@slow
def test_random_bits():
    out = np.zeros(512, np.uint32)
    made = compiled(kernels.random_bits, {"out": "*i32", "seed": "i64"}, {"B": 256}, 80)
    clean(made.run(2, out, 1234567890123))
    np.testing.assert_array_equal(out, philox(1234567890123, np.arange(512)))


@slow
@pytest.mark.parametrize("sm", [80, 90])
def test_conversion_to_fp8(sm):
    """With the instruction on sm_90, with integer code on sm_80, for e5m2."""
    x = np.linspace(-300, 300, 1000).astype(np.float32)
    out = np.zeros(1000, ml_dtypes.float8_e5m2)
    types = {"x": "*fp32", "out": "*fp8e5", "scale": "fp32", "N": "i32"}
    clean(compiled(kernels.to_fp8, types, {"B": 256}, sm).run(4, x, out, 0.5, 1000))
    want = (x * np.float32(0.5)).astype(ml_dtypes.float8_e5m2)
    np.testing.assert_array_equal(out.view(np.uint8), want.view(np.uint8))


@slow
def test_gemm_of_scaled_blocks():
    rng = np.random.default_rng(10)
    a, b = whole((64, 128), E4M3), whole((64, 128), E4M3, 2)
    p, q = (rng.integers(125, 130, (64, 4)).astype(np.uint8) for _ in range(2))
    c = np.zeros((64, 64), np.float32)
    types = {"a": "*fp8e4nv", "sa": "*u8", "b": "*fp8e4nv", "sb": "*u8", "c": "*fp32", "K": "i32"}
    made = compiled(kernels.scaled_gemm, types, {"B": 64, "BK": 64}, 90, "K")
    clean(made.run(1, a, p, b, q, c, 128))
    x = a.astype(np.float64) * np.repeat(2.0 ** (p.astype(int) - 127), 32, axis=1)
    y = b.astype(np.float64) * np.repeat(2.0 ** (q.astype(int) - 127), 32, axis=1)
    np.testing.assert_array_equal(c, x @ y.T)
