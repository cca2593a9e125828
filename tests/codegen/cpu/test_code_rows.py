"""Products of few rows with matrices that lie row by row: in codes, turned or not, and in pages."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
from formats import random_parts, scaled

import tilec as tc
from tilec.compile import Kernel, engine
from tilec.cpu import cpu_source, lower
from tilec.ir.dtype import Array
from tilec.ir.format import Dense
from tilec.ir.named import named
from tilec.ir.ops.memory import Load
from tilec.ops import attention
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.sparse import paged
from tilec.runtime.tensor import PackedTensor, packed

BF16 = ml_dtypes.bfloat16
FORMATS = ["int4<group=64>", "int8<group=128>", "nf4<group=128>", "e2m1<group=32>",
           "uint2<group=64, zero=mid>", "int1<group=128>", "e4m3<group=128>",
           "int3<group=64>"]  # fmt: skip


@tc.kernel
def turned(x: tc.Tensor["B", "M", "K"], w: tc.Tensor["B", "N", "K"], y: tc.Tensor["B", "M", "N"]):
    for b, n in tc.tiles("B", "N", block=(1, 40)):
        y[b.start, :, n] = tc.dot(x[b.start, :, :], w[b.start, n, :].T)


@tc.kernel
def lying(x: tc.Tensor["B", "M", "K"], w: tc.Tensor["B", "K", "N"], y: tc.Tensor["B", "M", "N"]):
    for (b,) in tc.tiles("B", block=1):
        acc = tc.zeros(("M", "N"), tc.f32)
        for k in tc.tiles("K", block=20):
            acc += tc.dot(x[b.start, :, k], w[b.start, k, :])
        y[b.start, :, :] = acc


def weight(text: str, *shape: int) -> PackedTensor:
    """Random components."""
    return packed(scaled(text), random_parts(scaled(text), shape), shape)


def near(y: Array, x: Array, w: Array) -> None:
    want = x.astype(np.float64) @ w
    assert np.linalg.norm(y - want) <= 1e-5 * np.linalg.norm(want)


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("m", [1, 4, 7])
def test_codes_that_are_columns(m: int, dtype: str, text: str):
    rng = np.random.default_rng([m, len(text)])
    w, x = weight(text, 3, 75, 256), rng.standard_normal((3, m, 256)).astype(np.float32)
    x = x.astype(BF16) if dtype == "bf16" else x
    y = np.full((3, m, 75), np.nan, np.float32)
    turned(x, w, y)
    near(y, x, w.dequantize().swapaxes(1, 2).astype(np.float64))


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("n", [128, 192, 200])
@pytest.mark.parametrize("m", [1, 4, 7])
def test_codes_that_lie_as_they_are(m: int, n: int, text: str):
    text = text if n % (scaled(text).group or 1) == 0 else f"{text.partition('<')[0]}<channel>"
    text = text if "uint2" not in text else "uint2<channel, zero=mid>"
    rng = np.random.default_rng([m, n, len(text)])
    w, x = weight(text, 3, 75, n), rng.standard_normal((3, m, 75)).astype(BF16)
    y = np.full((3, m, n), np.nan, np.float32)
    lying(x, w, y)
    near(y, x, w.dequantize().astype(np.float64))


@pytest.mark.parametrize("dtype", [np.float32, BF16, np.float16])
@pytest.mark.parametrize("k", [1, 20, 75])
@pytest.mark.parametrize("m", [1, 5, 7])
def test_dense_operands_as_they_lie(m: int, k: int, dtype: type):
    rng = np.random.default_rng([m, k])
    x, w = (rng.standard_normal(s).astype(dtype) for s in ((2, m, k), (2, k, 96)))
    y = np.full((2, m, 96), np.nan, np.float32)
    lying(x, w, y)
    near(y, x, w.astype(np.float64))


def test_what_follows_the_last_row_does_not_count():
    """A product with NaN would be NaN, also with 0."""
    whole = np.full((1, 80, 64), np.nan, BF16)
    whole[:, :75] = 1
    x, y = np.ones((1, 3, 75), BF16), np.full((1, 3, 64), np.nan, np.float32)
    lying(x, whole[:, :75], y)
    np.testing.assert_array_equal(y, 75)


AVX512 = "avx2,fma,avx512f,avx512bw,avx512vl,avx512dq"
MACHINES = {
    "x86-64-v2": "", "x86-64-v3": "avx2,fma", "x86-64-v4": AVX512,
    "znver4": f"{AVX512},avx512bf16,avx512vbmi,avx512vbmi2,avx512vnni",
    "sapphirerapids": f"{AVX512},avx512bf16,avx512vbmi,avx512vbmi2,avx512vnni,avx512fp16",
}  # fmt: skip


def machine(name: str) -> Engine:
    """Two threads for a processor, which need not be this one."""
    has = ",".join(f"+{x}" for x in MACHINES[name].split(",") if x)
    return Engine(Cache(None), host_machine(name, has), threads=2)


@pytest.fixture(scope="module")
def modern() -> Engine:
    """A processor with all of AVX-512."""
    return machine("znver4")


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("text", ["int4<group=64>", "int8<group=128>", "nf4<group=128>"])
def test_other_processors(monkeypatch: pytest.MonkeyPatch, text: str, name: str):
    here = set(engine().machine.features.split(","))
    if missing := {f"+{x}" for x in MACHINES[name].split(",") if x} - here:
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
    older = machine(name)
    monkeypatch.setattr("tilec.compile.engine", lambda: older)
    rng = np.random.default_rng(len(name))
    x = rng.standard_normal((2, 4, 256)).astype(BF16)
    for kernel, shape in ((turned, (2, 75, 256)), (lying, (2, 256, 128))):
        w, again = weight(text, *shape), Kernel(kernel.definition)
        y = np.full((2, 4, 75 if kernel is turned else 128), np.nan, np.float32)
        again(x, w, y)
        values = w.dequantize().astype(np.float64)
        near(y, x, values.swapaxes(1, 2) if kernel is turned else values)


DIMS = {"B": 1, "G": 8, "H": 4, "D": 128, "S": 4096, "E": 128}


def source(engine: Engine, cache: str) -> str:
    """The code of a step of decoding, with no remark on what is slow."""
    types = {"q": Dense(tc.bf16), "y": Dense(tc.bf16), "k": named(cache), "v": named(cache)}
    made = cpu_source(attention.decode.definition, types, DIMS, engine)
    slow = [r for r in made.remarks if "element" in r.message or "one by one" in r.message]
    assert not slow
    return made.text


@pytest.mark.parametrize("cache", ["int8<group=128>", "int4<group=128>", "nf4<group=128>"])
def test_caches_in_codes_are_read_as_vectors(modern: Engine, cache: str):
    """Keys 16 rows at once, values a row at once: no code is loaded by itself, and no product has
    an operand that was stored first."""
    text = source(modern, cache)
    bits = scaled(cache).codes.bits
    assert "load <4 x i32>" in text
    assert (f"load i{16 * bits}" if bits < 8 else "load <16 x i8>") in text
    stored = re.findall(r"store (i16|<32 x i16>|<64 x i8>) ", text)
    assert stored == ["<32 x i16>"]  # the result


@pytest.mark.parametrize("page", [16, 64, 256])
def test_pages_are_looked_up_once_a_tile(modern: Engine, page: int):
    format = f"paged<{page}, bf16, 512>"
    source(modern, format)
    types = {"q": Dense(tc.bf16), "y": Dense(tc.bf16), "k": named(format), "v": named(format)}
    func = lower(attention.decode.definition, types, DIMS)
    loads = [op for op in func.walk() if isinstance(op, Load)]
    numbers = [op.result.type for op in loads if op.mem.hint.endswith("table")]
    assert [getattr(t, "rank", None) for t in numbers] == [0, 0]
    tiles = [i for op in loads for i in op.indices if getattr(i.type, "rank", 0)]
    assert not tiles


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("page", [16, 64, 128, 48])
def test_attention_to_pages(page: int, length: int):
    rng = np.random.default_rng([page, length])
    pages, s = 4, 4 * page
    length = min(length, s)
    k, v = (rng.standard_normal((2, 2, s, 32)).astype(BF16) for _ in range(2))
    q = rng.standard_normal((2, 2, 3, 32)).astype(BF16)
    order = rng.permutation(2 * pages).astype(np.int32).reshape(2, pages)
    pools = [np.full((2 * pages, 2, page, 32), np.nan, BF16) for _ in range(2)]
    for pool, x in zip(pools, (k, v), strict=True):
        pool[order] = x.reshape(2, 2, pages, page, 32).swapaxes(1, 2)
    y = np.full(q.shape, np.nan, np.float32)
    attention.decode(q, *(paged(p, order) for p in pools), np.array([length, 1], np.int32), y, 0.2)
    a, b, c = (x.astype(np.float64) for x in (q, k, v))
    scores = a @ b.swapaxes(-1, -2) * 0.2
    scores = np.where(np.arange(s) < np.array([length, 1])[:, None, None, None], scores, -np.inf)
    e = np.exp(scores - scores.max(-1, keepdims=True))
    want = e / e.sum(-1, keepdims=True) @ c
    assert np.linalg.norm(y - want) <= 1e-2 * np.linalg.norm(want)
