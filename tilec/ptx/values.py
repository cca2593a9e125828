"""Bits of registers as numbers of a type, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ptx.formats import INT, UINT, Array, decode
from tilec.ptx.types import Type


def lanes(bits: Any, t: Type) -> Array:
    """The packed elements of a type in an array of one more axis, lowest first."""
    row = np.atleast_1d(np.ascontiguousarray(bits))
    if t.bits >= 8:
        return row.astype(UINT[t.width], copy=False).view(UINT[t.bits]).reshape(-1, t.lanes)
    shifts = np.arange(t.lanes, dtype=row.dtype) * row.dtype.type(t.bits)
    return ((row[:, None] >> shifts) & row.dtype.type((1 << t.bits) - 1)).astype(np.uint8)


def packed(elements: Array, t: Type) -> Array:
    """The inverse of `lanes`."""
    if t.bits >= 8:
        return np.ascontiguousarray(elements).view(UINT[t.width])[:, 0]
    shifts = np.arange(t.lanes, dtype=np.uint8) * np.uint8(t.bits)
    return np.bitwise_or.reduce(elements.astype(np.uint8) << shifts, axis=1)


def numbers(bits: Any, t: Type) -> Any:
    """The numbers that bits stand for; packed ones get an axis of their own."""
    if t.lanes > 1:
        bits = lanes(bits, t)
    if t.format is not None:
        return decode(bits, t.format)
    if t.kind == "int":
        return bits.view(INT[t.bits])
    return bits
