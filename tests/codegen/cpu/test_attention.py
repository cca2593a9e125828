"""Attention in compiled code: what its loops are made of, and the results of odd sizes."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilec as tc
from tilec.cpu import cpu_source
from tilec.ir.dtype import BY_NAME, Array
from tilec.ir.format import Dense
from tilec.ops import attention, dense_attention
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine

STORED = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16),
          "bf16": np.dtype(ml_dtypes.bfloat16)}  # fmt: skip
WORST = {"f32": 1e-6, "f16": 2e-3, "bf16": 1e-2}
PAIRS = "call <16 x float> @llvm.x86.avx512bf16.dpbf16ps"


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Two threads for a processor with products of bf16, which need not be this one."""
    return Engine(Cache(None), host_machine("znver5", ZNVER5), threads=2)


ZNVER5 = ",".join(f"+{x}" for x in (
    "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512bf16"))  # fmt: skip


def source(engine: Engine, program: tc.Program, dtype: str, dims: dict[str, int]) -> str:
    """The LLVM IR of an attention program."""
    types = {n: Dense(BY_NAME[dtype]) for n in ("q", "k", "v")}
    kernel = program.kernel(**types)
    return cpu_source(kernel.definition, types, dims, engine).text


def drawn(dtype: str, *sizes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(s).astype(STORED[dtype]) for s in sizes]


