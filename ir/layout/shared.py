"""Layouts of shared memory: shape:stride in elements, and a swizzle of byte addresses.

Shared memory has 32 banks; word w, of 4 bytes, is in bank w % 32 (CUDA C++ Programming Guide).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.errors import TileError
from tilec.ir.layout.digits import Index, Ints
from tilec.ir.layout.memory import Coordinate, MemoryLayout

BANKS, WORD = 32, 4


@dataclass(frozen=True)
class Swizzle:
    """Bits [base + shift, + bits) of a byte address, by XOR into bits [base, + bits).

    With a negative shift bits [base, + bits) go into [base - shift, + bits). It is its own inverse.
    CuTe's Swizzle<B, M, S> on offsets of elements of 2**e bytes is Swizzle(B, M + e, S) here.
    Raises TileError where the two fields overlap.
    """

    bits: int
    base: int = 0
    shift: int = 0

    def __post_init__(self) -> None:
        if min(self.bits, self.base) < 0 or abs(self.shift) < self.bits:
            raise TileError(f"{self}: a field of {self.bits} bits from bit {self.base} "
                            f"and one {self.shift} further overlap")  # fmt: skip
        if not self.bits:
            object.__setattr__(self, "base", 0)
            object.__setattr__(self, "shift", 0)

    def __str__(self) -> str:
        return f"swizzle({self.bits}, {self.base}, {self.shift})"

    def __call__(self, address: Index) -> Ints:
        """Where a byte goes."""
        at = np.asarray(address, np.int64)
        source, target = self.base + max(self.shift, 0), self.base + max(-self.shift, 0)
        return at ^ (at >> source & (1 << self.bits) - 1) << target


# The modes of TMA and wgmma (PTX ISA, "Swizzling modes"): pieces of 16 bytes of rows of 32, 64 or
# 128 bytes change places. A tile begins at a multiple of 256, 512 or 1024 bytes.
NONE = Swizzle(0)
SWIZZLE_32B, SWIZZLE_64B, SWIZZLE_128B = (Swizzle(b, 4, 3) for b in (1, 2, 3))


@dataclass(frozen=True)
class SharedLayout:
    """A tile of elements of `bits` bits, packed without gaps, then swizzled.

    Raises TileError where the swizzle would tear elements apart.
    """

    layout: MemoryLayout
    bits: int
    swizzle: Swizzle = NONE

    def __post_init__(self) -> None:
        if self.bits < 1 or min(d for _, d in (*self.layout.modes, (1, 0))) < 0:
            raise TileError(f"{self}: expected elements of at least 1 bit, and no negative stride")
        kept = 8 << self.swizzle.base
        if self.swizzle.bits and kept % self.bits:
            raise TileError(f"{self}: the swizzle keeps {kept} bits together, "
                            f"which is no whole number of elements of {self.bits}")  # fmt: skip

    def __str__(self) -> str:
        swizzle = f", {self.swizzle}" if self.swizzle.bits else ""
        return f"shared({self.bits}, {self.layout}{swizzle})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The extents of the tile."""
        return self.layout.extents

    @property
    def nbytes(self) -> int:
        """Bytes from the beginning of the tile to the end of its last element."""
        return int(self.bit(np.arange(self.layout.size)).max() + self.bits + 7) // 8

    def bit(self, *coordinate: Coordinate) -> Ints:
        """The first bit of elements, counted from the beginning of the tile."""
        at = self.layout(*coordinate) * self.bits
        return self.swizzle(at // 8) * 8 + at % 8

    def address(self, *coordinate: Coordinate) -> Ints:
        """The byte that elements begin in."""
        return self.bit(*coordinate) // 8

    def bank(self, *coordinate: Coordinate) -> Ints:
        """The bank that elements begin in."""
        return self.address(*coordinate) // WORD % BANKS
