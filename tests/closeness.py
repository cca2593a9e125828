"""When a result of a back end is the one that the interpreter finds."""

from __future__ import annotations

import numpy as np

from tilec.ir.dtype import Array, DType


def close(got: Array, want: Array, t: DType, ulps: float, signs: bool = False) -> Array:
    """Where two results agree: equal (with `signs` zeros too), both NaN, or within so many units in
    the last place."""
    same = got == want
    if got.dtype.kind != "f":
        return same
    same = same & (np.signbit(got) == np.signbit(want)) if signs else same
    same = same | (np.isnan(want) & np.isnan(got))
    if not ulps:
        return same
    with np.errstate(all="ignore"):
        _, e = np.frexp(want)
        unit = np.ldexp(1.0, np.maximum(e - 1, 2 - (1 << t.exponent - 1)) - t.mantissa)
        return same | (np.abs(got - want) <= ulps * unit)
