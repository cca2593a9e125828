"""Codes as whole numbers in a product: what they stand for, and dtypes that have all of them."""

from __future__ import annotations

import numpy as np

from tilec.ir.bits import from_raw
from tilec.ir.core import Builder, Value
from tilec.ir.dtype import Array, DType, i8, i16, u8
from tilec.ir.ops import arith, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.scaled import Scaled
from tilec.passes.parts import tile


def values(format: Scaled) -> Array:
    """What every code of a format stands for beside a scale: its value less the middle."""
    own = from_raw(format.codes, np.arange(1 << format.codes.bits)).astype(np.float64)
    return own - taken(format)


def taken(format: Scaled) -> int:
    """What is taken from every code in a product: the middle, if there is one, keeps sums small."""
    return format.mid if format.zero not in ("none", "min") else 0


def exact(values_: Array, t: DType) -> bool:
    """Whether a dtype has all these values."""
    return bool(np.array_equal(t.round(values_), values_, equal_nan=True))


def byte(values_: Array) -> DType | None:
    """The dtype of 8 bits that has all these values."""
    return next((t for t in (i8, u8) if exact(values_, t)), None)


def centred(codes: Value, format: Scaled, dtype: DType, b: Builder) -> Value:
    """Codes less their middle, in a dtype that has them all."""
    middle = taken(format)
    if not middle:
        return b(Cast(codes, dtype))
    wide = i16 if dtype.is_integer and dtype.bits < 16 else dtype
    found = b(Cast(codes, wide))
    found = b(arith.Sub(found, b(shape.Full(tile(found).shape, middle, wide))))
    return found if dtype == wide else b(Cast(found, dtype))
