"""Dense tensors that a kernel rounds to a format when it starts: quantised activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.codes import CODES
from tilec.ir.dtype import Array, DType, bf16, f32, i8
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.format import Component, Dense, Format
from tilec.ir.scaled import Parts, Scaled


@dataclass(frozen=True)
class Dynamic(Format):
    """A tensor of `dtype` that stands for what `inner` keeps of it.

    For each block of a row, with amax its largest magnitude and top the greatest code:
    scale = amax / top in f32, rounded to the dtype of the scale; code = x / scale in f32, rounded
    to the nearest code, the greatest beyond; 0 where the scale is 0. An element that is not finite
    makes its block NaN. This is the dynamic quantisation of W8A8 and W4A8 kernels. A scale in e8m0
    is rounded up, and at least the least normal f32: no code is beyond the greatest (NVIDIA's
    recipe for MXFP8, arXiv 2506.08027).

    Raises TileError for an inner format with zero points, blocks of several rows, codes without
    a sign, or a scale that is no float.
    """

    inner: Scaled
    dtype: DType

    def __post_init__(self) -> None:
        inner = self.inner
        if not self.dtype.is_float:
            raise TileError(f"dynamic: the tensor has floats, not {self.dtype}")
        if inner.zero != "none" or inner.codes.low >= 0:
            raise TileError(f"dynamic: expected signed codes without a zero, not {inner}")
        if inner.block.rows != 1:
            raise TileError(f"dynamic: expected a scale for a row or a group of one, not {inner}")
        if not (isinstance(inner.scale, Dense) and (self.exponents or self.scale.is_float)):
            raise TileError(
                f"dynamic: expected a scale in f32, f16, bf16 or e8m0, not {inner.scale}"
            )

    def __str__(self) -> str:
        return f"dynamic<{self.inner}, {self.dtype}>"

    @property
    def value(self) -> DType:
        return f32

    @property
    def group(self) -> int | None:
        return self.inner.group

    @property
    def scale(self) -> DType:
        """The dtype of scales."""
        assert isinstance(self.inner.scale, Dense)
        return self.inner.scale.dtype

    @property
    def exponents(self) -> bool:
        """Whether scales are powers of two."""
        return self.inner.scale == Dense(CODES["e8m0"])

    @property
    def kept(self) -> DType:
        """The dtype in which a kernel keeps scales for itself."""
        return f32 if self.exponents else self.scale

    @property
    def stored(self) -> DType:
        """The dtype in which a kernel keeps codes for itself: one that has all their values."""
        codes = self.inner.codes
        if codes.is_integer:
            return i8
        return codes if codes.bits == 8 and codes.is_float else bf16

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        return (Component("dense", self.dtype, shape),)

    def values(self, parts: dict[str, Array], shape: tuple[int, ...]) -> Array:
        return self.inner.values(self.rounded(parts["dense"]), shape)

    def rounded(self, x: Array) -> Parts:
        """The codes and scales that a kernel makes of x[..., K]."""
        block = self.inner.block
        blocks, _ = block.split(x)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            scale = f32.round(np.abs(blocks).max(-1) / self.inner.codes.high)
            scale = _power(scale) if self.exponents else self.scale.round(scale)
            ratio = f32.round(blocks / scale[..., None])
        codes = self.inner.codes.round(np.where(scale[..., None] > 0, ratio, 0.0), saturate=True)
        return {"codes": block.join(codes, x.shape), "scale": scale}


def _power(x: Array) -> Array:
    """The least power of two that is a normal f32 and no less; NaN of what is not finite."""
    mantissa, exponent = np.frexp(x)
    up = np.where(x > 0, exponent - (mantissa == 0.5), -126).clip(-126, 127)
    return np.where(np.isfinite(x), np.ldexp(1.0, up), np.nan)
