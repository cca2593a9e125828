"""Element types: one row per type, and the one rounding rule that the whole compiler agrees on.

Values travel as float64 (floats), int64 (integers) and bool arrays: every type of at most 64 bits
here fits its carrier exactly, so "compute in the carrier, round once" is the meaning of an op.

tf32 is the 19 bits of PTX in words of 32, those of an f32 whose last 13 bits are 0. A cast to it
rounds ties to even like any other, as `cvt.rn.tf32.f32` does from sm_90 on; `cvt.rna.tf32.f32`, all
that sm_80 has, takes them away from zero (PTX ISA, `cvt`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tilec.ir.errors import TileError
from tilec.ir.table import Table

Array = NDArray[Any]
Rounding = Literal["nearest", "toward_zero", "stochastic"]


@dataclass(frozen=True)
class DType:
    """An element type; `storage` is the numpy type that holds one element in memory.

    `bits` are what an element takes there, but for whole bytes that hold fewer than 8.
    A `code` is a number of at most 8 bits that stands for a value in a table (`ir.codes`): it can
    be loaded, stored and cast, and is computed with in another type.
    """

    name: str
    kind: Literal["float", "int", "uint", "bool", "code"]
    bits: int
    storage: str
    exponent: int = 0  # bits of the exponent field
    mantissa: int = 0  # explicit bits of the significand
    infinite: bool = True  # whether the type has infinities (IEEE); else overflow gives NaN
    table: Table | None = field(default=None, compare=False, repr=False)  # of a code

    def __str__(self) -> str:
        return self.name

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    def holds(self, other: DType) -> bool:
        """Whether this float has every value of another or of a code, or this integer type those of
        another, NaN and infinities included."""
        if self.is_float and other.table is not None:
            values = other.table.values
            return np.array_equal(self.round(values), values, equal_nan=True)
        if self.is_float and other.is_float:
            finer = self.exponent >= other.exponent and self.mantissa >= other.mantissa
            return finer and (self.infinite or not other.infinite)
        whole = self.is_integer and other.is_integer
        return whole and self.low <= other.low and other.high <= self.high

    @property
    def numpy(self) -> np.dtype[Any]:
        """The numpy type of one element in memory."""
        return _numpy(self.storage)

    @property
    def carrier(self) -> type[Any]:
        """The numpy type in which values are computed before they are rounded."""
        return np.int64 if self.is_integer else np.bool_ if self.kind == "bool" else np.float64

    @property
    def low(self) -> int | float:
        """The least finite value."""
        if self.table is not None:
            return self.table.low
        return -self.high if self.is_float else -(1 << self.bits - 1) if self.kind == "int" else 0

    @property
    def high(self) -> int | float:
        """The greatest finite value."""
        if self.table is not None:
            return self.table.high
        if not self.is_float:
            return (1 << self.bits - (self.kind == "int")) - 1
        top = 2.0 - 2.0**-self.mantissa if self.infinite else 2.0 - 2.0 ** (1 - self.mantissa)
        return top * 2.0 ** ((1 << self.exponent - 1) - (1 if self.infinite else 0))

    def round(self, x: Array, mode: Rounding = "nearest", saturate: bool = False,
              random: Array | None = None) -> Array:  # fmt: skip
        """The values of this type for the carrier values `x`.

        Floats round to nearest-even unless `mode` says otherwise: toward zero, or by chance to one
        of the two neighbours, the upper one where the fraction of the way to it and `random`, which
        is uniform in [0, 1), make at least 1. Integers wrap modulo 2**bits, or clip if `saturate`;
        codes round to the values of their table.
        """
        if self.table is not None:
            return self.table.round(_real(x), mode, saturate, random)
        if self.is_float:
            x = np.asarray(x, np.float64) if self.bits == 64 else _real(x)
            return _round_float(self, x, mode, saturate, random)
        if not self.is_integer:
            return np.asarray(x) != 0
        return self._round_integer(np.asarray(x), mode, saturate, random)

    def _round_integer(
        self, x: Array, mode: Rounding, saturate: bool, random: Array | None
    ) -> Array:
        if x.dtype.kind == "f":
            x = np.where(np.isnan(x), 0.0, _snap(x, mode, random))
            far = np.where(x < 0, np.int64(-(1 << 63)), np.int64((1 << 63) - 1 if saturate else 0))
            inside = np.abs(x) < 2.0**63
            x = np.where(inside, np.where(inside, x, 0.0).astype(np.int64), far)
        x = x.astype(np.int64)
        if saturate:
            return np.clip(x, self.low, self.high)
        if self.bits == 64:
            return x
        x = x & ((1 << self.bits) - 1)
        return x - ((x >> (self.bits - 1)) << self.bits) if self.kind == "int" else x

    def to_storage(self, x: Array) -> Array:
        """Carrier values as elements in memory, one element to a numpy item."""
        if self.table is not None:
            return self.table.codes(x)
        return np.asarray(x).astype(self.numpy)

    def from_storage(self, x: Array) -> Array:
        """Elements in memory as carrier values."""
        if self.table is not None:
            return self.table.values[np.asarray(x).astype(np.uint8)]
        return np.asarray(x).astype(self.carrier)


@lru_cache(maxsize=64)
def _numpy(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))


def _real(x: Array) -> Array:
    """Carrier values as float64. Of a whole number of more than 53 bits it keeps 42 at least and
    whether a bit below them is set, so that to round it again to fewer does no harm."""
    x = np.asarray(x)
    if x.dtype.kind != "i":
        return x.astype(np.float64)
    long = np.abs(x) >= 1 << 53
    return np.where(long, x & -2048 | np.where(x & 2047, 2048, 0), x).astype(np.float64)


def _snap(x: Array, mode: Rounding, random: Array | None) -> Array:
    """Round to whole numbers."""
    match mode:
        case "nearest":
            return np.rint(x)
        case "toward_zero":
            return np.trunc(x)
        case "stochastic":
            if random is None:
                raise TileError("stochastic rounding needs random bits")
            return np.floor(x + random)
        case _:
            raise TileError(
                f"no rounding is called {mode!r}; there are nearest, toward_zero, stochastic"
            )


def _round_float(t: DType, x: Array, mode: Rounding, saturate: bool, random: Array | None) -> Array:
    if t.bits == 64:
        return x
    with np.errstate(all="ignore"):
        if t.name == "f32" and mode == "nearest" and not saturate:  # as a cast of numpy does
            return x.astype(np.float32).astype(np.float64)
        _, e = np.frexp(x)
        least = 2 - (1 << t.exponent - 1)  # exponent of the smallest normal number
        ulp = np.maximum(e - 1, least) - t.mantissa
        y = np.ldexp(_snap(np.ldexp(x, -ulp), mode, random), ulp)
        y = np.where(np.isfinite(x), np.copysign(y, x), x)  # floor takes -0.0 + 0.5 to 0.0
        beyond = np.abs(y) > t.high
        if saturate or mode == "toward_zero":
            inside = np.isfinite(x) | saturate
            y = np.where(beyond & inside & ~np.isnan(x), np.copysign(t.high, x), y)
            beyond = np.abs(y) > t.high
        over = np.copysign(np.inf, x) if t.infinite else np.full_like(x, np.nan)
        return np.where(beyond, over, y)


def _float(name: str, storage: str, exponent: int, mantissa: int, infinite: bool = True) -> DType:
    return DType(name, "float", 1 + exponent + mantissa, storage, exponent, mantissa, infinite)


def _integer(bits: int, signed: bool) -> DType:
    width = next(w for w in (8, 16, 32, 64) if w >= bits)
    kind = "int" if signed else "uint"
    return DType(f"{kind[0]}{bits}", kind, bits, f"{kind}{width}")


f64 = _float("f64", "float64", 11, 52)
f32 = _float("f32", "float32", 8, 23)
tf32 = DType("tf32", "float", 32, "float32", 8, 10)
f16 = _float("f16", "float16", 5, 10)
bf16 = _float("bf16", "bfloat16", 8, 7)
e4m3 = _float("e4m3", "float8_e4m3fn", 4, 3, infinite=False)
e5m2 = _float("e5m2", "float8_e5m2", 5, 2)
boolean = DType("bool", "bool", 1, "bool")
i8, i16, i32, i64 = (_integer(b, True) for b in (8, 16, 32, 64))
u8, u16, u32 = (_integer(b, False) for b in (8, 16, 32))

FLOATS = (f64, f32, tf32, f16, bf16, e4m3, e5m2)
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)
INTEGERS = (*(_integer(b, s) for s in (True, False) for b in WIDTHS), i64)
BY_NAME = {t.name: t for t in (*FLOATS, *INTEGERS, boolean)}


def integer(bits: int, signed: bool) -> DType:
    """The integer type of that width."""
    name = f"{'i' if signed else 'u'}{bits}"
    if name not in BY_NAME:
        raise TileError(
            f"no integer type has {bits} bits; there are 1 to 8, 16, 32 and 64 (signed)"
        )
    return BY_NAME[name]


def of_numpy(dtype: np.dtype[Any]) -> DType:
    """The element type of a numpy array; float32 is f32."""
    for t in (*FLOATS, i8, i16, i32, i64, u8, u16, u32, boolean):
        if t.numpy == dtype:
            return t
    raise TileError(f"no element type of tilec is stored as numpy's {dtype}")


def promote(a: DType, b: DType) -> DType:
    """The type of arithmetic on two different types: the least that holds both, as in torch."""
    if a == b:
        return a
    for t in (a, b):
        if t.kind == "code":
            raise TileError(f"expected numbers, not codes of {t}", hint="cast them to f32 first")
    order = {"bool": 0, "uint": 1, "int": 2, "float": 3}
    low, high = sorted((a, b), key=lambda t: (order[t.kind], t.bits))
    if high.is_float:
        return f32 if low.is_float and high.bits < 64 and low.bits == high.bits else high
    if low.kind == "uint" and high.kind == "int" and low.bits >= high.bits:
        return next(t for t in (i8, i16, i32, i64) if t.bits > low.bits or t.bits == 64)
    return high
