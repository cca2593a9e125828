"""Products of few rows with rows of a matrix, read along k: exact sums, and edges."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from lang import kernels
from products import picked

import tilec as tc
from tilec.artifacts import TARGETS
from tilec.cpu import cpu_source, lower
from tilec.ir.dtype import BY_NAME
from tilec.ir.ops.control import For
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine

BF16 = ml_dtypes.bfloat16


@pytest.mark.parametrize("n", [4, 63, 64, 68, 130])
@pytest.mark.parametrize("k", [32, 96, 100, 1056])
@pytest.mark.parametrize("m", [1, 5, 6, 16, 17])
def test_sums_of_small_whole_numbers_are_exact(m: int, n: int, k: int):
    rng = np.random.default_rng([m, n, k])
    x, w = (rng.integers(-8, 9, s).astype(BF16) for s in ((m, k), (n, k)))
    y = np.full((m, n), np.nan, np.float32)
    kernels.linear(x, w, y)
    np.testing.assert_array_equal(y, x.astype(np.float64) @ w.astype(np.float64).T)


@tc.kernel
def scores(q: tc.Tensor["B", "M", "D"], k: tc.Tensor["B", "N", "D"], y: tc.Tensor["B", "M", "N"]):
    for b in tc.tiles("B", block=1):
        for n in tc.tiles("N"):
            y[b.start, :, n] = tc.dot(q[b.start, :, :], k[b.start, n, :].T)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn", "int8"])
@pytest.mark.parametrize("d", [32, 96])
@pytest.mark.parametrize("n", [3, 133])
@pytest.mark.parametrize("m", [1, 5, 17])
def test_rows_that_lie_one_after_the_other_give_exact_sums(m: int, n: int, d: int, dtype: str):
    rng, stored = np.random.default_rng([m, n, d]), np.dtype(getattr(ml_dtypes, dtype, dtype))
    q = rng.integers(-8, 9, (2, m, d)).astype(np.float32)
    k = rng.integers(-8, 9, (2, n, d)).astype(stored)
    y = np.full((2, m, n), np.nan, np.float32)
    scores(q, k, y)
    want = q.astype(np.float64) @ k.astype(np.float64).swapaxes(1, 2)
    np.testing.assert_array_equal(y, want)


def test_a_result_is_near_the_exact_one():
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(BF16) for s in ((16, 4096), (64, 4096)))
    y = np.full((16, 64), np.nan, np.float32)
    kernels.linear(x, w, y)
    want = x.astype(np.float64) @ w.astype(np.float64).T
    assert np.linalg.norm(y - want) <= 2e-6 * np.linalg.norm(want)


def _step(m: int, dtype: tc.DType, k: int = 8192) -> int | None:
    dims = {"M": m, "N": 128, "K": k}
    func = lower(kernels.linear.definition, dict.fromkeys("xw", dtype) | {"y": tc.f32}, dims, 2)
    return next(op.tile for op in func.walk() if isinstance(op, For))


def test_few_rows_have_longer_steps():
    assert _step(16, tc.bf16) == 4 * _step(8, tc.f32, 8200) == 4 * 256  # type: ignore[operator]
    assert _step(17, tc.bf16) == _step(9, tc.f32) == _step(17, tc.f32) == 128
    assert _step(8, tc.f32) == _step(1, tc.f16) == 8192


@pytest.mark.parametrize("cpu", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("dtype", ["f32", "f16"])
@pytest.mark.parametrize("m", [1, 7])
def test_vectors_of_any_length(m: int, dtype: str, cpu: str):
    rng, t = np.random.default_rng([m]), BY_NAME[dtype]
    stored = np.dtype({"f32": "f4", "f16": "f2"}[dtype])
    x, w = (rng.integers(-8, 9, s).astype(stored) for s in ((m, 4096), (66, 4096)))
    y = np.full((m, 66), np.nan, np.float32)
    host = Engine(Cache(None), host_machine(cpu, TARGETS[cpu]), threads=2)
    types, dims = {"x": t, "w": t, "y": tc.f32}, {"M": m, "N": 66, "K": 4096}
    compiled = host.load(cpu_source(kernels.linear.definition, types, dims, host))
    host.dispatcher("linear", lambda _: compiled).launch(x, w, y)
    np.testing.assert_array_equal(y, x.astype(np.float64) @ w.astype(np.float64).T)


@pytest.mark.parametrize("dtype", [tc.bf16, tc.f32])
def test_weights_that_a_number_chooses_are_read_where_they_lie(dtype: tc.DType):
    """The number may be of none: no step of 64 rows is packed for that."""
    types = {"x": dtype, "w": dtype, "which": tc.i32, "y": tc.f32}
    features = f"{TARGETS['x86-64-v4']},+avx512bf16"
    host = Engine(Cache(None), host_machine("emeraldrapids", features), threads=2)
    dims = {"M": 2, "E": 4, "B": 1, "N": 128, "K": 4096}
    found = cpu_source(picked.definition, types, dims, host)
    assert found.workspace // 2 < 64 * 256 * 2
    assert "llvm.prefetch" in found.text


@pytest.mark.parametrize("m", [1, 4, 5])
@pytest.mark.parametrize("text", ["squeezellm", "flute", "fp6_llm",
                                  "codebook<3, group=96, scale=f32>",
                                  "codebook<5, rows=1, channel, scale=f16>"])  # fmt: skip
def test_weights_that_are_computed_of_several_memories(text: str, m: int):
    rng = np.random.default_rng([m])
    w = tc.quantize(rng.standard_normal((132, 384)), text, search=False)
    x = rng.standard_normal((m, 384)).astype(np.float32)
    y = np.full((m, 132), np.nan, np.float32)
    kernels.linear(x, w, y)
    want = x.astype(np.float64) @ w.dequantize().astype(np.float64).T
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)


@pytest.mark.parametrize("cpu", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("text", ["squeezellm", "flute", "fp6_llm", "df11"])
def test_computed_weights_in_vectors_of_any_length(text: str, cpu: str):
    rng = np.random.default_rng(0)
    w = tc.quantize((rng.standard_normal((132, 384)) / 16).astype(BF16), text)
    x = rng.standard_normal((2, 384)).astype(BF16)
    y = np.full((2, 132), np.nan, np.float32)
    host = Engine(Cache(None), host_machine(cpu, TARGETS[cpu]), threads=2)
    types, dims = {"x": tc.bf16, "w": w.format, "y": tc.f32}, {"M": 2, "N": 132, "K": 384}
    compiled = host.load(cpu_source(kernels.linear.definition, types, dims, host))
    host.dispatcher("linear", lambda _: compiled).launch(x, w, y)
    want = x.astype(np.float64) @ w.dequantize().astype(np.float64).T
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)


@pytest.mark.parametrize("k", [64, 1301, 2048])
def test_one_row_of_coded_weights_gives_what_dense_ones_do_to_the_bit(k: int):
    rng = np.random.default_rng([k])
    dense = (rng.standard_normal((132, k)) * 0.02).astype(BF16)
    x = rng.standard_normal((1, k)).astype(BF16)
    found, want = np.full((2, 1, 132), np.nan, np.float32)
    kernels.linear(x, tc.quantize(dense, "df11"), found)
    kernels.linear(x, dense, want)
    np.testing.assert_array_equal(found, want)
