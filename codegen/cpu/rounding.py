"""Rounding that knows no dtype: to odd, to multiples of powers of two, and by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.codegen.cpu.llvm import Function, V, constant
from tilec.ir.dtype import Array, Rounding


@dataclass(frozen=True)
class Spacing:
    """Multiples of 2**(e - mantissa) where 2**e <= |x| < 2**(e + 1), with e at least `least`."""

    least: int
    mantissa: int

    def round(self, x: Array, mode: Rounding) -> Array:
        """What `snapped` makes of magnitudes, in numpy."""
        _, e = np.frexp(x)
        unit = np.maximum(e - 1, self.least) - self.mantissa
        whole = np.rint if mode == "nearest" else np.trunc
        return np.ldexp(whole(np.ldexp(x, -unit)), unit)


def snapped(f: Function, s: Spacing, magnitude: V, mode: Rounding) -> V:
    """Floats from 0 to 2**100 rounded to nearest-even or toward zero, by adding and taking away a
    power of two whose last place is the unit of the result."""
    n = magnitude.lanes
    field = f.binary("and", f.convert("bitcast", magnitude, "i32"), constant("i32", 0xFF << 23, n))
    field = f.intrinsic("smax", field, constant("i32", s.least + 127 << 23, n))
    unit = f.binary("add", field, constant("i32", 23 - s.mantissa << 23, n))
    big = f.convert("bitcast", unit, "float")
    y = f.binary("fsub", f.binary("fadd", magnitude, big), big)
    if mode == "nearest":
        return y
    unit = f.binary("sub", field, constant("i32", s.mantissa << 23, n))
    less = f.binary("fsub", y, f.convert("bitcast", unit, "float"))
    return f.select(f.compare("fcmp ogt", y, magnitude), less, y)


def chance(f: Function, random: V) -> V:
    """Random bits as doubles in [0, 1)."""
    n = random.lanes
    return f.binary("fmul", f.convert("uitofp", random, "double"), constant("double", 2.0**-32, n))


def by_chance(f: Function, s: Spacing, x: V, random: V) -> V:
    """Doubles rounded to the multiple above or below, as the fraction and the random bits say."""
    n = x.lanes
    field = f.binary("lshr", f.convert("bitcast", f.intrinsic("fabs", x), "i64"),
                     constant("i64", 52, n))  # fmt: skip
    field = f.intrinsic("smax", field, constant("i64", s.least + 1023, n))
    unit = f.binary("sub", field, constant("i64", s.mantissa, n))
    parts = f.binary("sub", constant("i64", 2046, n), unit)  # of a unit and of its inverse
    unit, parts = (
        f.convert("bitcast", f.binary("shl", e, constant("i64", 52, n)), "double")
        for e in (unit, parts)
    )
    whole = f.binary("fadd", f.binary("fmul", x, parts), chance(f, random))
    y = f.binary("fmul", f.intrinsic("floor", whole), unit)
    return f.intrinsic("copysign", y, x)


def odd(f: Function, v: V, last: int = 1) -> V:
    """double -> float toward zero, the last bit set where inexact: rounding again is then harmless.

    With `last` = 0 it is only toward zero.
    """
    n = v.lanes
    near = f.convert("fptrunc", v, "float")
    back = f.convert("fpext", near, "double")
    bits = f.convert("bitcast", near, "i32")
    above = f.compare("fcmp ogt", f.intrinsic("fabs", back), f.intrinsic("fabs", v))
    down = f.select(above, f.binary("sub", bits, constant("i32", 1, n)), bits)
    exact = f.compare("fcmp oeq", back, v)
    inexact = f.convert("bitcast", f.binary("or", down, constant("i32", last, n)), "float")
    nan = f.compare("fcmp uno", v, v)
    infinite = f.compare("fcmp oeq", f.intrinsic("fabs", v), constant("double", float("inf"), n))
    plain = f.binary("or", f.binary("or", exact, nan), infinite)
    return f.select(plain, near, inexact)
