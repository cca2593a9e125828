"""Codes in interleaved words: decoded in registers, executed from PTX, judged from machine code."""

from __future__ import annotations

from itertools import product

import ml_dtypes
import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.ir.bits import from_raw, stored
from tilec.ir.interleaved import Interleaved
from tilec.ir.named import named
from tilec.ir.scaled import Scaled
from tilec.ir.source import KernelSource
from tilec.runtime.tensor import PackedTensor, packed
from tilec.runtime.triton import compile_for
from tilec.sass import stats_of
from tilec.sass.stats import Mix
from tilec.triton import Schedule, triton_source

pytest.importorskip("triton")
import triton
import triton_naive
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton_ptx import executed

FLOATS = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
TYPES = FLOATS | {"i8": np.dtype(np.int8)}


def linear(x: np.ndarray, w: PackedTensor, dtype: str, target: str) -> np.ndarray:
    """x @ w.T from the PTX that Triton made."""
    m, n = len(x), w.shape[0]
    source = source_of(w, dtype, m, target)
    y = np.full((m, n), np.nan, np.float32)
    given = {"x": x, "y": y}
    for c in w.format.components(w.shape):
        order, raw = source.orders.get(f"w.{c.name}"), w.parts()[c.name]
        name = f"w_{c.name}".replace(".", "_")
        given[name] = stored(c, raw) if order is None else order.pack(raw)
    report = executed(source, given, target)
    assert report.clean, report
    return y


def source_of(w: PackedTensor, dtype: str, m: int, target: str) -> KernelSource:
    types = {"x": getattr(tc, dtype), "w": w.format, "y": tc.f32}
    dims, schedule = dict(zip("MNK", (m, *w.shape), strict=True)), Schedule(oldest=int(target[3:]))
    return triton_source(kernels.linear.definition, dims, types, schedule)


INTEGERS = [f"{sign}int{bits}<group=128>" for bits in range(1, 9) for sign in ("", "u")]
OTHERS = [
    *(f"{name}<group=128>" for name in (
        "e4m3", "e5m2", "e2m1", "e1m2", "e3m0", "e2m2", "e3m1", "e3m2", "e2m3", "e3m3", "e4m2",
        "ternary", "sm4", "bipolar3", "fixed8",
    )),
    "int4<group=16>", "int3<group=32>", "int8<group=16>", "uint4<group=64, zero=int>",
    "uint4<group=32, zero=float>", "uint8<channel, zero=int>", "mxfp4", "mxfp6", "mxfp8", "nvfp4",
    "int4<tensor>", "uint4<group=32, zero=min, scale=bf16>",
]  # fmt: skip
FAST = [("uint5<group=128>", "f16", "sm_90"), ("int8<group=128>", "bf16", "sm_80"),
        ("e4m3<group=128>", "f16", "sm_80"), ("e2m1<group=128>", "bf16", "sm_90"),
        ("int4<group=64>", "i8", "sm_90"), ("nvfp4", "f16", "sm_90"),
        ("uint4<group=32, zero=int>", "f16", "sm_80")]  # fmt: skip
BYTES = [pytest.param(text, "i8", target, marks=pytest.mark.slow)
         for target in ("sm_80", "sm_90") for text in (
             "int4<channel>", "uint4<group=128, zero=none>", "int2<group=128>", "int1<channel>",
             "uint1<channel, zero=none>", "uint2<group=64, zero=none>")]  # fmt: skip
CASES = [pytest.param(text, dtype, target, marks=pytest.mark.slow)
         for text in (*INTEGERS, *OTHERS) for dtype in FLOATS for target in ("sm_80", "sm_90")
         if (text, dtype, target) not in FAST]  # fmt: skip


def weights(format: Scaled, shape: tuple[int, int]) -> PackedTensor:
    """Every code, and scales that are powers of two: NaN and infinity in the first rows only."""
    rng = np.random.default_rng(shape[1] + format.codes.bits)
    parts = dict[str, np.ndarray]()
    for c in format.components(shape):
        size = tuple(int(str(d)) for d in c.shape)
        if c.name != "codes" and not c.dtype.is_integer:
            parts[c.name] = np.ldexp(1.0, rng.integers(-2, 3, size))
            continue
        every = np.arange(np.prod(size)).reshape(size) % (1 << c.dtype.bits)
        values = from_raw(c.dtype, rng.permuted(every).astype(np.uint8))
        if c.name == "codes":
            values[4:] = np.where(np.isfinite(values[4:]), values[4:], c.dtype.high)
        parts[c.name] = values
    return packed(format, parts, shape)


