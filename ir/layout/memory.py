"""Memory layouts: nested shape:stride, from coordinates to offsets, in CuTe's notation.

The leftmost mode of a shape is the fastest: index i of a layout has the coordinates that count
through the shape in colexicographic order (NVIDIA, CuTe documentation, "Layouts").
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tilec.ir.errors import TileError
from tilec.ir.layout.digits import Index, Ints, inside

Nested = int | tuple["Nested", ...]
Coordinate = Index | tuple["Coordinate", ...]
Modes = tuple[tuple[int, int], ...]  # (size, stride) of flat modes, fastest first


def leaves(nested: Nested) -> tuple[int, ...]:
    """The numbers of a nested tuple, in order."""
    return (nested,) if isinstance(nested, int) else tuple(n for x in nested for n in leaves(x))


def size(shape: Nested) -> int:
    """How many coordinates a shape has."""
    return math.prod(leaves(shape))


@dataclass(frozen=True)
class MemoryLayout:
    """The offset of a coordinate is the sum of its parts times their strides.

    Shape and stride are nested alike; a mode of size 1 gets stride 0, so that layouts of one shape
    are equal exactly when they are the same function. Raises TileError where they differ in form.
    """

    shape: Nested
    stride: Nested

    def __post_init__(self) -> None:
        if min(leaves(self.shape), default=1) < 1:
            raise TileError(f"{_show(self.shape)}: every size must be at least 1")
        object.__setattr__(self, "stride", _normal(self.shape, self.stride))

    def __str__(self) -> str:
        return f"{_show(self.shape)}:{_show(self.stride)}"

    @property
    def size(self) -> int:
        """How many coordinates there are."""
        return size(self.shape)

    @property
    def cosize(self) -> int:
        """One more than the greatest offset (of strides that are not negative)."""
        return 1 + sum((n - 1) * d for n, d in self.modes)

    @property
    def rank(self) -> int:
        """How many modes the outermost tuple has; 1 where there is none."""
        return 1 if isinstance(self.shape, int) else len(self.shape)

    @property
    def modes(self) -> Modes:
        """Size and stride of every innermost mode, fastest first."""
        return tuple(zip(leaves(self.shape), leaves(self.stride), strict=True))

    @property
    def extents(self) -> tuple[int, ...]:
        """The size of each mode of the outermost tuple."""
        return (self.shape,) if isinstance(self.shape, int) else tuple(map(size, self.shape))

    def mode(self, i: int) -> MemoryLayout:
        """One mode of the outermost tuple, as a layout of its own."""
        if not -self.rank <= i < self.rank:
            raise TileError(f"{self} has no mode {i}")
        if isinstance(self.shape, int) or isinstance(self.stride, int):
            return self
        return MemoryLayout(self.shape[i], self.stride[i])

    def __call__(self, *coordinate: Coordinate) -> Ints:
        """Offsets: of an index, or of a coordinate for each mode (an index into it, or nested)."""
        one = coordinate[0] if len(coordinate) == 1 else coordinate
        return _offset(one, self.shape, self.stride, self)

    def offsets(self) -> Ints:
        """The offset of every index."""
        return self(np.arange(self.size))


def column_major(shape: Nested) -> MemoryLayout:
    """The compact layout whose leftmost mode is the fastest."""
    return MemoryLayout(shape, _compact(shape, 1))


def row_major(*shape: int) -> MemoryLayout:
    """The compact layout of a tile whose last axis is the fastest."""
    strides = (math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return MemoryLayout(shape, tuple(strides))


def concatenated(*layouts: MemoryLayout) -> MemoryLayout:
    """The layout of which each of these is a mode: their offsets are added."""
    return MemoryLayout(tuple(x.shape for x in layouts), tuple(x.stride for x in layouts))


def flat(modes: Iterable[tuple[int, int]]) -> MemoryLayout:
    """The layout of these modes; a single one is no tuple."""
    found = tuple(modes) or ((1, 0),)
    if len(found) == 1:
        return MemoryLayout(*found[0])
    shape, stride = zip(*found, strict=True)
    return MemoryLayout(shape, stride)


def _normal(shape: Nested, stride: Nested) -> Nested:
    if isinstance(shape, int) and isinstance(stride, int):
        return 0 if shape == 1 else stride
    if isinstance(shape, int) or isinstance(stride, int) or len(shape) != len(stride):
        raise TileError(f"shape {_show(shape)} and stride {_show(stride)} are not nested alike")
    return tuple(map(_normal, shape, stride))


def _show(nested: Nested) -> str:
    return str(nested) if isinstance(nested, int) else f"({','.join(map(_show, nested))})"


def _compact(shape: Nested, step: int) -> Nested:
    if isinstance(shape, int):
        return step
    out: list[Nested] = []
    for part in shape:
        out.append(_compact(part, step))
        step *= size(part)
    return tuple(out)


def _offset(coordinate: Coordinate, shape: Nested, stride: Nested, whole: MemoryLayout) -> Ints:
    if not isinstance(coordinate, tuple):
        index = np.asarray(coordinate, np.int64)
        if not inside(index, size(shape)):
            raise TileError(f"{whole}: an index into {_show(shape)} is 0 to {size(shape) - 1}")
        total = np.zeros_like(index)
        for n, d in zip(leaves(shape), leaves(stride), strict=True):
            total = total + index % n * d
            index = index // n
        return total
    if isinstance(shape, int) or isinstance(stride, int) or len(coordinate) != len(shape):
        raise TileError(f"{whole}: {len(coordinate)} coordinates for the shape {_show(shape)}")
    parts = zip(coordinate, shape, stride, strict=True)
    return np.asarray(sum(_offset(c, n, d, whole) for c, n, d in parts), np.int64)
