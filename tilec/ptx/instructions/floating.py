"""float32 and float64 arithmetic (PTX ISA, 'Floating-point instructions').

Every result is the exact one rounded once, also where the ISA allows an approximation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilec.ptx import arithmetic
from tilec.ptx.arithmetic import flush
from tilec.ptx.formats import F32, UINT, Array, Format
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import FLOATS, TYPES, Type, types

ROUNDING = "rn rz rm rp"
F32X2 = types("f32x2")
Binary = Callable[[Any, Any, Format, str], Array]


def format_of(t: Type) -> Format:
    """The format of a floating-point type."""
    assert t.format is not None
    return t.format


def read(x: Step, n: int, t: Type | None = None) -> Array:
    """A float operand, flushed if the instruction says so."""
    t = t or x.i.types[0]
    a = x.number(n, t)
    return flush(a, F32) if "ftz" in x.i.modifiers and t.format is F32 else a


def write(x: Step, codes: Array, t: Type | None = None) -> None:
    """A float result, flushed and limited to [0, 1] (a NaN to 0) if the instruction says so."""
    t = t or x.i.types[0]
    if x.i.modifiers & {"ftz", "sat"} and t.bits >= 32:
        carrier = np.float32 if t.bits == 32 else np.float64
        d = np.asarray(codes).view(carrier)
        if "ftz" in x.i.modifiers and t.format is F32:
            d = flush(d, F32)
        if "sat" in x.i.modifiers:
            d = np.where(d > 0, np.minimum(d, carrier(1)), carrier(0))
        codes = np.asarray(d, carrier).view(UINT[t.bits])
    x.put_packed(codes, t)


def _binary(x: Step, f: Binary) -> None:
    t = x.i.types[0]
    write(x, f(read(x, 1), read(x, 2), format_of(t), x.i.rounding))


@instruction("add", f"{ROUNDING} ftz sat", types=(FLOATS | F32X2,))
def add(x: Step) -> None:
    """d = a + b."""
    _binary(x, arithmetic.add)


@instruction("sub", f"{ROUNDING} ftz sat", types=(FLOATS | F32X2,))
def sub(x: Step) -> None:
    """d = a - b."""
    _binary(x, lambda a, b, f, mode: arithmetic.add(a, -b, f, mode))


@instruction("mul", f"{ROUNDING} ftz sat", types=(FLOATS | F32X2,))
def mul(x: Step) -> None:
    """d = a * b."""
    _binary(x, arithmetic.multiply)


@instruction("fma mad", f"{ROUNDING} ftz sat", types=(FLOATS | F32X2,), operands=4)
def fma(x: Step) -> None:
    """d = a * b + c, rounded once."""
    f = format_of(x.i.types[0])
    write(x, arithmetic.fused(read(x, 1), read(x, 2), read(x, 3), f, x.i.rounding))


@instruction("div", f"{ROUNDING} approx full ftz", types=(FLOATS,))
def div(x: Step) -> None:
    """d = a / b."""
    _binary(x, arithmetic.divide)


@instruction("rcp", f"{ROUNDING} approx ftz", types=(FLOATS,), operands=2)
def rcp(x: Step) -> None:
    """d = 1 / a."""
    a = read(x, 1)
    one = np.ones_like(a)
    write(x, arithmetic.divide(one, a, format_of(x.i.types[0]), x.i.rounding))


@instruction("sqrt", f"{ROUNDING} approx ftz", types=(FLOATS,), operands=2)
def sqrt(x: Step) -> None:
    """d = the square root of a."""
    write(x, arithmetic.square_root(read(x, 1), format_of(x.i.types[0]), x.i.rounding))


def _sign(t: Type) -> Any:
    return UINT[t.bits](1 << t.bits - 1)


@instruction("neg", "ftz", types=(FLOATS,), operands=2)
def neg(x: Step) -> None:
    """d = -a: the other sign bit."""
    t = x.i.types[0]
    write(x, read(x, 1).view(UINT[t.bits]) ^ _sign(t))


@instruction("abs", "ftz", types=(FLOATS,), operands=2)
def absolute(x: Step) -> None:
    """d = |a|: no sign bit."""
    t = x.i.types[0]
    write(x, read(x, 1).view(UINT[t.bits]) & ~_sign(t))


@instruction("copysign", types=(FLOATS,))
def copysign(x: Step) -> None:
    """d = |b| with the sign of a."""
    s = _sign(x.i.types[0])
    x.put((x.bits(1) & s) | (x.bits(2) & ~s))


def chosen(a: Array, b: Array, greater: bool, nan: bool) -> Array:
    """The lesser or the greater; -0 is less than +0; of a NaN the other, unless `nan`."""
    a, b = np.broadcast_arrays(a, b)
    pick = (a > b) if greater else (a < b)
    tie = (a == b) & (np.signbit(a) != np.signbit(b))
    pick = np.where(tie, np.signbit(b) if greater else np.signbit(a), pick)
    d = np.where(pick | np.isnan(b), a, b)
    return np.where(np.isnan(a) | np.isnan(b), np.float32("nan"), d) if nan else d


def _extreme(x: Step, greater: bool) -> None:
    t = x.i.types[0]
    d = read(x, 1)
    sign = np.signbit(d)
    for n in range(2, len(x.i.operands)):
        other = read(x, n)
        sign = sign ^ np.signbit(other)
        if "abs" in x.i.modifiers:
            d, other = np.abs(d), np.abs(other)
        d = chosen(d, other, greater, "NaN" in x.i.modifiers)
    if "xorsign" in x.i.modifiers:
        d = np.where(sign, -np.abs(d), np.abs(d))
    write(x, arithmetic.encode(np.asarray(d), format_of(t)))


@instruction("min", "ftz NaN xorsign abs", types=(FLOATS,), operands=(3, 4))
def minimum(x: Step) -> None:
    """d = the least operand."""
    _extreme(x, greater=False)


@instruction("max", "ftz NaN xorsign abs", types=(FLOATS,), operands=(3, 4))
def maximum(x: Step) -> None:
    """d = the greatest operand."""
    _extreme(x, greater=True)


@instruction("add sub", f"{ROUNDING} sat",
             types=((TYPES["f32"],), types("f16 bf16")))  # fmt: skip
def mixed_add(x: Step) -> None:
    """d = a + c or a - c of a half and a float32."""
    a, c = x.number(1, x.i.types[1]), x.number(2)
    c = -c if x.i.name == "sub" else c
    write(x, arithmetic.add(a, c, F32, x.i.rounding))


@instruction("fma", f"{ROUNDING} sat", types=((TYPES["f32"],), types("f16 bf16")), operands=4)
def mixed_fma(x: Step) -> None:
    """d = a * b + c of halves a and b and a float32 c."""
    a, b = x.number(1, x.i.types[1]), x.number(2, x.i.types[1])
    write(x, arithmetic.fused(a, b, x.number(3), F32, x.i.rounding))
