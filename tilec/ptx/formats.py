"""Floating-point formats of PTX: codes to values, and values to codes with one rounding.

Values travel in float32 where the format fits it, else in float64. Table 'Alternate floating-point
data formats' and the rounding modifiers of `cvt` in the PTX ISA are the source of the rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilec.ir.errors import TileError

Array = NDArray[Any]
UINT: dict[int, type[Any]] = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
INT: dict[int, type[Any]] = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}


@dataclass(frozen=True)
class Format:
    """A binary floating-point format; `specials` says whether it has infinities and NaNs."""

    name: str
    exponent: int
    mantissa: int
    specials: Literal["ieee", "nan", "none"] = "ieee"
    sign: bool = True
    padding: int = 0  # unused low bits of the container

    @property
    def bits(self) -> int:
        """The width of a code, padding left out."""
        return self.sign + self.exponent + self.mantissa

    @property
    def bias(self) -> int:
        """What is added to the exponent of a value."""
        return (1 << self.exponent - 1) - 1

    @property
    def least(self) -> int:
        """The exponent of the smallest normal number."""
        return 1 - self.bias

    @property
    def high(self) -> float:
        """The greatest finite value."""
        top = (1 << self.exponent) - 1 - self.bias - (self.specials == "ieee")
        return (2.0 - 2.0**-self.mantissa * (2 if self.specials == "nan" else 1)) * 2.0**top

    @property
    def nan(self) -> int:
        """The canonical NaN; where there is none, the greatest number stands for it."""
        return (1 << self.exponent + self.mantissa) - 1


F64 = Format("f64", 11, 52)
F32 = Format("f32", 8, 23)
F16 = Format("f16", 5, 10)
BF16 = Format("bf16", 8, 7)
TF32 = Format("tf32", 8, 10, padding=13)
E4M3 = Format("e4m3", 4, 3, "nan")
E5M2 = Format("e5m2", 5, 2)
E3M2 = Format("e3m2", 3, 2, "none")
E2M3 = Format("e2m3", 2, 3, "none")
E2M1 = Format("e2m1", 2, 1, "none")
UE8M0 = Format("ue8m0", 8, 0, "nan", sign=False)
UE4M3 = Format("ue4m3", 4, 3, "nan", sign=False)


def decode(bits: Array, f: Format) -> Array:
    """The values of codes: float64 for f64, else float32."""
    if f is F32:
        return bits.view(np.float32)
    if f is F16:
        return bits.view(np.float16).astype(np.float32)
    if f is BF16:
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if f is F64:
        return bits.view(np.float64)
    if f is TF32:  # the low bits are not looked at
        return (bits & np.uint32(0xFFFFE000)).view(np.float32)
    return _table(f)[bits & bits.dtype.type((1 << f.bits) - 1)]


@lru_cache(maxsize=16)
def _table(f: Format) -> Array:
    """The value of every code of a format of at most 8 bits."""
    codes = np.arange(1 << f.bits)
    if f is UE8M0:
        values = np.where(codes == 255, np.nan, np.ldexp(1.0, codes - 127))
        return values.astype(np.float32)
    field = (codes >> f.mantissa) & ((1 << f.exponent) - 1)
    part = codes & ((1 << f.mantissa) - 1)
    magnitude = np.ldexp(
        np.where(field == 0, 0, 1 << f.mantissa) + part, np.maximum(field, 1) - f.bias - f.mantissa
    )
    top = (1 << f.exponent) - 1
    if f.specials == "nan":
        magnitude = np.where((field == top) & (part == (1 << f.mantissa) - 1), np.nan, magnitude)
    elif f.specials == "ieee":
        magnitude = np.where(field == top, np.where(part == 0, np.inf, np.nan), magnitude)
    negative = codes >> (f.exponent + f.mantissa) & 1
    return np.where(negative == 1, -magnitude, magnitude).astype(np.float32)


def encode(x: Array, f: Format, mode: str = "rn", finite: bool = False) -> Array:
    """The codes of float32 or float64 values, rounded once.

    `mode` is rn, rna, rz, rm or rp; `finite` gives the greatest number where the result would be
    infinite. A NaN gives the canonical NaN of the format.
    """
    x = np.asarray(x)
    if mode == "rn" and not finite:
        if f is F32:
            return _canonical(x.astype(np.float32, copy=False).view(np.uint32), x, f.nan)
        if f is F16:
            return _canonical(x.astype(np.float16).view(np.uint16), x, f.nan)
        if f is F64:
            return x.astype(np.float64, copy=False).view(np.uint64)
        if f is BF16:
            return _encode_bf16(x)
    return _encode_slowly(x.astype(np.float64, copy=False), f, mode, finite)


def _canonical(bits: Array, x: Array, nan: int) -> Array:
    bad = x != x
    return np.where(bad, bits.dtype.type(nan), bits) if bad.any() else bits


def _encode_bf16(x: Array) -> Array:
    bits = (sticky(x) if x.dtype == np.float64 else x).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return _canonical(rounded.astype(np.uint16), x, 0x7FFF)


def sticky(x: Array) -> Array:
    """float64 values as float32, inexact ones rounded to odd: a later rounding is then the only."""
    y = x.astype(np.float32)
    back = y.astype(np.float64)
    bits = y.view(np.uint32)
    away = np.abs(back) > np.abs(x)
    odd = (bits - away.astype(np.uint32)) | np.uint32(1)
    return np.where((back != x) & ~np.isnan(x), odd, bits).view(np.float32)


def _whole(x: Array, mode: str) -> Array:
    match mode:
        case "rn":
            return np.rint(x)
        case "rz":
            return np.trunc(x)
        case "rm":
            return np.floor(x)
        case "rp":
            return np.ceil(x)
        case "rna":
            return np.copysign(np.floor(np.abs(x) + 0.5), x)
        case _:
            raise TileError(f"no rounding is called {mode!r}; there are rn, rna, rz, rm and rp")


def _encode_slowly(x: Array, f: Format, mode: str, finite: bool) -> Array:
    if f is UE8M0:
        return _encode_scale(x, mode, finite)
    _, e = np.frexp(x)
    unit = np.maximum(e - 1, f.least) - f.mantissa
    y = np.ldexp(_whole(np.ldexp(x, -unit), mode), unit)
    y = np.where(np.isfinite(x), np.copysign(y, x), x)
    y = _limited(x, y, f, mode, finite)
    code = _assembled(np.abs(y), f)
    code = code | (np.signbit(y).astype(np.uint64) << np.uint64(f.exponent + f.mantissa))
    code = np.where(np.isnan(x), np.uint64(f.nan), code) << np.uint64(f.padding)
    return code.astype(UINT[8 if f.bits <= 8 else f.bits + f.padding])


def _limited(x: Array, y: Array, f: Format, mode: str, finite: bool) -> Array:
    """What overflows becomes infinite or the greatest number, by the direction of rounding."""
    inward = (mode == "rz") | ((mode == "rm") & (y > 0)) | ((mode == "rp") & (y < 0))
    stays = finite | (f.specials != "ieee") | (inward & np.isfinite(x))
    return np.where(np.abs(y) > f.high, np.copysign(np.where(stays, f.high, np.inf), x), y)


def _assembled(magnitude: Array, f: Format) -> Array:
    """Exponent and mantissa fields of magnitudes that the format holds exactly."""
    part, e = np.frexp(np.where(np.isfinite(magnitude), magnitude, 0.0))
    field = np.maximum(e - 1 + f.bias, 0)
    normal = np.ldexp(part, f.mantissa + 1) - 2.0**f.mantissa
    small = np.ldexp(magnitude, f.mantissa - f.least)
    fraction = np.where(magnitude < 2.0**f.least, small, normal)
    field = np.where(magnitude < 2.0**f.least, 0, field)
    fraction = np.where(np.isfinite(magnitude), fraction, 0.0).astype(np.uint64)
    code = (field.astype(np.uint64) << np.uint64(f.mantissa)) + fraction
    infinity = np.uint64(((1 << f.exponent) - 1) << f.mantissa)
    return np.where(np.isinf(magnitude), infinity, code)


def _encode_scale(x: Array, mode: str, finite: bool) -> Array:
    """Exponents alone (E8M0): of the magnitude, rounded down (rz) or up (rp) to a power of two."""
    part, e = np.frexp(np.abs(np.where(np.isfinite(x), x, 1.0)))
    field = np.where(x == 0, 0, e - 1 + 127 + ((mode == "rp") & (part > 0.5)))
    field = np.clip(field, 0, 255)
    field = np.where(np.isinf(x), 255, field)
    field = np.where(finite & (field == 255), 254, field)
    return np.where(np.isnan(x), 255, field).astype(np.uint8)
