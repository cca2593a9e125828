"""A product and a sum, rounded once."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from tilec.ir.dtype import Array


def in_doubles(a: float, b: float, c: float) -> float:
    """a * b + c of doubles."""
    if math.isinf(c) and math.isfinite(a) and math.isfinite(b):
        return c  # the product is finite, though a double may not hold it
    if not all(map(math.isfinite, (a, b, c))):
        return a * b + c
    try:
        exact = Fraction(a) * Fraction(b) + Fraction(c)
        return float(exact) if exact else a * b + c  # which knows the sign of zero
    except OverflowError:
        return a * b + c


def odd_sum(p: Array, c: Array) -> Array:
    """p + c in float64, its last bit set where inexact, so that a second rounding does no harm."""
    s = p + c
    t = s - p
    error = (p - (s - t)) + (c - t)
    even = s.view(np.int64) & 1 == 0
    nudged = np.nextafter(s, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & even & np.isfinite(s), nudged, s)
