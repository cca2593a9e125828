"""Codes with scales: the quantised formats and their exact values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tilec.ir.dtype import Array, DType, f16, f32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.format import Component, Dense, Format, inside
from tilec.ir.granularity import Granularity

Zero = Literal["none", "mid", "int", "float", "shift", "min"]
ZEROS = ("none", "mid", "int", "float", "shift", "min")
STORED = ("int", "float", "shift", "min")  # zeros of blocks' own
ADDED = ("shift", "min")
Parts = dict[str, Array]


@dataclass(frozen=True)
class Scaled(Format):
    """Codes of at most 8 bits, and a scale for every block of them.

    A scale is itself a tensor with a format: f16, e8m0 (a power of two), or scaled in its turn,
    which is how two levels of scales are said. With mid = 2**(bits-1) for unsigned integers and 0
    for all other codes, a value is

        none   code * scale
        mid    (code - mid) * scale                  (GPTQ's and Marlin's symmetric form)
        int    (code - zero) * scale                 zero an integer like the codes (GPTQ, AWQ)
        float  (code - zero) * scale                 zero a number like the scale (HQQ)
        shift  (code - mid) * scale + zero           zero a number like the scale (tinygemm)
        min    code * scale + zero                   zero a number like the scale (llama.cpp)

    each step rounded to f32. `zeros` is the format of the zero points.
    """

    codes: DType
    block: Granularity
    scale: Format
    zero: Zero = "none"
    zeros: Format | None = None

    def __post_init__(self) -> None:
        if self.codes.bits > 8 or self.codes.kind == "bool":
            raise TileError(f"a scaled format has codes of 1 to 8 bits, not {self.codes}")
        if self.codes.low > 0:
            raise TileError(f"{self.codes} has neither sign nor zero: it is for scales, not codes")
        if self.zero not in ZEROS:
            raise TileError(f"{self.name}: no zero is called {self.zero!r}; "
                            f"there are {', '.join(ZEROS)}")  # fmt: skip
        if self.zero == "mid" and self.codes.kind != "uint":
            raise TileError(f"{self.name}: signed codes have their middle at 0: expected zero=none")
        if self.zero == "int" and not self.codes.is_integer:
            raise TileError(f"{self.name}: codes that are no integers have no integer zero")
        self._check("a scale", self.scale)
        if self.zeros is None and self.zero in STORED:
            object.__setattr__(self, "zeros", default_zeros(self.codes, self.scale, self.zero))
        if self.zeros is not None:
            if self.zero not in STORED:
                raise TileError(f"{self.name}: zero={self.zero} stores no zeros")
            self._check("a zero", self.zeros)

    def _check(self, what: str, format: Format) -> None:
        if isinstance(format, Dense):
            t = format.dtype
            number = t.kind in ("float", "code") and t.bits <= 32
            if number or (what == "a zero" and t.is_integer and t.bits <= 8):
                return
        elif isinstance(format, Scaled):
            return
        raise TileError(f"{self.name}: {what} is f16, bf16, f32, e8m0 or a scaled format, "
                        f"not {format}")  # fmt: skip

    @property
    def name(self) -> str:
        """`int4`, `uint3`, `e2m1`."""
        t = self.codes
        return f"{t.kind}{t.bits}" if t.is_integer else t.name

    def __str__(self) -> str:
        text = f"{self.name}<{self.block}, scale={self.scale}"
        if self.zero != default_zero(self.codes):
            text += f", zero={self.zero}"
        if self.zeros is not None and self.zeros != default_zeros(
            self.codes, self.scale, self.zero
        ):
            text += f", zeros={self.zeros}"
        return text + ">"

    @property
    def value(self) -> DType:
        return f32

    @property
    def group(self) -> int | None:
        return self.block.columns

    @property
    def mid(self) -> int:
        """The middle of the codes' range."""
        return 1 << self.codes.bits - 1 if self.codes.kind == "uint" else 0

    @property
    def centre(self) -> int:
        """What is taken from every code before it is multiplied."""
        return self.mid if self.zero in ("mid", "shift") else 0

    def numbers(self) -> dict[str, Format]:
        """The formats of what each block has: its scale, and its zero if there is one."""
        return {"scale": self.scale} | ({} if self.zeros is None else {"zero": self.zeros})

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        if not shape:
            raise TileError(f"{self}: expected a tensor of at least one dimension, not a scalar")
        found = [Component("codes", self.codes, shape)]
        blocks = self.block.shape(shape)
        for name, format in self.numbers().items():
            if isinstance(format, Scaled) and not blocks:
                raise TileError(f"{self}: one {name} for the whole tensor can't be scaled itself")
            for c in format.components(blocks):
                found.append(Component(inside(name, c.name), c.dtype, c.shape))
        return tuple(found)

    def number(self, name: str, parts: Parts, shape: tuple[int, ...]) -> Array:
        """The scale (or zero) of every block, of a tensor of this shape."""
        format = self.numbers()[name]
        inner = {k.removeprefix(name).removeprefix("."): v
                 for k, v in parts.items() if k.split(".")[0] == name}  # fmt: skip
        blocks = tuple(int(str(d)) for d in self.block.shape(shape))
        return format.values(inner, blocks)

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        scale = self.block.spread(self.number("scale", parts, shape), shape)
        zero = None
        if self.zeros is not None:
            zero = self.block.spread(self.number("zero", parts, shape), shape)
        return self.decoded(parts["codes"], scale, zero)

    def decoded(self, codes: Array, scale: Array, zero: Array | None) -> Array:
        """The values of codes beside the scale and zero of each."""
        added = zero is not None and self.zero in ADDED
        with np.errstate(invalid="ignore", over="ignore"):
            centred = codes.astype(np.float64) - self.centre
            if zero is not None and not added:
                centred = f32.round(centred - zero)
            scaled = f32.round(centred * scale)
            return f32.round(scaled + zero) if zero is not None and added else scaled


def default_zero(codes: DType) -> Zero:
    """The zero that a format has unless it says otherwise: symmetric."""
    return "mid" if codes.kind == "uint" else "none"


def default_zeros(codes: DType, scale: Format, zero: Zero) -> Format | None:
    """How zeros are stored unless a format says otherwise."""
    if zero == "int":
        return Dense(codes)
    if zero not in STORED:
        return None
    plain = isinstance(scale, Dense) and scale.dtype.is_float and scale.dtype.bits >= 16
    return scale if plain else Dense(f16)
