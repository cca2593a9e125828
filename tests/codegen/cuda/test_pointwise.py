"""Elementwise ops printed as CUDA C++, compiled for this processor, are the interpreter's."""

from __future__ import annotations

import numpy as np
import pytest
from cases import BYTES, ULPS, values
from closeness import close
from cuda_elementwise import NARROW, SOME_CODES, TILE, Made, check, kernel, laid_out

from tilec.codegen.cuda.headers import device_headers
from tilec.codegen.cuda.pointwise import cpp_type, emit, literal, prelude, rounded, stored_type
from tilec.cuda import cuda_program, emulator
from tilec.ir.codes import CODES
from tilec.ir.core import Builder, Op, Trait, Value
from tilec.ir.dtype import (
    Array,
    DType,
    bf16,
    boolean,
    e4m3,
    e5m2,
    f16,
    f32,
    f64,
    i8,
    i32,
    i64,
    tf32,
    u8,
    u16,
    u32,
)
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Tile
from tilec.runtime.nvrtc import compile_cuda

# -- ops --


def made(b: Builder, given: Made) -> Made:
    """Every op but casts on x, y, z and the bools c."""
    out: Made = {}
    for cls in Op.registry.values():
        if Trait.ELEMENTWISE not in cls.traits or cls.fields("attribute"):
            continue  # casts, and what passes for other machines make
        xyz = [given[h] for h in "xyz"][: len(cls.fields("operand"))]
        operands = [given["c"], *xyz[1:]] if cls is arith.Where else xyz
        try:
            out[cls.name] = b(cls(*operands))
        except TileError:
            continue  # the op says itself which dtypes it takes
    return out


