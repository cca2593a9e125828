"""Decoding in two steps: codes times the integer scales of their groups are bytes once more.

Where a group's scale is an integer s2 over a scale s1 of several groups, a value is
((q - z) * s2) * s1. If (q - z) * s2 has 8 bits for every code, zero and s2 that there are, bytes
are multiplied, and s1 multiplies their sum over as many groups as it has (QServe, arXiv 2405.04532,
section 4.1; DGQ, arXiv 2310.04836).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.core import Builder, Value
from tilec.ir.dtype import Array, DType, i16
from tilec.ir.format import Dense
from tilec.ir.granularity import TENSOR, Granularity
from tilec.ir.ops import arith, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.scaled import Scaled
from tilec.passes.parts import tile
from tilec.passes.scaled import Along, Decoded, Elements, spread
from tilec.passes.whole import byte, centred, taken, values


@dataclass(frozen=True)
class Expansion:
    """A format whose codes times their groups' scales are whole numbers."""

    format: Scaled
    inner: Scaled  # of the groups' scales
    least: int
    most: int

    @property
    def dtype(self) -> DType | None:
        """The dtype of 8 bits that has all products."""
        return byte(np.array([self.least, self.most]))

    @property
    def block(self) -> Granularity:
        """Which elements have one outer scale."""
        own, outer = self.format.block, self.inner.block
        if outer.rows is None or own.rows is None:
            return TENSOR
        columns = None if outer.columns is None else (own.columns or 1) * outer.columns
        return Granularity(columns, own.rows * outer.rows)


def expansion(format: Scaled) -> Expansion | None:
    """How codes expand; None where codes, zeros or groups' scales are no integers, or where there
    are no groups."""
    inner = format.scale
    if not isinstance(inner, Scaled) or inner.zeros is not None or format.block.columns is None:
        return None
    zero = format.zeros.dtype if format.zero == "int" and isinstance(format.zeros, Dense) else None
    if zero is None and format.zeros is not None:
        return None
    codes, scales = _ends(values(format)), _ends(values(inner))
    if codes is None or scales is None or not (zero is None or zero.is_integer):
        return None
    if zero is not None:
        middle = taken(format)
        codes = codes[0] + middle - int(zero.high), codes[1] + middle - int(zero.low)
    products = [q * s for q in codes for s in scales]
    return Expansion(format, inner, min(products), max(products))


def _ends(values_: Array) -> tuple[int, int] | None:
    """The least and the greatest of numbers; None where they are not whole."""
    if not np.isfinite(values_).all() or (values_ != np.rint(values_)).any():
        return None
    return int(values_.min()), int(values_.max())


def expanded(elements: Elements, load: Decoded, e: Expansion, b: Builder) -> Value:
    """The tile of (q - z) * s2, in the dtype of 8 bits."""
    assert e.dtype is not None

    def number(name: str, middle: int) -> Value:
        """A whole number of each group, for every element."""
        found = elements.stored(load, name, e.format.block, b)
        whole = b(Cast(found.value, i16))
        if middle:
            whole = b(arith.Sub(whole, b(shape.Full(tile(whole).shape, middle, i16))))
        return spread(Along(whole, found.axes), (0, 1), tile(load.codes).shape, b)

    if e.format.zeros is None:
        codes = centred(load.codes, e.format, i16, b)
    else:
        codes = b(arith.Sub(b(Cast(load.codes, i16)), number("zero", 0)))
    scale = number("scale.codes", taken(e.inner))
    return b(Cast(b(arith.Mul(codes, scale)), e.dtype))


def outer(elements: Elements, load: Decoded, e: Expansion, b: Builder) -> Along:
    """The scale of the groups' scales."""
    return elements.number_of(load, e.inner.scale, "scale.scale", e.block, load.along(), b)
