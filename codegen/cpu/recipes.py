"""How codes become floats: by arithmetic where that gives the whole table, else by looking up.

A recipe is chosen by trying it on every code, so it needs no proof of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tilec.ir.dtype import Array, DType

PATCHES = 2  # codes that a recipe may get wrong and put right one by one


@dataclass(frozen=True)
class Affine:
    """code * scale + offset."""

    scale: float
    offset: float


@dataclass(frozen=True)
class Shifted:
    """The code's bits as those of an f32, times a power of two; the sign moved to the top."""

    left: int
    exponents: int  # bits of the exponent and above, without the sign
    sign: int | None  # its place in the code
    scale: float
    patches: tuple[tuple[int, float], ...]


@lru_cache(maxsize=256)
def recipe_of(t: DType) -> Affine | Shifted | None:
    """The arithmetic that decodes a type, or None: then only its table does."""
    assert t.table is not None
    values = t.table.values
    return _affine(values) or _shifted(t, values)


def _affine(values: Array) -> Affine | None:
    scale, offset = float(values[1] - values[0]), float(values[0])
    with np.errstate(invalid="ignore"):
        found = np.arange(len(values)) * scale + offset
    return Affine(scale, offset) if _wrong(found, values).size == 0 else None


def _shifted(t: DType, values: Array) -> Shifted | None:
    if not t.exponent:
        return None
    signed = t.bits == 1 + t.exponent + t.mantissa
    sign = t.bits - 1 if signed else None
    codes = np.arange(len(values))
    left = 23 - t.mantissa
    body = (codes & (1 << t.bits - signed) - 1) << left
    raised = body.astype(np.int32).view(np.float32).astype(np.float64)
    normal = np.flatnonzero((raised > 0) & np.isfinite(raised) & np.isfinite(values))
    if not normal.size:
        return None
    at = int(normal[len(normal) // 2])
    scale = abs(float(values[at])) / float(raised[at])
    found = np.copysign(raised * scale, np.where(codes >> t.bits - 1 & signed, -1.0, 1.0))
    wrong = _wrong(found, values)
    if wrong.size > PATCHES or np.log2(scale) % 1 or not 2.0**-126 <= scale <= 2.0**127:
        return None
    patches = tuple((int(c), float(values[c])) for c in wrong)
    return Shifted(left, t.exponent, sign, scale, patches)


def _wrong(found: Array, values: Array) -> Array:
    """The codes of which a value is not found to the bit (any NaN will do)."""
    same = (found == values) & (np.signbit(found) == np.signbit(values))
    return np.flatnonzero(~(same | np.isnan(found) & np.isnan(values)))