@pytest.mark.parametrize(("text", "dtype", "target"), [*FAST, *CASES, *BYTES])
def test_every_code_reaches_a_product(text, dtype, target):
    """Rows of the identity pick codes out."""
    format = named(text)
    assert isinstance(format, Scaled)
    w = weights(format, (64, 256))
    x = np.eye(256).astype(TYPES[dtype])
    chosen = np.random.default_rng(1).permutation(256)[:64]
    with np.errstate(invalid="ignore"):
        want = x[chosen].astype(float) @ w.dequantize().astype(float).T
    assert np.array_equal(linear(x[chosen], w, dtype, target), want, equal_nan=True)


@pytest.mark.parametrize(("text", "dtype", "k"), [
    ("nf4<group=64>", "f16", 256),
    pytest.param("nf4<group=64>", "bf16", 256, marks=pytest.mark.slow),
    pytest.param("fp4<group=32>", "f16", 256, marks=pytest.mark.slow),
    pytest.param("nf4<channel>", "f16", 200, marks=pytest.mark.slow),
])  # fmt: skip
def test_tables_are_sums_of_floats(text, dtype, k):
    """Also where K has no whole steps: what terms leave is small, and they do not vanish."""
    format = named(text)
    assert isinstance(format, Scaled)
    w = weights(format, (64, k))
    x = np.eye(k)[-64:].astype(FLOATS[dtype])
    want = w.dequantize().astype(float).T[-64:]
    got = linear(x, w, dtype, "sm_90")
    assert (np.abs(got - want) <= 2.0**-21 * np.abs(want)).all()


# Issue slots for 16 k's of a turn of the main loop beside 16 and 64 rows of x: on sm_90 and sm_80.
SLOTS = {
    "int4<group=128>": ((26.5, 29.5), (21.5, 35.0)),
    "int8<group=128>": ((26.5, 32.5), (23.5, 38.0)),
    "e4m3<group=128>": ((22.0, 27.5), (47.5, 62.0)),
    "int3<group=128>": ((27.0, 30.5), (20.5, 32.5)),
    "int6<group=128>": ((34.0, 37.0), (25.5, 38.5)),
    "e2m1<group=128>": ((32.0, 35.5), (27.0, 40.0)),
    "mxfp4": ((41.5, 52.5), (36.5, 61.5)),
    "nvfp4": ((57.0, 80.5), (59.0, 95.0)),
    "nf4<group=64>": ((85.5, 93.0), (80.0, 113.0)),
    "uint4<group=128, zero=int>": ((38.0, 45.0), (29.0, 54.0)),
    "int4<group=32>": ((32.0, 44.5), (31.0, 55.0)),
}
QUICK = [("int3<group=128>", 90, 16), ("mxfp4", 90, 64), ("e2m1<group=128>", 80, 16)]


def loop_of(made: bytes) -> Mix:
    """The main loop of a kernel that keeps its numbers in registers."""
    (stats,) = stats_of(made)
    assert stats.loop is not None
    assert not stats.spills
    return stats.loop


def ours(text: str, target: int, rows: int) -> tuple[Mix, int]:
    """The main loop of x f16[rows, 4096] @ w[4096, 4096], in tiles of `rows` x 64, and its step."""
    types = {"x": tc.f16, "w": named(text), "y": tc.f32}
    dims, schedule = {"M": rows, "N": 4096, "K": 4096}, Schedule(oldest=target)
    source = triton_source(kernels.linear.definition, dims, types, schedule)
    order = source.orders["w.codes"]
    assert isinstance(order, Interleaved)
    return loop_of(compile_for(source, f"sm_{target}").cubin), order.step


