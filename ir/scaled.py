"""Integers with scales: the quantised formats, their rounding to codes and their exact values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tilec.ir.dtype import BY_NAME, Array, DType, f32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.format import Component, Format

Zero = Literal["none", "mid", "int", "float", "shift"]
Block = Literal["channel", "tensor"]
ZEROS = ("none", "mid", "int", "float", "shift")
SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.5)  # of the range of a block, tried in a search


@dataclass(frozen=True)
class Scaled(Format):
    """Integer codes, and one scale for the whole tensor, each channel or each group of a channel.

    A channel is a row, everything but the last axis; a group is that many elements of it, the last
    one possibly fewer. With mid = 2**(bits-1) for unsigned codes and 0 for signed ones, a value is

        none   code * scale
        mid    (code - mid) * scale                  (GPTQ's and Marlin's symmetric form)
        int    (code - zero) * scale                 zero an integer like the codes (GPTQ, AWQ)
        float  (code - zero) * scale                 zero of the scale's dtype (HQQ)
        shift  (code - mid) * scale + zero           zero of the scale's dtype (tinygemm)

    each step rounded to f32.
    """

    codes: DType
    block: int | Block
    scale: DType
    zero: Zero

    def __post_init__(self) -> None:
        if not self.codes.is_integer or self.codes.bits > 8:
            raise TileError(f"a scaled format has codes of 1 to 8 bits, not {self.codes}")
        if isinstance(self.block, int) and self.block < 1:
            raise TileError(f"{self.name}: a group has at least 1 element, not {self.block}")
        if not self.scale.is_float or self.scale.bits not in (16, 32):
            raise TileError(f"{self.name}: a scale is f16, bf16 or f32, not {self.scale}")
        if self.zero not in ZEROS:
            raise TileError(f"{self.name}: no zero is called {self.zero!r}; "
                            f"there are {', '.join(ZEROS)}")  # fmt: skip
        if self.zero == "mid" and self.codes.kind == "int":
            raise TileError(f"{self.name}: signed codes have their middle at 0: expected zero=none")

    @property
    def name(self) -> str:
        """`int4`, `uint3`."""
        return f"{self.codes.kind}{self.codes.bits}"

    def __str__(self) -> str:
        block = f"group={self.block}" if isinstance(self.block, int) else self.block
        zero = "" if self.zero == default_zero(self.codes) else f", zero={self.zero}"
        return f"{self.name}<{block}, scale={self.scale}{zero}>"

    @property
    def value(self) -> DType:
        return f32

    @property
    def group(self) -> int | None:
        """Elements along the last axis that share a scale, where that is not all of them."""
        return self.block if isinstance(self.block, int) else None

    @property
    def mid(self) -> int:
        """What codes are centred on before they are multiplied."""
        return 1 << self.codes.bits - 1 if self.codes.kind == "uint" else 0

    @property
    def zero_dtype(self) -> DType | None:
        """The dtype of the stored zero points, if there are any."""
        return {"int": self.codes, "float": self.scale, "shift": self.scale}.get(self.zero)

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        if not shape:
            raise TileError(f"{self}: expected a tensor of at least one dimension, not a scalar")
        blocks = self._blocks(shape)
        found = [Component("codes", self.codes, shape), Component("scale", self.scale, blocks)]
        if self.zero_dtype is not None:
            found.append(Component("zero", self.zero_dtype, blocks))
        return tuple(found)

    def _blocks(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        match self.block:
            case "tensor":
                return ()
            case "channel":
                return shape[:-1]
            case group:
                return (*shape[:-1], ceil_div(shape[-1], group))

    def values(self, parts: dict[str, Array], shape: tuple[int, ...]) -> Array:
        def spread(a: Array) -> Array:
            return self._spread(a, shape)

        codes = parts["codes"].astype(np.float64)
        match self.zero:
            case "none":
                centred = codes
            case "mid" | "shift":
                centred = codes - self.mid
            case "int" | "float":
                centred = f32.round(codes - spread(parts["zero"]))
        scaled = f32.round(centred * spread(parts["scale"]))
        return f32.round(scaled + spread(parts["zero"])) if self.zero == "shift" else scaled

    def _spread(self, a: Array, shape: tuple[int, ...]) -> Array:
        """A number for every element, from one for every block."""
        match self.block:
            case "tensor":
                return np.broadcast_to(a, shape)
            case "channel":
                return np.broadcast_to(a[..., None], shape)
            case group:
                return np.repeat(a, group, axis=-1)[..., : shape[-1]]

    def encode(self, x: Array, search: bool = False) -> dict[str, Array]:
        """Round x[..., K] to the nearest codes, block by block; `search` also tries narrower ranges
        and keeps the one with the least squared error. Raises TileError for what has no code."""
        x = np.asarray(x, np.float64)
        if not np.isfinite(x).all():
            raise TileError(f"{self}: the tensor has elements that are not finite")
        blocks, valid = self._grouped(x)
        best = self._fit(blocks, valid, search)
        codes = best[0].reshape(*best[0].shape[:-2], -1) if self.group else best[0]
        codes = codes.reshape(-1)[: x.size] if self.block == "tensor" else codes[..., : x.shape[-1]]
        parts = {"codes": codes.reshape(x.shape)}
        parts |= {"scale": best[1]} | ({} if self.zero_dtype is None else {"zero": best[2]})
        return parts

    def nearest(self, x: Array, parts: dict[str, Array], k: int) -> tuple[Array, Array]:
        """The nearest codes to a column x[N] that stands at k, and what they mean."""

        def block(a: Array) -> Array:
            a = a if self.group is None else a[..., k // self.group]
            return np.broadcast_to(a, x.shape)

        scale = block(parts["scale"])
        zero = block(parts["zero"]) if "zero" in parts else np.zeros_like(x)
        codes, value = self._rounded(x[:, None], scale, zero)
        return codes[:, 0], value[:, 0]

    def _grouped(self, x: Array) -> tuple[Array, Array]:
        """x with a block to each row of the last axis, and which elements are no padding."""
        if self.block == "tensor":
            return x.reshape(-1), np.ones(x.size, bool)
        if self.group is None:
            return x, np.ones(x.shape[-1:], bool)
        k: int = x.shape[-1]
        pad: int = -k % self.group
        padded: Array = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, pad)], mode="edge")
        groups = (k + pad) // self.group
        blocks: Array = np.reshape(padded, (*x.shape[:-1], groups, self.group))
        return blocks, np.reshape(np.arange(k + pad) < k, (groups, self.group))

    def _fit(self, x: Array, valid: Array, search: bool) -> tuple[Array, Array, Array]:
        """Codes, scales and zeros of the candidate range that is nearest to each block."""
        best: tuple[Array, Array, Array] | None = None
        least = np.zeros(())
        for scale, zero in self._candidates(x, SHRINKS if search else SHRINKS[:1]):
            with np.errstate(invalid="ignore"):  # an infinite scale is refused below
                codes, got = self._rounded(x, scale, zero)
            error = (np.square(got - x) * valid).sum(-1)
            if best is None:
                best, least = (codes, scale, zero), error
                continue
            better = error < least
            least = np.where(better, error, least)
            best = (np.where(better[..., None], codes, best[0]),
                    np.where(better, scale, best[1]), np.where(better, zero, best[2]))  # fmt: skip
        assert best is not None
        self._refuse_lost(x, best[1])
        return best

    def _refuse_lost(self, x: Array, scale: Array) -> None:
        lost = (scale == 0) & (x.max(-1) != x.min(-1)) | ~np.isfinite(scale)
        if lost.any():
            top = float(np.abs(x[lost]).max())
            raise TileError(f"{self}: the scale of a block whose largest element is {top:.3g} is "
                            f"out of the range of {self.scale}", hint="use scale=f32")  # fmt: skip

    def _candidates(self, x: Array, shrinks: tuple[float, ...]) -> list[tuple[Array, Array]]:
        """Scales and zeros to try, rounded to the dtypes in which they are stored."""
        low, high = int(self.codes.low) - self.mid, int(self.codes.high) - self.mid
        store = self.scale.round
        if self.zero in ("none", "mid"):
            if self.zero == "none" and self.codes.kind == "uint":
                top = np.maximum(x.max(-1), 0)
                return [(store(top * s / self.codes.high), top * 0) for s in shrinks]
            edge = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)[..., 0]
            spans = [np.abs(edge) / high] if high else []
            return [(store(span * s), edge * 0) for s in shrinks for span in (*spans, edge / low)]
        bottom, top = np.minimum(x.min(-1), 0), np.maximum(x.max(-1), 0)
        if self.zero == "shift":
            bottom, top = x.min(-1), x.max(-1)
        centre, half = (bottom + top) / 2, (top - bottom) / 2
        found: list[tuple[Array, Array]] = []
        for s in shrinks:
            scale = store(2 * half * s / (high - low))
            found.append((scale, self._zero_of(centre - half * s, scale)))
        return found

    def _zero_of(self, bottom: Array, scale: Array) -> Array:
        """The zero for which the least code means about `bottom`."""
        low = float(self.codes.low)
        if self.zero == "shift":
            return self.scale.round(bottom - (low - self.mid) * scale)
        zero = low - _divide(bottom, scale)
        if self.zero == "int":
            return self.codes.round(zero, saturate=True)
        return self.scale.round(zero)

    def _rounded(self, x: Array, scale: Array, zero: Array) -> tuple[Array, Array]:
        """The nearest codes, and the values that they mean."""
        s, z = scale[..., None], zero[..., None]
        offset: Array | float = float(self.mid) if self.zero in ("mid", "shift") else 0.0
        target = x - z if self.zero == "shift" else x
        offset = z if self.zero in ("int", "float") else offset
        codes = self.codes.round(_divide(target, s) + offset, saturate=True)
        return codes, (codes - offset) * s + (z if self.zero == "shift" else 0.0)


def _divide(a: Array, b: Array) -> Array:
    """a / b, and 0 where b is 0."""
    return np.divide(a, b, out=np.zeros(np.broadcast_shapes(a.shape, b.shape)), where=b != 0)


def default_zero(codes: DType) -> Zero:
    """The zero that a format has unless it says otherwise: symmetric."""
    return "mid" if codes.kind == "uint" else "none"


def constructor(codes: DType) -> Callable[..., Scaled]:
    """The function `int4(group=128, scale=f16, zero="none")` for codes of a dtype."""

    def make(
        group: int | None = None,
        *,
        block: int | Block | None = None,
        scale: DType | None = None,
        zero: Zero | None = None,
    ) -> Scaled:
        """The format of integers with a scale a group, or a `channel` (the default) or `tensor`."""
        if group is not None and block is not None:
            raise TileError(f"{codes}: expected a group or a block, not both")
        chosen = group if group is not None else block if block is not None else "channel"
        return Scaled(codes, chosen, scale or BY_NAME["f16"], zero or default_zero(codes))

    make.__name__ = make.__qualname__ = f"{codes.kind}{codes.bits}"
    return make
