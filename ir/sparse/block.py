"""Blocks of a matrix that are stored whole (BSR)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.format import Component
from tilec.ir.scaled import Parts
from tilec.ir.sparse.stored import (
    Sparse,
    check_columns,
    check_starts,
    encoded,
    matrix,
    numbers,
    roomy,
    starts,
)


@dataclass(frozen=True)
class Blocks(Sparse):
    """Blocks of `rows` x `columns`, those of a row of blocks one after the other.

    Block i is rows i * rows and on of the values. Those of row r are start[r] to start[r + 1], at
    the rising numbers `column` of blocks; `place` has the number of each block, or -1. Blocks at
    the edges are whole: what lies outside of the tensor is 0.
    """

    rows: int = 16
    columns: int = 16
    room: int | None = None

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or (self.room is not None and self.room < 1):
            raise TileError("block: expected rows, columns and room of at least 1, not "
                            f"{self.rows}, {self.columns}, {self.room}")  # fmt: skip

    def __str__(self) -> str:
        room = "" if self.room is None else f", {self.room}"
        return f"block<{self.rows}, {self.columns}, {self.inner}{room}>"

    @property
    def writable(self) -> bool:
        return self.inner.writable

    def blocks(self, shape: tuple[Extent, ...]) -> tuple[Extent, Extent]:
        """How many blocks there could be, down and across."""
        n, k = matrix(self, shape)
        return ceil_div(n, self.rows), ceil_div(k, self.columns)

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        if self.room is None:
            hint = f"block<{self.rows}, {self.columns}, {self.inner}, COUNT>"
            raise TileError(f"{self}: how many blocks are stored is not known", hint=hint)
        return self.room * self.rows, self.columns

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        down, across = self.blocks(shape)
        assert self.room is not None
        return (Component("start", i32, (down + 1,)), Component("column", i32, (self.room,)),
                Component("place", i32, (down, across)))  # fmt: skip

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        down, across = numbers(self.blocks(shape))
        start, column = parts["start"].astype(int), parts["column"].astype(int)
        each = self.inner_values(parts, shape).reshape(-1, self.rows, self.columns)
        out = np.zeros((down, across, self.rows, self.columns))
        for row in range(down):
            own = slice(start[row], start[row + 1])
            out[row, column[own]] = each[own]
        whole = out.transpose(0, 2, 1, 3).reshape(down * self.rows, across * self.columns)
        return whole[: shape[0], : shape[1]]

    def check(self, parts: Parts, shape: tuple[int, ...]) -> None:
        down, across = numbers(self.blocks(shape))
        start, column = parts["start"].astype(int), parts["column"].astype(int)
        assert self.room is not None
        check_starts(self, start, self.room)
        check_columns(self, start, column, across)
        place = np.full((down, across), -1)
        used = column[: start[-1]]
        place[np.repeat(np.arange(down), np.diff(start)), used] = np.arange(used.size)
        if not np.array_equal(place, parts["place"]):
            raise self.refuse("expected `place` to be where `start` and `column` have blocks")

    def pruned(self, x: Array, density: float) -> Array:
        """A matrix in which so large a part of the blocks is left, those with the largest sums of
        squares."""
        sums = np.square(self.cut(x)).sum((2, 3))
        kept = super().pruned(sums, density) != 0
        whole = kept.repeat(self.rows, 0).repeat(self.columns, 1)
        return np.where(whole[: x.shape[0], : x.shape[1]], x, 0.0)

    def fitted(self, x: Array) -> Blocks:
        return replace(self, room=roomy(int(_present(self, x).sum())))

    def cut(self, x: Array) -> Array:
        """The blocks [down, across, rows, columns] of a matrix."""
        down, across = numbers(self.blocks(x.shape))
        whole = np.zeros((down * self.rows, across * self.columns))
        whole[: x.shape[0], : x.shape[1]] = x
        return whole.reshape(down, self.rows, across, self.columns).transpose(0, 2, 1, 3)


def _present(format: Blocks, x: Array) -> Array:
    return (format.cut(np.asarray(x, np.float64)) != 0).any((2, 3))


@fit.encode.register
def _(format: Blocks, x: Array, how: fit.Fit) -> Parts:
    """The blocks that have an element other than 0.

    Raises TileError where there are more than there is room for.
    """
    x = fit.checked(format, x)
    present = _present(format, x)
    count = int(present.sum())
    size = numbers(format.stored(x.shape))
    assert format.room is not None
    if count > format.room:
        raise format.refuse(f"expected at most {format.room} blocks", count)
    place = np.full(present.shape, -1)
    place[present] = np.arange(count)
    column = np.zeros(format.room, np.int64)
    column[:count] = np.nonzero(present)[1]
    values = np.zeros((format.room, format.rows, format.columns))
    values[:count] = format.cut(x)[present]
    own = {"start": starts(present.sum(1)), "column": column, "place": place}
    return own | encoded(format, values.reshape(size), how)
