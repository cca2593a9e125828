"""What the bits of a code stand for, by arithmetic: no table has to be looked up.

A recipe is chosen by trying it on every code, so it needs no proof of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tilec.ir.bits import from_raw
from tilec.ir.core import Value
from tilec.ir.dtype import Array, DType, f32, i32, u8
from tilec.ir.ops import arith
from tilec.ir.ops.cast import Bitcast
from tilec.passes.reader import Reader

RANGES = 4  # runs of codes that the bits of a float may get wrong: infinities, NaNs, and no -0


@dataclass(frozen=True)
class Fields:
    """The code's exponent and mantissa as those of an f32, times a power of two."""

    signed: bool
    scale: float
    ranges: tuple[tuple[int, int, float], ...]  # first and last code, and what they stand for


def value(t: DType, code: Value, r: Reader, *, native: bool = True) -> Value:
    """The f32 that codes of a dtype, whose bits are in an i32, stand for; floats of a byte are
    `native` where a machine can cast them."""
    if t.kind == "uint":
        return r.cast(code, f32)
    if t.is_integer:
        half = 1 << t.bits - 1
        return r.cast(r.op(arith.Sub, r.op(arith.Xor, code, half), half), f32)
    if t.is_float and native:
        return r.cast(r.b(Bitcast(r.cast(code, u8), t)), f32)
    fields = fields_of(t)
    if fields is not None:
        return _from_fields(t, fields, code, r)
    return _piece(_values(t), 0, code, r.cast(code, f32), r)


def _values(t: DType) -> Array:
    return from_raw(t, np.arange(1 << t.bits)).astype(np.float64)


def _same(a: Array, b: Array) -> Array:
    """Where numbers are equal to the bit (any NaN will do)."""
    return (a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b)


@lru_cache(maxsize=256)
def fields_of(t: DType) -> Fields | None:
    """How the bits of a small float become those of an f32; None where they do not."""
    values, codes = _values(t), np.arange(1 << t.bits)
    signed = t.bits == 1 + t.exponent + t.mantissa
    body = (codes & (1 << t.bits - signed) - 1) << 23 - t.mantissa
    raised = body.astype(np.int32).view(np.float32).astype(np.float64)
    numbers = np.flatnonzero((raised > 0) & np.isfinite(raised) & np.isfinite(values))
    if not t.exponent or not numbers.size:
        return None
    at = int(numbers[len(numbers) // 2])
    scale = abs(float(values[at])) / float(raised[at])
    found = np.copysign(raised * scale, np.where(codes >> t.bits - 1 & signed, -1.0, 1.0))
    ranges: list[tuple[int, int, float]] = []
    for c in np.flatnonzero(~_same(found, values)).tolist():
        again = ranges and ranges[-1][1] == c - 1 and _same(values[c - 1], values[c])
        first = ranges.pop()[0] if again else c
        ranges.append((first, c, float(values[c])))
    if len(ranges) > RANGES or np.log2(scale) % 1 or not 2.0**-126 <= scale <= 2.0**127:
        return None
    return Fields(signed, scale, tuple(ranges))


def _from_fields(t: DType, fields: Fields, code: Value, r: Reader) -> Value:
    """The sign to the top, exponent and mantissa below it, times the power of two."""
    body = code
    if fields.signed:
        body = r.op(arith.And, code, (1 << t.bits - 1) - 1)
    bits = r.op(arith.Shl, body, 23 - t.mantissa)
    if fields.signed:
        sign = r.op(arith.Shl, r.op(arith.Shr, code, t.bits - 1), 31)
        bits = r.op(arith.Or, sign, bits)
    out = r.op(arith.Mul, r.b(Bitcast(bits, f32)), fields.scale)
    for first, last, right in fields.ranges:
        after = r.b(arith.Le(r.constant(first, i32), code))
        here = r.b(arith.And(after, r.op(arith.Le, code, last)))
        out = r.b(arith.Where(here, r.constant(right), out))
    return out


def _piece(values: Array, start: int, code: Value, number: Value, r: Reader) -> Value:
    """The values of the codes from `start` on: number * slope + offset, or half by half."""
    count = len(values)
    slope = float(values[1] - values[0]) if count > 1 else 0.0
    offset = float(values[0]) - slope * start
    product = np.arange(start, start + count) * slope
    exact = [np.array_equal(f32.round(a), a) for a in (product, np.asarray(offset))]
    if count == 1 or _same(values, values[:1]).all():
        return r.constant(float(values[0]))
    if all(exact) and _same(f32.round(product + offset), values).all():
        scaled = number if slope == 1.0 else r.op(arith.Mul, number, slope)
        return r.op(arith.Add, scaled, offset) if offset else scaled
    half = count // 2
    low = _piece(values[:half], start, code, number, r)
    high = _piece(values[half:], start + half, code, number, r)
    return r.b(arith.Where(r.op(arith.Lt, code, start + half), low, high))
