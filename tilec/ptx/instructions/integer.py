"""Integer arithmetic (PTX ISA, 'Integer arithmetic instructions')."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ptx.formats import INT, UINT, Array
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import INTEGERS, S32, Type, types
from tilec.ptx.values import numbers

PAIRS = types("u16x2 s16x2")
WORDS = types("u32 s32")


def clipped(x: Array, t: Type) -> Array:
    """Wider integers limited to the range of a type."""
    signed = t.kind == "int"
    low = -(1 << t.bits - 1) if signed else 0
    return np.clip(x, low, (1 << t.bits - signed) - 1)


@instruction("add", "sat", types=(INTEGERS | PAIRS,))
def add(x: Step) -> None:
    """d = a + b; `.sat` limits a signed sum."""
    t = x.i.types[0]
    a, b = x.number(1), x.number(2)
    if "sat" in x.i.modifiers:
        x.put(clipped(np.add(a, b, dtype=np.int64), t).astype(INT[t.bits]))
    else:
        x.put_packed(a + b, t)


@instruction("sub", "sat", types=(INTEGERS | PAIRS,))
def sub(x: Step) -> None:
    """d = a - b; `.sat` limits a signed difference."""
    t = x.i.types[0]
    a, b = x.number(1), x.number(2)
    if "sat" in x.i.modifiers:
        x.put(clipped(np.subtract(a, b, dtype=np.int64), t).astype(INT[t.bits]))
    else:
        x.put_packed(a - b, t)


def high(a: Any, b: Any, t: Type) -> Array:
    """The upper half of the product of two integers of a type."""
    if t.bits < 64:
        carrier = (INT if t.kind == "int" else UINT)[2 * t.bits]
        return (a.astype(carrier) * b.astype(carrier) >> carrier(t.bits)).astype(a.dtype)
    a, b = np.asarray(a), np.asarray(b)
    product = _high64(a.view(np.uint64), b.view(np.uint64))
    if t.kind == "int":  # subtract what the sign bits stand for
        product = product.view(np.int64) - np.where(a < 0, b, 0) - np.where(b < 0, a, 0)
    return product


def _high64(a: Array, b: Array) -> Array:
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a_low, a_high, b_low, b_high = a & mask, a >> half, b & mask, b >> half
    middle = a_high * b_low + (a_low * b_low >> half)
    other = a_low * b_high + (middle & mask)
    return a_high * b_high + (middle >> half) + (other >> half)


def product(x: Step) -> tuple[Any, Type]:
    """The part of a * b that .lo, .hi or .wide names, and its type."""
    t = x.i.types[0]
    a, b = x.number(1), x.number(2)
    match x.i.one_of("lo", "hi", "wide"):
        case "wide":
            carrier = (INT if t.kind == "int" else UINT)[2 * t.bits]
            return a.astype(carrier) * b.astype(carrier), Type("", t.kind, 2 * t.bits)
        case "hi":
            return high(a, b, t), t
        case _:
            return a * b, t


@instruction("mul", "lo hi wide", types=(INTEGERS,))
def mul(x: Step) -> None:
    """d = a * b: the lower half, the upper half, or all of it."""
    x.put(product(x)[0])


@instruction("mad", "lo hi wide sat", types=(INTEGERS,), operands=4)
def mad(x: Step) -> None:
    """d = a * b + c, of the half or the whole of the product."""
    p, t = product(x)
    c = x.number(3, t)
    if "sat" in x.i.modifiers:
        x.put(clipped(np.add(p, c, dtype=np.int64), t).astype(INT[t.bits]))
    else:
        x.put(p + c)


def _product24(x: Step) -> Array:
    """The lower (.lo) or upper (.hi) 32 of the 48 bits of a product of 24-bit integers."""
    factors = [np.asarray(x.number(n)).astype(np.int64) & 0xFFFFFF for n in (1, 2)]
    if x.i.types[0].kind == "int":
        factors = [(p ^ 0x800000) - 0x800000 for p in factors]
    p = factors[0] * factors[1]
    return (p >> 16 if "hi" in x.i.modifiers else p).astype(np.uint32)


@instruction("mul24", "lo hi", types=(WORDS,))
def mul24(x: Step) -> None:
    """d = a * b of the lower 24 bits."""
    x.put(_product24(x))


@instruction("mad24", "lo hi sat", types=(WORDS,), operands=4)
def mad24(x: Step) -> None:
    """d = a * b + c of the lower 24 bits."""
    p = numbers(_product24(x), x.i.types[0])
    c = x.number(3)
    if "sat" in x.i.modifiers:
        x.put(clipped(np.add(p, c, dtype=np.int64), S32).astype(np.int32))
    else:
        x.put(p + c)


@instruction("sad", types=(INTEGERS,), operands=4)
def sad(x: Step) -> None:
    """d = c + |a - b|."""
    a, b = x.number(1), x.number(2)
    x.put(np.where(a < b, b - a, a - b) + x.number(3))


def _quotient(x: Step) -> tuple[Any, Any, Any]:
    """a, b with zeros replaced by 1, and a / b toward zero (all ones for b = 0)."""
    a, b = np.asarray(x.number(1)), np.asarray(x.number(2))
    zero = b == 0
    b = np.where(zero, b.dtype.type(1), b)
    least = (b == -1) if x.i.types[0].kind == "int" else np.zeros(b.shape, bool)
    safe = np.where(least, b.dtype.type(1), b)
    q = a // safe
    q = q + ((a % safe != 0) & ((a < 0) != (safe < 0))).astype(q.dtype)
    q = np.where(least, -a, q)
    return a, b, np.where(zero, ~np.zeros_like(q), q)


@instruction("div", types=(INTEGERS,))
def div(x: Step) -> None:
    """d = a / b toward zero; all ones where b is 0 (the ISA leaves that open)."""
    x.put(_quotient(x)[2])


@instruction("rem", types=(INTEGERS,))
def rem(x: Step) -> None:
    """d = a - a / b * b, of the sign of a; a where b is 0 (the ISA leaves that open)."""
    a, b, q = _quotient(x)
    x.put(np.where(np.asarray(x.number(2)) == 0, a, a - q * b))


@instruction("abs", types=(types("s16 s32 s64"),), operands=2)
def absolute(x: Step) -> None:
    """d = |a|."""
    x.put(np.abs(x.number(1)))


@instruction("neg", types=(types("s16 s32 s64"),), operands=2)
def neg(x: Step) -> None:
    """d = -a."""
    x.put(-x.number(1))


def _limit(x: Step, d: Any) -> None:
    if "relu" in x.i.modifiers:
        d = np.maximum(d, d.dtype.type(0))
    x.put_packed(d, x.i.types[0])


@instruction("min", "relu", types=(INTEGERS | PAIRS,))
def minimum(x: Step) -> None:
    """d = the lesser of a and b."""
    _limit(x, np.minimum(x.number(1), x.number(2)))


@instruction("max", "relu", types=(INTEGERS | PAIRS,))
def maximum(x: Step) -> None:
    """d = the greater of a and b."""
    _limit(x, np.maximum(x.number(1), x.number(2)))


def parts(x: Step, n: int, t: Type, width: int) -> Array:
    """The integers of `width` bits in the 32 bits of an operand: 32 / width x threads."""
    word = x.row(n, 32)
    shifts = np.arange(0, 32, width, dtype=np.uint32)[:, None]
    part = (word >> shifts & np.uint32((1 << width) - 1)).astype(np.int64)
    return part - (part >> (width - 1) << width) if t.kind == "int" else part


@instruction("dp4a", types=(WORDS, WORDS), operands=4)
def dp4a(x: Step) -> None:
    """d = c + the sum of the products of four bytes."""
    a, b = parts(x, 1, x.i.types[0], 8), parts(x, 2, x.i.types[1], 8)
    x.put(((a * b).sum(axis=0) + x.row(3, 32)).astype(np.uint32))


@instruction("dp2a", "lo hi", types=(WORDS, WORDS), operands=4)
def dp2a(x: Step) -> None:
    """d = c + the sum of the products of two halves of a and two bytes of b."""
    a, b = parts(x, 1, x.i.types[0], 16), parts(x, 2, x.i.types[1], 8)
    b = b[2:] if "hi" in x.i.modifiers else b[:2]
    x.put(((a * b).sum(axis=0) + x.row(3, 32)).astype(np.uint32))


def _carried(x: Step, a: Any, b: Any, carry_in: bool) -> None:
    """d = a + b + carry; `.cc` keeps the carry out."""
    width = x.i.types[0].bits
    a, b = np.broadcast_arrays(a, b, np.empty(x.t.count))[:2]
    carry = x.m.carry[x.t.index].astype(UINT[width]) if carry_in else UINT[width](0)
    d = a + b
    over = d < a
    total = d + carry
    if "cc" in x.i.modifiers:
        x.m.carry[x.t.index] = over | (total < d)
    x.put(total)


@instruction("addc add", "cc", types=(types("u32 s32 u64 s64 b32 b64"),))
def addc(x: Step) -> None:
    """d = a + b, with the carry flag in (addc) and out (.cc)."""
    _carried(x, x.bits(1), x.bits(2), x.i.name == "addc")


@instruction("subc sub", "cc", types=(types("u32 s32 u64 s64 b32 b64"),))
def subc(x: Step) -> None:
    """d = a - b, with the borrow in (subc) and out (.cc), as a carry that is its inverse."""
    width = x.i.types[0].bits
    a, b = np.broadcast_to(x.bits(1), x.t.count), np.broadcast_to(x.bits(2), x.t.count)
    borrow = ~x.m.carry[x.t.index] if x.i.name == "subc" else np.zeros(x.t.count, bool)
    d = a - b - borrow.astype(UINT[width])
    if "cc" in x.i.modifiers:
        x.m.carry[x.t.index] = ~((a < b) | ((a == b) & borrow))
    x.put(d)


@instruction("madc mad", "lo hi cc", types=(types("u32 s32 u64 s64"),), operands=4)
def madc(x: Step) -> None:
    """d = half of a * b, plus c, with the carry flag in (madc) and out (.cc)."""
    t = x.i.types[0]
    p = np.asarray(product(x)[0]).view(UINT[t.bits])
    _carried(x, p, x.bits(3), x.i.name == "madc")
