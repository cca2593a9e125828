"""Products bit by bit: ones of AND are counted, in the order in which the weights' bits lie."""

from __future__ import annotations

import numpy as np
import pytest
from formats import codes, random_parts, scaled
from lang import kernels
from piped import Options, Piped, said

import tilec as tc
from tilec.ir.dtype import Array
from tilec.ir.named import named
from tilec.ir.packing import Layout, Plain
from tilec.ir.stream import Stream
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.tensor import PackedTensor, packed

FORCED: Options = {"lower-formats": {"planes": 64, "least": 1}}
NEVER: Options = {"lower-formats": {"planes": 0}}
BITS, BYTES = Piped(kernels.linear, FORCED), Piped(kernels.linear, NEVER)
WEIGHTS = (
    *(f"bipolar{b}" for b in range(1, 5)), *(f"uint{b}" for b in range(1, 5)),
    *(f"int{b}" for b in range(1, 5)), "ternary", "sm2", "sm3",
)  # fmt: skip
FIRST = ("int2", "bipolar1", "int3", "uint2", "bipolar2", "int4")
ONTO = "on the accumulator"


def tensor(text: str, shape: tuple[int, int], layout: Layout | None = None) -> PackedTensor:
    """Every code somewhere, powers of two as scales, small whole numbers as zeros."""
    format = scaled(text)
    return packed(format, random_parts(format, shape, exact=True), shape, layout)


def run(kernel: Piped, x: Array | PackedTensor, w: PackedTensor) -> Array:
    y = np.full((x.shape[0], w.shape[0]), np.nan, np.float32)
    kernel(x, w, y)
    return y


def exact(a: Array, w: PackedTensor) -> Array:
    """The product in float64, which holds it without rounding."""
    return a.astype(np.float64) @ w.dequantize().astype(np.float64).T


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_code_takes_part(name):
    """Odd N and K, both layouts, one row and several tiles of rows: equal, not only near."""
    i = WEIGHTS.index(name)
    zero = ", zero=int" if "int" in name else ""
    cases = [("channel", 7, Stream()), ("group=64", 1, Stream()), ("tensor", 9, Plain()),
             (f"group=96{zero}", 70, Stream())]  # fmt: skip
    for j, (block, m, layout) in enumerate(cases):
        w = tensor(f"{name}<{block}>", (67, 155), layout)
        x = tensor(f"{FIRST[(i + j) % len(FIRST)]}<channel>", (m, 155), Plain())
        assert np.array_equal(run(BITS, x, w), exact(x.dequantize(), w)), (x, w)


@pytest.mark.parametrize(
    ("text", "name"),
    [("int2<scale=f32>", "bipolar1"), ("int4<group=64, scale=f32>", "ternary"),
     ("bipolar1<scale=f32>", "uint3")],
)  # fmt: skip
def test_bits_and_bytes_agree_to_the_bit(name, text):
    """Both sum in i32 and scale as one product does, whatever the scales are."""
    rng = np.random.default_rng(3)
    for m, k, block in ((1, 300, "channel"), (40, 515, "group=128")):
        a = tc.dynamic(rng.standard_normal((m, k)).astype(np.float32), text)
        w = tc.quantize(rng.standard_normal((75, k)), f"{name}<{block}>", search=False)
        y = run(BITS, a, w)
        assert np.array_equal(y, run(BYTES, a, w)), (w, m)
        want = exact(a.dequantize(), w)
        assert np.linalg.norm(y - want) < 5e-7 * np.linalg.norm(want)


def test_dense_integers_are_operands_too():
    rng = np.random.default_rng(4)
    x = rng.integers(-128, 128, (9, 200)).astype(np.int8)
    for n in (37, 70):  # fewer columns than a block of the stream, and more
        w = tensor("bipolar1<channel>", (n, 200))
        assert np.array_equal(run(BITS, x, w), exact(x, w))
    types = {"x": tc.i8, "w": w.format, "y": tc.f32}
    dims = {"M": 9, "N": 70, "K": 200}
    assert said(BITS.compiled(types, dims).remarks) == [
        (f"ones of 8 x 1 bits of codes are counted, the scale {ONTO}", "")]  # fmt: skip