@pytest.mark.parametrize(("text", "target", "rows"), [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
    for case in product(SLOTS, (90, 80), (16, 64))
])  # fmt: skip
def test_takes_few_issue_slots(text, target, rows):
    """Weights are the first operand of wgmma, in registers: none is stored to shared memory."""
    loop, step = ours(text, target, rows)
    assert loop.instructions * 16 / step <= SLOTS[text][target == 80][rows == 64]
    assert loop.count("HGMMA.RS") == loop.count("HGMMA")
    assert loop.count("HGMMA" if target == 90 else "HMMA")
    assert not loop.count("STS")


@pytest.mark.slow
@pytest.mark.parametrize(("target", "most"), [("sm_80", 62.0), ("sm_90", 62.0)])
def test_takes_few_issue_slots_for_products_of_bytes(target, most):
    """For 32 k's, beside 64 rows."""
    types = {"x": tc.i8, "w": named("int4<channel>"), "y": tc.f32}
    dims = {"M": 64, "N": 4096, "K": 4096}
    source = triton_source(kernels.linear.definition, dims, types)
    loop = loop_of(compile_for(source, target).cubin)
    order = source.orders["w.codes"]
    assert isinstance(order, Interleaved)
    assert loop.instructions * 32 / order.step <= most
    assert loop.count("PRMT") <= 20
    assert loop.count("IGMMA" if target == "sm_90" else "IMMA")
    assert not loop.count("STS")


MORE = pytest.mark.slow
NAIVE = {  # how the usual kernel has codes, and how many more slots it takes beside 16 and 64 rows
    "int4<group=128>": (("mid", 4, 8, 128), 2.8, 2.8),
    "int2<group=128>": (("mid", 2, 16, 128), 2.6, 2.5),
    "int1<group=128>": (("mid", 1, 32, 128), 3.0, 2.9),
    "int4<group=32>": (("mid", 4, 8, 32), 2.5, 1.9),
    "e2m1<group=128>": (("table", 4, 8, 128), 2.1, 2.1),
    "mxfp4": (("table", 4, 8, 32), 2.3, 2.0),
    "nvfp4": (("table", 4, 8, 16), 1.6, 1.3),
    "uint4<group=128, zero=int>": (("zero", 4, 8, 128), 1.9, 1.75),
    "int8<group=128>": (("i8",), 1.65, 1.35),
    "e4m3<group=128>": (("fp8e4nv",), 1.1, 1.0),
    "e5m2<group=128>": (("fp8e5",), 1.1, 1.0),
}


def naive(how: tuple[str | int, ...], rows: int) -> Mix:
    """The main loop of the kernel that one writes at first, in tiles of the same size."""
    types = {"x": "*fp16", "w": "*i32", "s": "*fp16", "t": "*fp16", "y": "*fp32"}
    sizes: dict[str, str | int] = {"M": rows, "N": 4096, "K": 4096, "BM": rows, "BN": 64}
    function = triton_naive.bytes_kernel
    if len(how) == 1:
        del types["t"]
        types["w"] = f"*{how[0]}"
    else:
        function, (kind, bits, each, group) = triton_naive.coded_kernel, how
        codes = {"KIND": kind, "BITS": bits, "MASK": (1 << int(bits)) - 1, "EACH": each}
        sizes |= codes | {"GROUP": group}
        types["s"] = "*fp16" if int(group) >= 64 else "*fp32"
    even = {(i,): [["tt.divisibility", 16]] for i in range(len(types))}
    ast = ASTSource(function, types | dict.fromkeys(sizes, "constexpr"), sizes, even)
    made = triton.compile(ast, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True})
    return loop_of(made.asm["cubin"])


@pytest.mark.parametrize(("text", "rows"), [
    pytest.param(*case, marks=() if case == ("int4<group=128>", 64) else MORE)
    for case in product(NAIVE, (16, 64))
])  # fmt: skip
def test_takes_fewer_issue_slots_than_the_naive_kernel(text, rows):
    """Steps of that have 128 k's, and decode what ours decodes, some of it less exactly."""
    how, *times = NAIVE[text]
    loop, step = ours(text, 90, rows)
    assert naive(how, rows).instructions > times[rows == 64] * loop.instructions * 128 / step
