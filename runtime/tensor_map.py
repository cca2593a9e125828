"""Tensor maps: what the bulk copy unit is told of a tensor in global memory."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from tilec.ir.errors import TileError
from tilec.ir.extent import number
from tilec.ir.source import TensorBoxes

SWIZZLES = {0: 0, 128: 1, 64: 2, 32: 3}  # bytes -> the number that matrix descriptors use
_LAYOUT = struct.Struct("<Q5Q4Q5HBBB")
_BYTES = 128
_RANKS = 5


@dataclass(frozen=True, eq=False)
class TensorMap:
    """An array, the shape of the box that one copy moves, and how many bytes wide its swizzle is.

    `box` is in the array's order, outermost first; a kernel's coordinates are innermost first.
    The limits are those of cuTensorMapEncodeTiled (CUDA driver API); raises TileError beyond them.
    """

    array: NDArray[np.generic]
    box: tuple[int, ...]
    swizzle: int = 0

    def __post_init__(self) -> None:
        for holds, message in self._rules():
            if not holds:
                raise TileError(
                    f"tensor map of {self.array.dtype}{list(self.array.shape)}: {message}"
                )

    def _rules(self) -> list[tuple[bool, str]]:
        """Each rule, and what to say where it does not hold. Later ones rely on earlier ones."""
        array, box = self.array, self.box
        rules = [
            (1 <= array.ndim <= _RANKS, f"{array.ndim} dimensions, expected 1 to {_RANKS}"),
            (len(box) == array.ndim, f"box {box}, expected {array.ndim} sizes"),
            (all(1 <= size <= 256 for size in box), f"box {box}, expected sizes of 1 to 256"),
            (array.size > 0, "it has no elements"),
            (self.swizzle in SWIZZLES, f"swizzle {self.swizzle}, expected 0, 32, 64 or 128"),
        ]
        if not all(holds for holds, _ in rules):
            return rules
        width = box[-1] * array.itemsize
        return [
            (array.strides[-1] == array.itemsize, "its innermost elements are not adjacent"),
            (
                all(stride > 0 and stride % 16 == 0 for stride in array.strides[:-1]),
                f"strides {array.strides}, expected multiples of 16 bytes",
            ),
            (width % 16 == 0, f"a box of {width} bytes in a row, expected a multiple of 16"),
            (
                not self.swizzle or width <= self.swizzle,
                f"a box of {width} bytes in a row, expected no more than the swizzle's "
                f"{self.swizzle}",
            ),
        ]

    @property
    def box_bytes(self) -> int:
        """What one copy counts on its mbarrier."""
        return math.prod(self.box) * self.array.itemsize

    def encoded(self) -> bytes:
        """The map for emulation: 128 bytes, as `TensorLayout` in the emulator reads them."""
        sizes = _filled(tuple(reversed(self.array.shape)), _RANKS)
        strides = _filled(tuple(reversed(self.array.strides))[1:], _RANKS - 1)
        box = _filled(tuple(reversed(self.box)), _RANKS)
        tail = (self.array.ndim, SWIZZLES[self.swizzle], self.array.itemsize)
        address = self.array.ctypes.data
        return _LAYOUT.pack(address, *sizes, *strides, *box, *tail).ljust(_BYTES, b"\0")


def tensor_maps(
    boxes: Iterable[TensorBoxes], given: Mapping[str, NDArray[np.generic] | float],
    dims: Mapping[str, int],
) -> dict[str, TensorMap]:  # fmt: skip
    """The tensor maps that a kernel takes, of the arrays that it is given as they lie in memory."""
    found: dict[str, TensorMap] = {}
    for x in boxes:
        array = np.asarray(given[x.param]).reshape(-1)
        elements = array.view(np.uint8).view(f"u{x.element}")
        shape = tuple(number(d, dims) for d in x.shape)
        seen = as_strided(elements, shape, (*x.pitches, x.element))
        found[x.name] = TensorMap(seen, x.box, x.swizzle)
    return found


def _filled(values: tuple[int, ...], count: int) -> tuple[int, ...]:
    return values + (1,) * (count - len(values))