@tc.kernel
def partial_linear(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"],
                   length: tc.i32):  # fmt: skip
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K", to=length):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@pytest.mark.parametrize("rows", [2, 20])
def test_what_lies_beyond_a_stop_takes_no_part(rows):
    """Also not in the number of k's of a step, which the corrections need."""
    kernel = Piped(partial_linear, FORCED)
    rng = np.random.default_rng(rows)
    for name in ("bipolar1", "int2"):
        w = tensor(f"{name}<group=64>", (70, 192))
        x = packed(scaled("bipolar1<channel>"),
                   {"codes": codes(tc.bipolar1, (rows, 192), rng), "scale": np.ones(rows)},
                   (rows, 192), Plain())  # fmt: skip
        for stop in (1, 31, 33, 64, 77, 192):
            y = np.full((rows, 70), np.nan, np.float32)
            kernel(x, w, y, stop)
            want = x.dequantize()[:, :stop].astype(float) @ w.dequantize()[:, :stop].T
            assert np.array_equal(y, want), (name, stop)


@pytest.mark.parametrize("machine", ["x86-64-v2", "x86-64-v3", "skylake-avx512"])
def test_on_processors_with_less(machine):
    """Ones are counted without an instruction for it."""
    features = {"x86-64-v2": "", "x86-64-v3": "+avx2,+fma",
                "skylake-avx512": "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512dq"}  # fmt: skip
    older = Engine(Cache(None), host_machine(machine, features[machine]))
    for m, weight in ((2, "bipolar1<channel>"), (9, "uint2<group=32>")):
        x, w = tensor("int2<channel>", (m, 99)), tensor(weight, (70, 99))
        types = {"x": x.format, "w": w.format, "y": tc.f32}
        layouts = {"x": x.layout, "w": w.layout}
        source = BITS.compiled(types, {"M": m, "N": 70, "K": 99}, older, layouts)
        compiled = older.load(source)
        y = np.full((m, 70), np.nan, np.float32)
        older.dispatcher("linear", lambda _, c=compiled: c).launch(x, w, y)
        assert np.array_equal(y, exact(x.dequantize(), w))


@pytest.mark.parametrize(
    ("x", "w", "k", "way"),
    [
        ("int1<scale=f32>", "bipolar1<channel>", 256, "ones of 1 x 1 bits of codes are counted"),
        ("int2<scale=f32>", "uint1<channel>", 256, "ones of 2 x 1 bits of codes are counted"),
        ("bipolar1<scale=f32>", "int1<group=128>", 256, "ones of 1 x 1 bits of codes are counted"),
        ("int2<scale=f32>", "uint1<group=128>", 256, "codes in i8"),
        ("int2<scale=f32>", "int2<channel>", 256, "codes in i8"),
        ("int8<scale=f32>", "bipolar1<channel>", 256, "codes in i8"),
        ("bipolar1<scale=f32>", "bipolar1<channel>", 96, "codes in i8"),
        ("bipolar1<group=64, scale=f32>", "bipolar1<channel>", 256, "codes in i8"),
        ("int1<scale=f32>", "nf2<channel>", 256, "codes in f32"),
    ],
)
def test_few_bits_in_long_steps_are_multiplied_bit_by_bit(x, w, k, way):
    """Without options, and it is said."""
    source = Piped(kernels.linear, {}).compiled(
        {"x": named(f"dynamic<{x}>"), "w": named(w), "y": tc.f32}, {"M": 16, "N": 64, "K": k}
    )
    assert said(source.remarks) == [(f"{way}, the scale {ONTO}", "")]
    assert ("ctpop" in source.text) == ("ones" in way)


def test_words_of_a_stream_are_used_as_they_lie():
    """No code is read one by one: 1-bit words are the bits, others take shifts and masks."""
    dims = {"M": 16, "N": 128, "K": 256}
    for name, shifts in (("bipolar1", False), ("uint1", False), ("int2", True), ("int3", True)):
        types = {"x": named("dynamic<int2<scale=f32>>"), "w": named(f"{name}<channel>"),
                 "y": tc.f32}  # fmt: skip
        source = BITS.compiled(types, dims)
        assert [r.origin for r in source.remarks] == ["lower-formats"], name
        _, _, text = source.text.partition("define void @linear.1(")
        body, _, _ = text.partition("\n}\n")
        assert ("lshr <16 x i32>" in body) == shifts, name
    plain = BITS.compiled(types, dims, layouts={"w": Plain()})
    read = "the codes of `w.codes` are read one by one"
    assert (read, "a stream, the layout of CPU code: relayout(Stream())") in said(plain.remarks)
