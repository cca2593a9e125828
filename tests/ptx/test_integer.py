"""Integer arithmetic against Python's integers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ptx.running import evaluate, integers

COUNT = 1500
TYPES = {"u16": "uint16", "s16": "int16", "u32": "uint32", "s32": "int32", "u64": "uint64",
         "s64": "int64"}  # fmt: skip


def wrapped(values: list[int], kind: str) -> np.ndarray:
    """Python integers modulo the width of a type."""
    bits = 8 * np.dtype(kind).itemsize
    unsigned = np.array([v & ((1 << bits) - 1) for v in values], np.dtype(f"uint{bits}"))
    return unsigned.view(kind)


def pairs(kind: str) -> tuple[np.ndarray, np.ndarray]:
    return integers(kind, COUNT, 1), integers(kind, COUNT, 2)


def compare(text: str, kind: str, out: str, f: Callable[..., Any], *inputs: np.ndarray) -> None:
    named = dict(zip("abc", inputs, strict=False))
    got = evaluate(text, out, **named)
    want = wrapped([f(*row) for row in zip(*(a.tolist() for a in inputs), strict=True)], out)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("t", TYPES)
@pytest.mark.parametrize(
    ("op", "f"),
    [
        ("add", operator.add),
        ("sub", operator.sub),
        ("mul.lo", operator.mul),
        ("min", min),
        ("max", max),
    ],
)
def test_two_operands(t, op, f):
    kind = TYPES[t]
    compare(f"{op}.{t} %d, %a, %b;", kind, kind, f, *pairs(kind))


def truncated(a: int, b: int) -> int:
    q = abs(a) // abs(b)
    return q if (a < 0) == (b < 0) else -q


@pytest.mark.parametrize("t", TYPES)
def test_division_goes_toward_zero(t):
    kind = TYPES[t]
    a, b = pairs(kind)
    b = np.where(b == 0, 7, b).astype(kind)
    compare(f"div.{t} %d, %a, %b;", kind, kind, truncated, a, b)
    compare(f"rem.{t} %d, %a, %b;", kind, kind, lambda x, y: x - truncated(x, y) * y, a, b)


@pytest.mark.parametrize("t", TYPES)
def test_upper_half_of_a_product(t):
    kind = TYPES[t]
    bits = 8 * np.dtype(kind).itemsize
    compare(f"mul.hi.{t} %d, %a, %b;", kind, kind, lambda a, b: a * b >> bits, *pairs(kind))
    c = integers(kind, COUNT, 3)
    text = f"mad.hi.{t} %d, %a, %b, %c;"
    compare(text, kind, kind, lambda a, b, c: (a * b >> bits) + c, *pairs(kind), c)


@pytest.mark.parametrize("t", ["u16", "s16", "u32", "s32"])
def test_whole_product(t):
    kind = TYPES[t]
    wide = {"u16": "uint32", "s16": "int32", "u32": "uint64", "s32": "int64"}[t]
    compare(f"mul.wide.{t} %d, %a, %b;", kind, wide, operator.mul, *pairs(kind))
    c = integers(wide, COUNT, 3)
    text = f"mad.wide.{t} %d, %a, %b, %c;"
    compare(text, kind, wide, lambda a, b, c: a * b + c, *pairs(kind), c)


@pytest.mark.parametrize("t", TYPES)
def test_three_operands(t):
    kind = TYPES[t]
    c = integers(kind, COUNT, 3)
    compare(f"mad.lo.{t} %d, %a, %b, %c;", kind, kind, lambda a, b, c: a * b + c, *pairs(kind), c)
    compare(f"sad.{t} %d, %a, %b, %c;", kind, kind, lambda a, b, c: abs(a - b) + c, *pairs(kind), c)


def clip(v: int) -> int:
    return max(-(2**31), min(v, 2**31 - 1))


def test_saturation():
    a, b = pairs("int32")
    compare("add.sat.s32 %d, %a, %b;", "int32", "int32", lambda x, y: clip(x + y), a, b)
    compare("sub.sat.s32 %d, %a, %b;", "int32", "int32", lambda x, y: clip(x - y), a, b)
    c = integers("int32", COUNT, 3)
    text = "mad.hi.sat.s32 %d, %a, %b, %c;"
    compare(text, "int32", "int32", lambda x, y, z: clip((x * y >> 32) + z), a, b, c)


@pytest.mark.parametrize("t", ["s16", "s32", "s64"])
def test_one_operand(t):
    kind = TYPES[t]
    a = integers(kind, COUNT)
    compare(f"neg.{t} %d, %a;", kind, kind, operator.neg, a)
    compare(f"abs.{t} %d, %a;", kind, kind, abs, a)


def low24(v: int, signed: bool) -> int:
    v &= 0xFFFFFF
    return v - (1 << 24) if signed and v >> 23 else v


@pytest.mark.parametrize("t", ["u32", "s32"])
def test_24_bits(t):
    kind, signed = TYPES[t], t == "s32"

    def product(a: int, b: int) -> int:
        return low24(a, signed) * low24(b, signed)

    compare(f"mul24.lo.{t} %d, %a, %b;", kind, kind, product, *pairs(kind))
    compare(f"mul24.hi.{t} %d, %a, %b;", kind, kind, lambda a, b: product(a, b) >> 16, *pairs(kind))
    c = integers(kind, COUNT, 3)
    text = f"mad24.lo.{t} %d, %a, %b, %c;"
    compare(text, kind, kind, lambda a, b, c: product(a, b) + c, *pairs(kind), c)


def parts(v: int, bits: int, signed: bool) -> list[int]:
    found = [v >> k & ((1 << bits) - 1) for k in range(0, 32, bits)]
    return [p - (1 << bits) if signed and p >> bits - 1 else p for p in found]


@pytest.mark.parametrize("a", ["u32", "s32"])
@pytest.mark.parametrize("b", ["u32", "s32"])
def test_dot_products(a, b):
    left, right, c = (integers("uint32", COUNT, k) for k in range(3))

    def four(x: int, y: int, z: int) -> int:
        left, right = parts(x, 8, a == "s32"), parts(y, 8, b == "s32")
        return z + sum(p * q for p, q in zip(left, right, strict=True))

    def two(half: int) -> Callable[[int, int, int], int]:
        def f(x: int, y: int, z: int) -> int:
            left, right = parts(x, 16, a == "s32"), parts(y, 8, b == "s32")[half : half + 2]
            return z + sum(p * q for p, q in zip(left, right, strict=True))

        return f

    compare(f"dp4a.{a}.{b} %d, %a, %b, %c;", "uint32", "uint32", four, left, right, c)
    compare(f"dp2a.lo.{a}.{b} %d, %a, %b, %c;", "uint32", "uint32", two(0), left, right, c)
    compare(f"dp2a.hi.{a}.{b} %d, %a, %b, %c;", "uint32", "uint32", two(2), left, right, c)


def test_carries_make_128_bits_of_64():
    a, b = integers("uint64", COUNT, 1), integers("uint64", COUNT, 2)
    split = "mov.b64 {%r1, %r2}, %a; mov.b64 {%r3, %r4}, %b;"
    join = "mov.b64 %d, {%r5, %r6};"
    add = "add.cc.u32 %r5, %r1, %r3; addc.u32 %r6, %r2, %r4;"
    sub = "sub.cc.u32 %r5, %r1, %r3; subc.u32 %r6, %r2, %r4;"
    compare(split + add + join, "uint64", "uint64", operator.add, a, b)
    compare(split + sub + join, "uint64", "uint64", operator.sub, a, b)
    wide = (
        "mul.lo.u32 %r5, %r1, %r3; mul.hi.u32 %r6, %r1, %r3; "
        "mad.lo.cc.u32 %r6, %r1, %r4, %r6; madc.hi.u32 %r7, %r1, %r4, 0; "
        "mad.lo.cc.u32 %r6, %r2, %r3, %r6; madc.hi.u32 %r7, %r2, %r3, %r7;"
    )
    compare(split + wide + join, "uint64", "uint64", operator.mul, a, b)


def test_carries_go_through_full_words():
    """0xFFFFFFFF and a carry make another one."""
    a = np.array([0xFFFFFFFF, 1, 0], np.uint32)
    text = "add.cc.u32 %r1, %a, 1; addc.cc.u32 %r2, 0xFFFFFFFF, 0; addc.u32 %d, 5, 0;"
    assert evaluate(text, "uint32", a=a).tolist() == [6, 5, 5]
    text = "sub.cc.u32 %r1, 0, %a; subc.cc.u32 %r2, 0, 0; subc.u32 %d, 5, 0;"
    assert evaluate(text, "uint32", a=a).tolist() == [4, 4, 5]


@pytest.mark.parametrize("t", ["u16x2", "s16x2"])
def test_packed_halves(t):
    a, b = integers("uint32", COUNT, 1), integers("uint32", COUNT, 2)
    kind = "int16" if t[0] == "s" else "uint16"
    for op, f in (("add", np.add), ("min", np.minimum), ("max", np.maximum)):
        want = f(a.view(kind), b.view(kind)).view("uint32")
        np.testing.assert_array_equal(evaluate(f"{op}.{t} %d, %a, %b;", "uint32", a=a, b=b), want)


VIDEO: dict[str, Callable[[int, int], int]] = {
    "vadd": operator.add, "vsub": operator.sub, "vabsdiff": lambda a, b: abs(a - b),
    "vmin": min, "vmax": max, "vavrg": lambda a, b: (a + b + (a + b >= 0)) >> 1,
}  # fmt: skip


@pytest.mark.parametrize("op", VIDEO)
@pytest.mark.parametrize("many", [2, 4])
@pytest.mark.parametrize("t", ["u32", "s32"])
def test_bytes_and_halves_of_words(op, many, t):
    a, b, c = (integers("uint32", 300, k) for k in range(3))
    width, signed = 32 // many, t == "s32"
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)

    def each(x: int, y: int) -> list[int]:
        return [VIDEO[op](p, q) for p, q in zip(parts(x, width, signed), parts(y, width, signed),
                                                strict=True)]  # fmt: skip

    def word(values: list[int]) -> int:
        return sum((v & ((1 << width) - 1)) << width * k for k, v in enumerate(values))

    def limited(x: int, y: int, _: int) -> int:
        return word([min(max(v, low), high) for v in each(x, y)])

    text = f"{op}{many}{{}}.{t}.{t}.{t} %d, %a, %b, %c;"
    compare(text.format(""), "", "uint32", lambda x, y, _: word(each(x, y)), a, b, c)
    compare(text.format(".sat"), "", "uint32", limited, a, b, c)
    added = text.replace("}}", "}").replace(f".{t} %d", f".{t}.add %d")
    compare(added.format(""), "", "uint32", lambda x, y, z: sum(each(x, y)) + z, a, b, c)


def test_comparisons_of_bytes():
    a, b = integers("uint32", 300, 1), integers("uint32", 300, 2)
    want = (a.view(np.uint8) > b.view(np.uint8)).astype(np.uint8).view(np.uint32)
    got = evaluate("vset4.u32.u32.gt %d, %a, %b, %b;", "uint32", a=a, b=b)
    np.testing.assert_array_equal(got, want)
