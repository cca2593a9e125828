"""Exact floating-point steps: results whose later rounding is the only one.

float64 holds the product of two float32 numbers exactly. A sum is rounded to odd (Boldo and
Melquiond, 'Emulation of FMA and correctly rounded sums'), so that rounding it again to a narrower
format is right in every mode.
"""

from __future__ import annotations

import numpy as np

from tilec.ptx.formats import F32, F64, Array, Format, encode

SPLIT = 134217729.0  # 2**27 + 1: cuts a float64 into two halves of 26 bits


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b and what rounding left out of it (Knuth)."""
    s = a + b
    part = s - a
    error = (a - (s - part)) + (b - part)
    return s, np.where(np.isfinite(s), error, 0.0)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """a * b and what rounding left out of it (Dekker); the halves must not overflow."""
    p = a * b
    a_high, b_high = a * SPLIT - (a * SPLIT - a), b * SPLIT - (b * SPLIT - b)
    a_low, b_low = a - a_high, b - b_high
    error = ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low
    return p, np.where(np.isfinite(p) & np.isfinite(error), error, 0.0)


def to_odd(s: Array, error: Array) -> Array:
    """A rounded float64 with the sign of its error, as rounding to odd would have given it."""
    bits = np.ascontiguousarray(s).view(np.int64)
    fix = (error != 0) & ((bits & 1) == 0) & np.isfinite(s)
    if not fix.any():
        return s
    step = np.where((error > 0) == (s > 0), 1, -1)
    return np.where(fix, bits + step, bits).view(np.float64)


def directed(s: Array, error: Array, mode: str) -> Array:
    """A float64 that was rounded to nearest, with its error, in another rounding mode."""
    if mode == "rn":
        return s
    up = (error > 0) & ((mode == "rp") | ((mode == "rz") & (s < 0)))
    down = (error < 0) & ((mode == "rm") | ((mode == "rz") & (s > 0)))
    return np.where(up, np.nextafter(s, np.inf), np.where(down, np.nextafter(s, -np.inf), s))


def wide(x: Array) -> Array:
    """float32 or float64 values as float64."""
    return np.asarray(x, np.float64)


def add(a: Array, b: Array, f: Format, mode: str) -> Array:
    """The codes of a + b."""
    if f is F64:
        return encode(directed(*two_sum(a, b), mode), f)
    if mode == "rn":  # twice the bits and two more: rounding twice is innocuous
        return encode(a + b, f)
    return encode(to_odd(*two_sum(wide(a), wide(b))), f, mode)


def multiply(a: Array, b: Array, f: Format, mode: str) -> Array:
    """The codes of a * b."""
    if f is F64:
        return encode(directed(*two_product(a, b), mode) if mode != "rn" else a * b, f)
    return encode(a * b, f) if mode == "rn" else encode(wide(a) * wide(b), f, mode)


def fused(a: Array, b: Array, c: Array, f: Format, mode: str) -> Array:
    """The codes of a * b + c, rounded once (`rn` only for f64)."""
    if f is F64:
        return encode(_fused64(a, b, c), f)
    p, c = wide(a) * wide(b), wide(c)
    s = p + c
    if f is F32 and mode == "rn":
        low = np.ascontiguousarray(s).view(np.uint64) & np.uint64(0x1FFFFFFF)
        halfway = (low == 0x10000000) | (np.abs(s) < 2.0**-125)
        if not halfway.any():
            return encode(s, f)
    return encode(to_odd(*two_sum(p, c)), f, mode)


def _fused64(a: Array, b: Array, c: Array) -> Array:
    product, product_error = two_product(a, b)
    low, low_error = two_sum(np.asarray(c), product_error)
    high, high_error = two_sum(product, low)
    rest = to_odd(*two_sum(low_error, high_error))
    return np.where(np.isfinite(high), high + rest, product + c)


def divide(a: Array, b: Array, f: Format, mode: str) -> Array:
    """The codes of a / b (`rn` only for f64)."""
    if f is F64 or mode == "rn":
        return encode(a / b, f)
    a, b = wide(a), wide(b)
    q = a / b
    back, error = two_product(q, b)
    missing = np.where(np.isfinite(q), ((a - back) - error) * np.sign(b), 0.0)
    return encode(to_odd(q, missing), f, mode)


def square_root(a: Array, f: Format, mode: str) -> Array:
    """The codes of the square root (`rn` only for f64)."""
    if f is F64 or mode == "rn":
        return encode(np.sqrt(a), f)
    a = wide(a)
    root = np.sqrt(a)
    back, error = two_product(root, root)
    missing = np.where(np.isfinite(root), (a - back) - error, 0.0)
    return encode(to_odd(root, missing), f, mode)


def flush(x: Array, f: Format) -> Array:
    """Values with those that are subnormal in a format replaced by zeros of their sign."""
    small = np.abs(x) < x.dtype.type(2.0**f.least)
    return np.where(small, np.copysign(x.dtype.type(0), x), x)
