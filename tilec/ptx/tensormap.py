"""Tensor maps: a stand-in for the 128 opaque bytes that describe a tensor to bulk copies.

The driver's encoding is not public, and only it can make one. This module has an encoding of its
own, so that maps can be parameters, lie in memory, and be changed by `tensormap.replace`. Element
types and swizzle modes are numbered as in the PTX ISA, 'tensormap.replace'.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.descriptors import UNIT, swizzled
from tilec.ptx.formats import Array

SIZE = 128
OFFSETS = {
    "address": 0, "rank": 8, "element": 12, "swizzle": 16, "interleave": 20, "fill": 24,
    "size": 28, "stride": 48, "box": 80, "step": 100,
}  # fmt: skip
LAYOUT = np.dtype(
    {
        "names": list(OFFSETS),
        "formats": ["<u8", *["<u4"] * 5, ("<u4", 5), ("<u8", 4), ("<u4", 5), ("<u4", 5)],
        "offsets": list(OFFSETS.values()),
        "itemsize": SIZE,
    }
)
ELEMENT_BYTES = (1, 2, 4, 4, 8, 8, 2, 4, 4, 8, 2, 4, 4)
_ELEMENT = {
    "uint8": 0, "int8": 0, "bool": 0, "uint16": 1, "int16": 1, "uint32": 2, "int32": 3,
    "uint64": 4, "int64": 5, "float16": 6, "float32": 7, "float64": 9, "bfloat16": 10,
    "float8_e4m3fn": 0, "float8_e5m2": 0,
}  # fmt: skip
_FLOATS = frozenset({6, 7, 8, 9, 10, 11, 12})
_SWIZZLES = (16, 32, 64, 128)  # bytes of a swizzled row; 16: none


@dataclass(frozen=True, eq=False)
class TensorMap:
    """A tensor for bulk copies: an array in row-major order and the box that one copy moves.

    `box` has the order of the array's axes, outermost first; `swizzle` is 0, 32, 64 or 128 bytes;
    elements outside the array read as zeros, or as NaNs if `nan`.
    """

    array: Array
    box: tuple[int, ...]
    swizzle: int = 0
    nan: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.array.ndim <= 5 or len(self.box) != self.array.ndim:
            raise TileError(
                f"ptx: a tensor map has 1 to 5 axes and a box of as many, not {self.array.ndim} "
                f"and {len(self.box)}"
            )
        if self.swizzle not in (0, 32, 64, 128):
            raise TileError(
                f"ptx: a tensor map swizzles 0, 32, 64 or 128 bytes, not {self.swizzle}"
            )
        if self.array.dtype.name not in _ELEMENT:
            raise TileError(f"ptx: no tensor map has elements of {self.array.dtype}")
        if any(not 1 <= n <= 256 for n in self.box):
            raise TileError(f"ptx: the sides of a box are 1 to 256, not {self.box}")
        inner = self.box[-1] * self.array.itemsize
        if inner % 16 or (self.swizzle and inner > self.swizzle):
            raise TileError(
                f"ptx: the inner side of the box is {inner} bytes: expected a multiple of 16"
                + (f" of at most the swizzle of {self.swizzle}" if self.swizzle else "")
            )
        if any(s * self.array.itemsize % 16 for s in self.array.shape[-1:] if self.array.ndim > 1):
            raise TileError(f"ptx: rows of {self.array.shape[-1]} are no multiple of 16 bytes")

    def encoded(self, address: int) -> bytes:
        """The 128 bytes, for an array at that address."""
        raw = np.zeros((), LAYOUT)
        rank = self.array.ndim
        raw["address"], raw["rank"] = address, rank - 1
        raw["element"] = _ELEMENT[self.array.dtype.name]
        raw["swizzle"] = {0: 0, 32: 1, 64: 2, 128: 3}[self.swizzle]
        raw["fill"] = self.nan
        raw["size"][:rank] = self.array.shape[::-1]
        raw["stride"][: rank - 1] = self.array.strides[-2::-1]
        raw["box"][:rank], raw["step"][:rank] = self.box[::-1], 1
        return raw.tobytes()


@dataclass(frozen=True)
class Tile:
    """One box of a tensor, in units of `size` bytes in the order of the box, innermost first.

    `addresses` says where they lie, `inside` which of them belong to the tensor; `fill` is the
    byte that stands for the others.
    """

    size: int
    addresses: Array
    inside: Array
    fill: int


class Decoded:
    """The fields of an encoded map. Raises TileError where they make no sense."""

    def __init__(self, raw: bytes) -> None:
        r: Any = np.frombuffer(raw, LAYOUT)[0]
        self.rank = int(r["rank"]) + 1
        if self.rank > 5 or int(r["element"]) >= len(ELEMENT_BYTES) or int(r["swizzle"]) > 3:
            raise TileError("these bytes are no tensor map")
        if r["interleave"]:
            raise TileError("interleaved tensor maps are not supported")
        self.address, self.size = int(r["address"]), ELEMENT_BYTES[int(r["element"])]
        self.element = int(r["element"])
        self.row = _SWIZZLES[int(r["swizzle"])]
        self.nan = bool(r["fill"])
        self.extent = [int(n) for n in r["size"][: self.rank]]
        self.stride = [self.size, *(int(n) for n in r["stride"][: self.rank - 1])]
        self.box = [int(n) for n in r["box"][: self.rank]]
        self.step = [max(int(n), 1) for n in r["step"][: self.rank]]
        if not prod(self.box):
            raise TileError("the tensor map has an empty box")

    @property
    def bytes(self) -> int:
        """Bytes that one copy moves."""
        return prod(self.box) * self.size

    def tile(self, coordinates: list[int]) -> Tile:
        """The box at some coordinates, innermost first; they may lie outside.

        Units are of 16 bytes where none of them is cut by an edge, else they are elements.
        """
        many = UNIT // self.size if self._whole(coordinates[0]) else 1
        sides = [self.box[0] // many, *self.box[1:]]
        address = np.full(sides[::-1], self.address, np.int64)
        inside = np.ones(sides[::-1], bool)
        for axis, start in enumerate(coordinates):
            shape = [1] * self.rank
            shape[self.rank - 1 - axis] = sides[axis]
            step = many if axis == 0 else self.step[axis]
            place = (start + np.arange(sides[axis]) * step).reshape(shape)
            address = address + place * self.stride[axis]
            inside &= (place >= 0) & (place < self.extent[axis])
        fill = 0xFF if self.nan and self.element in _FLOATS else 0
        return Tile(many * self.size, address.reshape(-1), inside.reshape(-1), fill)

    def _whole(self, start: int) -> bool:
        """Whether the innermost side falls into whole units."""
        ends = (start * self.size, self.box[0] * self.size, self.extent[0] * self.size)
        return self.step[0] == 1 and not any(n % UNIT for n in ends)

    def places(self, start: int, unit: int) -> Array:
        """The shared addresses of the units of a box that begins at `start`."""
        return swizzled(start + np.arange(0, self.bytes, unit), self.row)
