"""Arithmetic of f16 and bf16, one or two in a register (PTX ISA, 'Half precision instructions')."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ptx import arithmetic
from tilec.ptx.arithmetic import flush
from tilec.ptx.formats import F16, UINT, Array, decode, encode
from tilec.ptx.instructions.floating import chosen, format_of
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import HALVES, Type
from tilec.ptx.values import packed


def _read(x: Step, n: int) -> Array:
    """An operand, flushed if the instruction says so."""
    a = x.number(n)
    return flush(np.asarray(a), format_of(x.i.types[0])) if "ftz" in x.i.modifiers else a


def _write(x: Step, codes: Any) -> None:
    """A result, flushed and limited as the instruction says."""
    t = x.i.types[0]
    f = format_of(t)
    if "ftz" in x.i.modifiers:
        codes = encode(flush(decode(codes, f), f), f)
    if x.i.modifiers & {"sat", "relu"}:
        codes = _limited(np.asarray(codes), f is F16, "sat" in x.i.modifiers)
    x.put_packed(codes, t)


def _limited(codes: Array, ieee: bool, sat: bool) -> Any:
    """Codes of f16 (`ieee`) or bf16 limited to [0, 1], a NaN to 0 (`sat`), or to no sign."""
    zero, one = UINT[16](0), UINT[16](0x3C00 if ieee else 0x3F80)
    negative = (codes >> UINT[16](15)) == 1
    nan = (codes & UINT[16](0x7FFF)) > UINT[16](0x7C00 if ieee else 0x7F80)
    if sat:
        return np.where(negative | nan, zero, np.minimum(codes, one))
    return np.where(negative & ~nan, zero, codes)


@instruction("add", "rn ftz sat", types=(HALVES,))
def add(x: Step) -> None:
    """d = a + b."""
    _write(x, arithmetic.add(_read(x, 1), _read(x, 2), format_of(x.i.types[0]), "rn"))


@instruction("sub", "rn ftz sat", types=(HALVES,))
def sub(x: Step) -> None:
    """d = a - b."""
    _write(x, arithmetic.add(_read(x, 1), -_read(x, 2), format_of(x.i.types[0]), "rn"))


@instruction("mul", "rn ftz sat", types=(HALVES,))
def mul(x: Step) -> None:
    """d = a * b."""
    _write(x, arithmetic.multiply(_read(x, 1), _read(x, 2), format_of(x.i.types[0]), "rn"))


@instruction("fma", "rn ftz sat relu", types=(HALVES,), operands=4)
def fma(x: Step) -> None:
    """d = a * b + c, rounded once."""
    a, b, c = _read(x, 1), _read(x, 2), _read(x, 3)
    _write(x, arithmetic.fused(a, b, c, format_of(x.i.types[0]), "rn"))


def _flipped(x: Step, keep: bool) -> None:
    """The sign bit of each half cleared (`keep`: the rest is kept) or inverted."""
    t: Type = x.i.types[0]
    bits = x.bits(1)
    if "ftz" in x.i.modifiers:
        codes = encode(_read(x, 1), format_of(t))
        bits = packed(codes, t) if t.lanes > 1 else codes
    signs = UINT[t.width](0x80008000 if t.lanes > 1 else 0x8000)
    x.put(bits & ~signs if keep else bits ^ signs)


@instruction("neg", "ftz", types=(HALVES,), operands=2)
def neg(x: Step) -> None:
    """d = -a."""
    _flipped(x, keep=False)


@instruction("abs", "ftz", types=(HALVES,), operands=2)
def absolute(x: Step) -> None:
    """d = |a|."""
    _flipped(x, keep=True)


def _extreme(x: Step, greater: bool) -> None:
    a, b = _read(x, 1), _read(x, 2)
    sign = np.signbit(a) ^ np.signbit(b)
    if "abs" in x.i.modifiers:
        a, b = np.abs(a), np.abs(b)
    d: Array = chosen(a, b, greater, "NaN" in x.i.modifiers)
    if "xorsign" in x.i.modifiers:
        d = np.where(sign, -np.abs(d), np.abs(d))
    _write(x, encode(d, format_of(x.i.types[0])))


@instruction("min", "ftz NaN xorsign abs", types=(HALVES,))
def minimum(x: Step) -> None:
    """d = the lesser of a and b."""
    _extreme(x, greater=False)


@instruction("max", "ftz NaN xorsign abs", types=(HALVES,))
def maximum(x: Step) -> None:
    """d = the greater of a and b."""
    _extreme(x, greater=True)
