"""The threads that execute one instruction together: their registers, warps and blocks.

Threads of all blocks are numbered in one row. A block takes a whole number of warps of it, so the
number of a thread gives its lane and its warp; numbers without a thread never run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.formats import Array

WARP = 32


def each(value: Any, count: int) -> Array:
    """One item for each of `count` threads, of an array of as many or of one scalar."""
    return value if np.ndim(value) else np.full(count, value)


@dataclass(frozen=True)
class Shape:
    """How many threads a block has, and which blocks run."""

    block: tuple[int, int, int]
    grid: tuple[int, int, int]
    first: int = 0  # the number of the first block of this wave
    blocks: int = 1  # how many run at once

    @property
    def threads(self) -> int:
        """Threads of one block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def warps(self) -> int:
        """Warps of one block, the last perhaps partly empty."""
        return -(-self.threads // WARP)

    @property
    def lanes(self) -> int:
        """Thread numbers that one block takes."""
        return self.warps * WARP

    @property
    def total(self) -> int:
        """Thread numbers of the wave."""
        return self.lanes * self.blocks

    def everyone(self) -> Array:
        """The numbers of all threads that exist."""
        ids = np.arange(self.total)
        return ids[ids % self.lanes < self.threads]


@dataclass(frozen=True)
class Registers:
    """What a thread can read by name: register rows by slot, special registers, addresses.

    Of the registers that wgmma uses, by slot: `flying` holds for every thread the number of the
    wgmma that has yet to write it, or 0, and `unfenced` whether what it holds was computed since
    the last wgmma.fence. `touched` gathers the flying registers that an instruction reads.
    `fenced` are the threads that issued a wgmma.fence and not yet the commit_group behind it.
    """

    rows: list[Array]
    specials: dict[str, Array]
    symbols: dict[str, int]
    fenced: Array
    flying: dict[int, Array] = field(default_factory=dict[int, Array])
    unfenced: dict[int, Array] = field(default_factory=dict[int, Array])
    touched: list[int] = field(default_factory=list[int])


class Threads:
    """A set of threads, ascending by number. `index` selects them from a row of all threads."""

    def __init__(self, shape: Shape, registers: Registers, ids: Array) -> None:
        self.shape, self.registers, self.ids = shape, registers, ids
        self.count = len(ids)
        self.rows, self.symbols = registers.rows, registers.symbols
        dense = self.count and ids[-1] - ids[0] + 1 == self.count
        self.index: Any = slice(int(ids[0]), int(ids[-1]) + 1) if dense else ids

    def subset(self, mask: Array) -> Threads:
        """Those where the mask is true."""
        return Threads(self.shape, self.registers, self.ids[mask])

    def repeated(self, times: int) -> Threads:
        """Each thread that many times: as many accesses of its own."""
        return Threads(self.shape, self.registers, np.repeat(self.ids, times))

    def joined(self, other: Threads) -> Threads:
        """These and others, which are disjoint from these."""
        ids = np.sort(np.concatenate([self.ids, other.ids]))
        return Threads(self.shape, self.registers, ids)

    def special(self, name: str) -> Array:
        """A special register of every thread."""
        if name not in self.registers.specials:
            raise TileError(f"ptx: the special register {name} is not known")
        return self.registers.specials[name][self.index]

    @cached_property
    def block(self) -> Array:
        """The block of every thread, counted within the wave."""
        return self.ids // self.shape.lanes

    @cached_property
    def local(self) -> Array:
        """The number of every thread within its block."""
        return self.ids % self.shape.lanes

    @cached_property
    def lane(self) -> Array:
        """The lane of every thread."""
        return self.ids % WARP

    @cached_property
    def warps(self) -> Array:
        """The distinct warps, ascending, numbered over the wave."""
        if self.whole:
            return self.ids[::WARP] // WARP
        return np.unique(self.ids // WARP)

    @cached_property
    def blocks(self) -> Array:
        """The distinct blocks, ascending, counted within the wave."""
        return np.unique(self.block)

    @cached_property
    def whole(self) -> bool:
        """Whether every warp is here with all its lanes."""
        if self.count % WARP:
            return False
        edges = self.ids.reshape(-1, WARP)[:, [0, -1]]
        return bool(((edges[:, 0] % WARP == 0) & (edges[:, 1] - edges[:, 0] == WARP - 1)).all())

    @cached_property
    def _rank(self) -> Array:
        """The position of every thread's warp among the warps here."""
        return np.searchsorted(self.warps, self.ids // WARP)

    @cached_property
    def active(self) -> Array:
        """A row of 32 for every warp: which of its lanes are here."""
        return self.by_warp(np.ones(self.count, bool))

    def by_warp(self, values: Any, fill: Any = 0) -> Array:
        """One value per thread as a row of 32 for every warp; absent lanes hold `fill`."""
        values = each(values, self.count)
        if self.whole:
            return values.reshape(-1, WARP)
        matrix = np.full((len(self.warps), WARP), fill, values.dtype)
        matrix[self._rank, self.lane] = values
        return matrix

    def by_thread(self, matrix: Array) -> Array:
        """The inverse of `by_warp`; a column of one value per warp goes to every lane."""
        if matrix.shape[1] == 1:
            matrix = np.broadcast_to(matrix, (len(matrix), WARP))
        return matrix.reshape(-1) if self.whole else matrix[self._rank, self.lane]

    def named(self, position: int) -> tuple[int, int]:
        """The block (of the grid) and the thread (of the block) at a position of this set."""
        return self.shape.first + int(self.block[position]), int(self.local[position])