def wanted(q: Array, k: Array, v: Array, causal: bool) -> Array:
    """softmax(q k' / 8) v of [..., M, D], in f64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    s = q @ k.swapaxes(-1, -2) / 8
    (m, n) = s.shape[-2:]
    if causal:
        s = np.where(np.arange(n) <= np.arange(m)[:, None] + n - m, s, -np.inf)
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


def agree(got: Array, want: Array, dtype: str) -> None:
    got = got.astype(np.float64)
    assert np.linalg.norm(got - want) < WORST[dtype] * np.linalg.norm(want)


def test_products_are_all_that_multiplies(engine: Engine) -> None:
    """Of 128 queries, 108 are in register tiles of 6 rows x 4 vectors, 20 in ones of 5 x 4; there
    are two of 64 keys and two of 64 columns of v, and nothing is done to an operand by elements."""
    dims = {"B": 1, "H": 2, "M": 256, "N": 256, "D": 128, "E": 128}
    text = source(engine, dense_attention.full, "bf16", dims)
    assert text.count(PAIRS) == (6 * 4 + 5 * 4) * (2 + 2)
    assert "gather" not in text
    assert not re.findall(r"x double|fpext|store (i16|bfloat) ", text)


def test_a_loop_that_stops_early_has_whole_steps(engine: Engine) -> None:
    """Causal: twice the products, once for steps whose extents are known, once for what is left."""
    dims = {"B": 1, "G": 2, "H": 2, "M": 256, "N": 256, "D": 128, "E": 128}
    text = source(engine, dense_attention.causal, "bf16", dims)
    assert text.count(PAIRS) == 2 * (6 * 4 + 5 * 4) * (2 + 2)
    assert "gather" not in text


def test_the_accumulator_is_not_copied(engine: Engine) -> None:
    """A task has one accumulator, scores, what is made of them twice (f32 and bf16), and a step of
    keys and values."""
    dims = {"B": 1, "H": 2, "M": 256, "N": 256, "D": 128, "E": 128}
    types = {n: Dense(BY_NAME["bf16"]) for n in ("q", "k", "v")}
    kernel = dense_attention.full.kernel(**types)
    found = cpu_source(kernel.definition, types, dims, engine)
    tile = 128 * 128
    expected = tile * (4 + 3 * 4 + 2 + 2 + 2)
    assert expected <= found.workspace // 2 <= expected + 16 * 1024


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (131, 200), (256, 256)])
def test_programs(dtype: str, m: int, n: int) -> None:
    q, k, v = drawn(dtype, (2, 2, 3, m, 64), (2, 2, n, 64), (2, 2, n, 48))
    got = dense_attention.causal(q, k, v, 0.125)
    agree(got, wanted(q, k[:, :, None], v[:, :, None], True), dtype)
    got = dense_attention.full(q[:, :, 0].copy(), k, v, 0.125)
    agree(got, wanted(q[:, :, 0], k, v, False), dtype)


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("length", [1, 128, 200])
def test_decoding(dtype: str, length: int) -> None:
    q, k, v = drawn(dtype, (2, 2, 4, 64), (2, 2, 300, 64), (2, 2, 300, 64))
    want = wanted(q, k[:, :, :length], v[:, :, :length], False)
    lengths = np.full(2, length, np.int32)
    agree(dense_attention.decode(q, k, v, lengths, 0.125), want, dtype)
    y = np.full_like(q, np.nan)
    attention.decode(q, k, v, lengths, y, 0.125)
    agree(y, want, dtype)


@tc.kernel
def recurrences(
    x: tc.Tensor["B", "N", "K"], w: tc.Tensor["K", "N"], y: tc.Tensor["B", 6, "N", "N"],
):  # fmt: skip
    """Accumulators that are scaled, exchanged, turned and read again in a loop with products."""
    for batch in tc.tiles("B", block=1):
        b = batch.start
        one = tc.zeros(("N", "N"))
        other = tc.full(("N", "N"), 1.0)
        turned = tc.zeros(("N", "N"))
        seen = tc.zeros(("N", "N"))
        last = tc.zeros(("N", "N"))
        kept = tc.zeros(("N", "N"))
        for k in tc.tiles("K", block=16):
            product = tc.dot(x[b, :, k], w[k, :])
            new = other * 0.5
            new += tc.dot(x[b, :, k], w[k, :])
            other = one
            one = new
            turned = turned.T * 0.5
            turned += tc.dot(x[b, :, k], w[k, :])
            again = last * 2.0
            again += tc.dot(x[b, :, k], w[k, :])
            kept += last
            last = again
            seen = seen + turned + product
        y[b, 0, :, :] = one
        y[b, 1, :, :] = other
        y[b, 2, :, :] = turned
        y[b, 3, :, :] = seen
        y[b, 4, :, :] = last
        y[b, 5, :, :] = kept


@pytest.mark.parametrize("depth", [16, 40, 64])
def test_what_a_product_is_added_to(depth: int) -> None:
    x, w = drawn("f32", (3, 32, depth), (depth, 32))
    got = np.full((3, 6, 32, 32), np.nan, np.float32)
    recurrences(x, w, got)
    one, other, turned, seen, last, kept = np.zeros((6, 3, 32, 32))
    other += 1
    for k in range(0, depth, 16):
        product = x[..., k : k + 16].astype(float) @ w[k : k + 16].astype(float)
        one, other = other * 0.5 + product, one
        turned = turned.swapaxes(1, 2) * 0.5 + product
        seen = seen + turned + product
        last, kept = last * 2 + product, kept + last
    agree(got, np.stack([one, other, turned, seen, last, kept], 1), "f32")


@tc.kernel
def moved(
    x: tc.Tensor["B", "N"], at: tc.Tensor["B", tc.i32], to: tc.Tensor["B", tc.i32],
    y: tc.Tensor["B", "N"], z: tc.Tensor["B", "N"],
):  # fmt: skip
    """Rows at numbers that may lie outside: read as 0, not written; and one by its own number."""
    for b, n in tc.tiles("B", "N", block=(1, None)):
        y[to[b.start], n] = x[at[b.start], n]
        z[b.start, n] = tc.exp(x[b.start, n]) - 1.0


@pytest.mark.parametrize("dtype", STORED)
def test_rows_at_scalar_numbers(dtype: str) -> None:
    x = drawn(dtype, (6, 37))[0]
    at, to = (np.array(a, np.int32) for a in ([5, -1, 2, 6, 0, 3], [1, 0, 6, 3, -1, 5]))
    y = np.full_like(x, 7)
    z = np.full_like(x, np.nan)
    moved(x, at, to, y, z)
    want = np.full_like(x, 7)
    want[1], want[0], want[3], want[5] = x[5], 0, 0, x[3]
    assert (y == want).all()
    agree(z, np.exp(x.astype(float)) - 1, dtype)


@pytest.mark.parametrize("cache", ["int8<group=64>", "int4<group=64>", "f32"])
def test_keys_and_values_of_other_dtypes_than_the_queries_are_not_rounded(cache: str):
    """Codes are multiplied as they are, and of bf16 there are the queries and the weights alone."""
    rng = np.random.default_rng(len(cache))
    q = rng.standard_normal((20, 64)).astype(ml_dtypes.bfloat16)
    k, v = (rng.standard_normal((130, 64)).astype(np.float32) for _ in range(2))
    stored: list[Any] = [x if cache == "f32" else tc.quantize(x, cache) for x in (k, v)]
    y, lse = np.full((20, 64), np.nan, np.float32), np.full(20, np.nan, np.float32)
    attention.prefix(q, *stored, y, lse, 0.2)
    keys, values = (x if cache == "f32" else x.dequantize() for x in stored)
    scores = q.astype(np.float64) @ keys.astype(np.float64).T * 0.2
    weights = np.exp(scores - scores.max(1, keepdims=True))
    want = weights @ values.astype(np.float64) / weights.sum(1, keepdims=True)
    assert np.linalg.norm(y - want) <= 3e-3 * np.linalg.norm(want)
    total = np.log(np.exp(scores).sum(1))
    assert np.linalg.norm(lse - total) <= 1e-5 * np.linalg.norm(total)