def every_pair(t: DType) -> tuple[Array, Array]:
    """All pairs of values of a type of at most 8 bits, whole tiles of them."""
    raw = np.arange(1 << t.bits)
    own = t.round(raw) if not t.is_float else t.from_storage(raw.astype(np.uint8).view(t.numpy))
    x, y = (a.ravel() for a in np.meshgrid(own, own, indexing="ij"))
    turns = max(1, TILE // len(x))
    return np.tile(x, turns), np.tile(y, turns)


@pytest.mark.parametrize("t", [*BYTES, *NARROW], ids=str)
def test_ops(t: DType) -> None:
    """On all pairs of numbers of at most 8 bits; zeros of two signs are as great as each other."""
    if t.bits <= 8:
        x, y = every_pair(t)
    else:
        x, y = (values(t, (8 * TILE,), i) for i in range(2))
    z, c = values(t, x.shape, 2), values(boolean, x.shape, 3)
    if t == f64:  # the interpreter's fma of a product beyond f64 and an infinity is NaN
        z = np.where(np.isinf(z), 1.0, z)
    units = {name: u * (8 if t == f64 else 1) for name, u in ULPS.items() if t.is_float}
    zeros = dict.fromkeys(("maximum", "minimum"), 1e-9)
    func = kernel({"x": t, "y": t, "z": t, "c": boolean}, len(x), made)
    check(func, {"x": x, "y": y, "z": z, "c": c}, units | zeros)


def halfway(t: DType, n: int) -> tuple[Array, Array]:
    """Factors whose products lie in the middle between two numbers of a type."""
    rng = np.random.default_rng(t.bits)
    least = 1 << t.mantissa
    a, b = (rng.integers(least, 2 * least, (2, 1 << 20)) * 2.0**-t.mantissa) * 2.0**6
    p = a * b
    beside = (t.round(np.nextafter(p, way)) for way in (-np.inf, np.inf))
    tie = (t.round(p) != p) & np.not_equal(*beside)
    return np.resize(a[tie], n), np.resize(b[tie], n)


@pytest.mark.parametrize(("t", "least"), [(f16, -24), (bf16, -100), (tf32, -100), (e5m2, -16)],
                         ids=str)  # fmt: skip
def test_fma_rounds_once(t: DType, least: int) -> None:
    """Where what is added decides the direction, and an f32 of the sum would not know it."""
    a, b = halfway(t, 4 * TILE)
    c = np.where(np.arange(len(a)) % 2, 2.0**least, -(2.0**least))
    exact = np.nextafter(a * b, np.where(c > 0, np.inf, -np.inf))
    assert (t.round(exact) != t.round(f32.round(a * b + c))).any()
    func = kernel({"x": t, "y": t, "z": t}, len(a),
                  lambda m, v: {"fma": m(arith.Fma(v["x"], v["y"], v["z"]))})  # fmt: skip
    check(func, {"x": a, "y": b, "z": c})


def test_least_products_of_tf32_round_once() -> None:
    """Just above the middle between 0 and the least number, by less than the least f32."""
    a = np.resize(np.arange(1024, 2048), 2 * TILE)
    b = -(-(1 << 21) // a)
    near = (a * b > 1 << 21) & (a * b < (1 << 21) + 256)
    assert near.any()
    x, y = (np.where(near, v, 1024) * 2.0**-79 for v in (a, b))
    func = kernel({"x": tf32, "y": tf32}, len(x),
                  lambda m, v: {"mul": m(arith.Mul(v["x"], v["y"]))})  # fmt: skip
    check(func, {"x": x, "y": y})


# -- constants, and expressions within expressions --


def constants(t: DType) -> list[float | int | bool]:
    if t == boolean:
        return [True, False]
    if t.is_integer:
        return sorted({int(t.low), int(t.low) + 1, 0, int(t.high) - 1, int(t.high)})
    return [-0.0, 1 / 3, 2.0**-149, 1e30, -np.inf, np.nan, float(t.high), float(t.low)]


def test_constants() -> None:
    types = (f64, f32, bf16, i32, i64, u32, boolean, NARROW[2], SOME_CODES[0])

    def body(b: Builder, given: Made) -> Made:
        size = given["x"].type.shape  # type: ignore[union-attr]
        return {f"{t}_{i}": b(Cast(b(shape.Full(size, value, t)), t))
                for t in types for i, value in enumerate(constants(t))}  # fmt: skip

    check(kernel({"x": u8}, TILE, body), {"x": np.zeros(TILE, np.int64)})


NESTED = """
{head}
TILEC_KERNEL(128) nested(const {kind}* x, const {kind}* y, {kind}* out) {{
  const u32 i = block_x() * 128 + thread_x();
  Share<{t}, 1> a, b, result;
  load<1>(a, 0, x + i, true);
  load<1>(b, 0, y + i, true);
  fill(result, [&](u32) {{ return {text}; }});
  store<1>(out + i, result, 0, true);
}}
"""


@pytest.mark.parametrize("t", [f16, bf16, e4m3, e5m2, tf32, i8, u16], ids=str)
def test_expressions_round_what_they_are_made_of(t: DType) -> None:
    """-(x - y) * x + y as one expression of `rounded` ones, each with the rounding of its op."""
    a, b = (Value(Tile((), t)) for _ in range(2))
    texts = {a: "a[0]", b: "b[0]"}
    n, x, y = 8 * TILE, values(t, (8 * TILE,), 1), values(t, (8 * TILE,), 2)
    found = {a: x, b: y}
    last = a
    for cls, others in ((arith.Sub, [b]), (arith.Neg, []), (arith.Mul, [a]), (arith.Add, [b])):
        op = cls(last, *others)
        last = op.result
        texts[last] = rounded(op, emit(op, [texts[v] for v in op.operands]))
        with np.errstate(all="ignore"):
            found[last] = t.round(op.evaluate(*(found[v] for v in op.operands)))
    head = "\n".join(['#include "tile.cuh"', "using namespace tilec;", *prelude([t])])
    source = NESTED.format(head=head, t=cpp_type(t), kind=stored_type(t), text=texts[last])
    out = np.full(n, 0xA5).astype(np.uint8).astype(t.numpy)
    arrays = {"x": t.to_storage(x), "y": t.to_storage(y), "out": out}
    report = emulator().run(source, "nested", (n // 128,), (128,), arrays)
    assert report.findings == ()
    assert close(t.from_storage(out), found[last], t, 0.0, signs=True).all()


# -- text --


def text_of(op: Op) -> str:
    return emit(op, [f"v{i}" for i in range(len(op.operands))])


def test_conversions_of_cpp_are_taken_where_they_round_as_they_should() -> None:
    def cast(a: DType, b: DType, *mode: object) -> str:
        return text_of(Cast(Value(Tile((), a)), b, *mode))  # type: ignore[arg-type]

    assert cast(f16, f32) == cast(f32, f16) == cast(f32, e4m3) == cast(f32, CODES["nf4"]) == "v0"
    assert cast(i8, i32) == cast(i32, i8) == cast(u16, i32) == "v0"
    assert cast(i8, f16) == cast(i32, f32) == cast(f64, f32) == "f32(v0)"
    assert (cast(i64, u32), cast(f32, f64), cast(f16, boolean)) == (
        "u32(v0)",
        "f64(v0)",
        "(v0 != 0)",
    )
    assert (cast(i32, bf16), cast(f64, f16), cast(f32, i8)) == (
        "cast<bf16>(v0)", "cast<f16>(v0)", "cast<s8>(v0)")  # fmt: skip
    assert cast(f32, e4m3, "nearest", True) == "cast<e4m3, Rounding::nearest, true>(v0)"


def test_only_what_has_to_be_rounded_is() -> None:
    def text(op: Op) -> str:
        return rounded(op, "x")

    a, b, c, n = (Value(Tile((), t)) for t in (f16, f32, i8, i32))
    exact = (arith.Neg(a), arith.Maximum(a, a), arith.Add(b, b), arith.Add(n, n), Cast(a, f32),
             Cast(c, f16), Cast(c, i32), arith.Lt(a, a), arith.Xor(c, c))  # fmt: skip
    assert {text(op) for op in exact} == {"x"}
    assert text(arith.Add(a, a)) == text(Cast(b, f16)) == text(Cast(n, f16))
    assert text(arith.Add(a, a)) == "Number<f16>::rounded(x)"
    assert text(arith.Neg(c)) == text(Cast(n, i8)) == "Number<s8>::rounded(x)"


def test_literals() -> None:
    assert [literal(1.5, t) for t in (f16, f32, f64)] == ["1.5f", "1.5f", "1.5"]
    assert literal(1 / 3, bf16) == "0.33398438f"
    assert literal(np.inf, f32) == "f32_of_bits(0x7f800000)"
    assert [literal(3, t) for t in (i8, u32, i64)] == ["3", "3u", "3ll"]
    assert literal(-(2**31), i32) == "(-2147483647 - 1)"
    assert [literal(True, boolean), literal(2.2, CODES["e2m1"])] == ["true", "2.0f"]


def test_ops_that_are_not_elementwise_are_refused() -> None:
    with pytest.raises(TileError, match="cuda: no code for transpose"):
        text_of(shape.Transpose(Value(Tile((2, 2), f32)), (1, 0)))


# -- devices --


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_devices_compile_the_same_source(target: str) -> None:
    types = {"x": f16, "y": f16, "z": f16, "c": boolean}
    for t in (f16, f64, i64):
        func = kernel(types | dict.fromkeys("xyz", t), TILE, made)
        text = cuda_program(laid_out(func)).source.text
        build = compile_cuda(text, target, headers=device_headers(), line_info=False)
        assert "warning" not in build.log
