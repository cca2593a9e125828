"""Conversions (PTX ISA, `cvt`, `cvt.pack`, `szext` aside)."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ptx.arithmetic import flush
from tilec.ptx.formats import F32, INT, UINT, Array, encode
from tilec.ptx.instructions.floating import format_of
from tilec.ptx.instructions.integer import clipped
from tilec.ptx.registry import instruction
from tilec.ptx.step import Step
from tilec.ptx.types import TYPES, Type, types
from tilec.ptx.values import numbers, packed

PLAIN = types("u8 u16 u32 u64 s8 s16 s32 s64 f16 bf16 f32 f64")
WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
NARROW = types("e4m3x2 e5m2x2 e3m2x2 e2m3x2 e2m1x2 ue8m0x2")
PAIRS = types("f16x2 bf16x2")
WORD = TYPES["f32"]


@instruction("cvt", [*WHOLE, "rn", "rz", "rm", "rp", "rna", "ftz", "sat", "satfinite", "relu"],
             types=(PLAIN, PLAIN), operands=2)  # fmt: skip
def cvt(x: Step) -> None:
    """d = a in another type, rounded and limited as the instruction says."""
    to, t = x.i.types
    a = x.number(1, t)
    if t.format is F32 and "ftz" in x.i.modifiers:
        a = flush(a, F32)
    if to.kind == "float":
        _write(x, _to_float(x, np.asarray(a), t, to), to)
    elif t.kind == "float":
        x.put(_to_whole(np.asarray(a, np.float64), x.i.one_of(*WHOLE) or "rzi", t, to))
    elif "sat" in x.i.modifiers:
        x.put(_saturated(np.asarray(a), to))
    else:  # the lower bits, extended to the register by the sign of the new type
        carrier = INT if to.kind == "int" else UINT
        x.put(a.astype(carrier[to.bits]))


def _to_float(x: Step, a: Array, t: Type, to: Type) -> Array:
    f = format_of(to)
    if t.kind != "float":
        return encode(_real(a, to), f, x.i.rounding, "satfinite" in x.i.modifiers)
    whole = x.i.one_of(*WHOLE)
    if whole:
        a = WHOLE[whole](a)
    if x.i.rounding == "rn" and to.bits > 32 > t.bits:
        a = a.astype(np.float64)
    return encode(a, f, x.i.rounding, "satfinite" in x.i.modifiers)


def _real(a: Array, to: Type) -> Array:
    """Integers as float64; where that is inexact, so that a further rounding is the only one."""
    a = a.astype(np.int64 if a.dtype.kind == "i" else np.uint64)
    if to.bits == 64 or not (np.abs(a.astype(np.float64)) >= 2.0**53).any():
        return a.astype(np.float64)
    kept = a >> a.dtype.type(11)
    kept |= ((a & a.dtype.type(0x7FF)) != 0).astype(a.dtype)  # what is cut off sticks
    return np.where(np.abs(a.astype(np.float64)) < 2.0**53, a.astype(np.float64),
                    kept.astype(np.float64) * 2048.0)  # fmt: skip


def _to_whole(a: Array, mode: str, t: Type, to: Type) -> Array:
    """Floats as integers of a type, limited to its range."""
    a = WHOLE[mode](a)
    signed = to.kind == "int"
    low = float(-(1 << to.bits - 1)) if signed else 0.0
    beyond = 2.0 ** (to.bits - signed)
    inside = np.where((a >= low) & (a < beyond), a, 0.0)
    carrier = (INT if signed else UINT)[64]
    d = inside.astype(carrier)
    d = np.where(a >= beyond, carrier(int(beyond) - 1), np.where(a < low, carrier(int(low)), d))
    nan = int(2.0 ** (to.bits - 1)) if t.bits == 64 or to.bits == 64 else 0
    d = np.where(np.isnan(a), np.uint64(nan).astype(carrier), d)
    return d.astype((INT if signed else UINT)[to.bits])


def _saturated(a: Array, to: Type) -> Array:
    if a.dtype == np.uint64:
        a = np.minimum(a, np.uint64((1 << 63) - 1)) if to.bits < 64 or to.kind == "int" else a
    if to.bits == 64 and to.kind == "uint":
        return np.maximum(a, a.dtype.type(0)).astype(np.uint64)
    return clipped(a.astype(np.int64), to).astype((INT if to.kind == "int" else UINT)[to.bits])


def _write(x: Step, codes: Array, to: Type) -> None:
    """Floats with the limits that the instruction names; `.sat` gives [0, 1], `.relu` no sign."""
    if x.i.modifiers & {"sat", "relu"} or (to.format is F32 and "ftz" in x.i.modifiers):
        d = numbers(codes, to)
        if to.format is F32 and "ftz" in x.i.modifiers:
            d = flush(d, F32)
        if "sat" in x.i.modifiers:
            d = np.where(d > 0, np.minimum(d, d.dtype.type(1)), d.dtype.type(0))
        if "relu" in x.i.modifiers:
            d = np.where((d < 0) | (d == 0), d.dtype.type(0), d)
        codes = encode(d, format_of(to))
    x.put(codes)


@instruction("cvt", "rn rz rna relu satfinite", types=(types("tf32"), (WORD,)), operands=2)
def cvt_tf32(x: Step) -> None:
    """d = a with 10 bits of mantissa, the rest zeros."""
    finite = "satfinite" in x.i.modifiers
    codes = encode(x.number(1, WORD), format_of(TYPES["tf32"]), x.i.rounding, finite)
    codes = np.where(np.isnan(x.number(1, WORD)), np.uint32(0x7FFFFFFF), codes)
    if "relu" in x.i.modifiers:
        codes = np.where(codes >= 0x80000000, np.uint32(0), codes)
    x.put(codes)


def _relu(codes: Array, t: Type) -> Array:
    """Codes of negative numbers replaced by zero; NaNs are positive here."""
    f = format_of(t)
    return np.where(codes >> (f.exponent + f.mantissa) & 1 == 1, codes.dtype.type(0), codes)


def _two(x: Step) -> Array:
    """The two numbers of a packed conversion, the lower one first: threads x 2."""
    source = x.i.types[1]
    if source.lanes == 2:
        return np.broadcast_to(x.number(1, source), (x.t.count, 2))
    pair = [np.broadcast_to(x.number(n, source), x.t.count) for n in (2, 1)]
    return np.stack(pair, axis=1)


@instruction("cvt", "rn rz rp relu satfinite", types=(NARROW | PAIRS, (WORD,)), operands=3)
@instruction("cvt", "rn rz rp relu satfinite", types=(NARROW, PAIRS), operands=2)
@instruction("cvt", "rn relu satfinite", types=(PAIRS, NARROW), operands=2)
def cvt_packed(x: Step) -> None:
    """Two numbers at once: a in the upper half of d, b in the lower."""
    to = x.i.types[0]
    codes = encode(_two(x), format_of(to), x.i.rounding, "satfinite" in x.i.modifiers)
    x.put(packed(_relu(codes, to) if "relu" in x.i.modifiers else codes, to))


@instruction("cvt.pack", "sat", types=(types("s16 u16"), types("s32")), operands=3)
def cvt_pack16(x: Step) -> None:
    """a and b as 16 bits each, limited to their range; b is the lower."""
    to = x.i.types[0]
    pair = [clipped(x.row(n, 32).view(np.int32).astype(np.int64), to) for n in (2, 1)]
    x.put(packed(np.stack(pair, axis=1).astype(np.uint16), Type("", "uint", 16, 2)))


@instruction("cvt.pack", "sat", types=(types("s8 u8"), types("s32"), types("b32")), operands=4)
def cvt_pack8(x: Step) -> None:
    """a and b as 8 bits each, limited to their range, below the lower half of c."""
    to = x.i.types[0]
    a, b = (_byte(x.row(n, 32), to) for n in (1, 2))
    x.put(x.row(3, 32) << np.uint32(16) | a << np.uint32(8) | b)


def _byte(word: Any, to: Type) -> Array:
    limited = clipped(np.ascontiguousarray(word).view(np.int32).astype(np.int64), to)
    return (limited & 0xFF).astype(np.uint32)
