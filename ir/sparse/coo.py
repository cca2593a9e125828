"""Elements in a list, each with its row and column (COO)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.format import Component
from tilec.ir.scaled import Parts
from tilec.ir.sparse.stored import Sparse, encoded, matrix, numbers, roomy


@dataclass(frozen=True)
class Coo(Sparse):
    """Elements at row[i], column[i], in any order and each place once; a row -1 has no element.

    Tasks have as many elements each, however long the rows are: each adds to its rows.
    """

    room: int | None = None

    def __post_init__(self) -> None:
        if self.room is not None and self.room < 1:
            raise TileError(f"coo: expected room for at least 1 element, not {self.room}")

    def __str__(self) -> str:
        return f"coo<{self.inner}{'' if self.room is None else f', {self.room}'}>"

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        if self.room is None:
            raise TileError(f"{self}: how many elements are stored is not known",
                            hint=f"coo<{self.inner}, COUNT>")  # fmt: skip
        matrix(self, shape)
        return 1, self.room

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        _, room = self.stored(shape)
        return Component("row", i32, (room,)), Component("column", i32, (room,))

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        row, column = (parts[n].astype(int) for n in ("row", "column"))
        used, out = row >= 0, np.zeros(shape)
        out[row[used], column[used]] = self.inner_values(parts, shape)[0, used]
        return out

    def check(self, parts: Parts, shape: tuple[int, ...]) -> None:
        row, column = (parts[n].astype(int) for n in ("row", "column"))
        used = row >= 0
        for name, found, extent in (
            ("rows", row[used], shape[0]),
            ("columns", column[used], shape[1]),
        ):
            bad = found[(found < 0) | (found >= extent)]
            if bad.size:
                raise self.refuse(f"expected {name} from 0 to {extent - 1}", int(bad[0]))
        places = row[used] * shape[1] + column[used]
        if len(np.unique(places)) != len(places):
            raise self.refuse("expected every place once")

    def fitted(self, x: Array) -> Coo:
        return replace(self, room=roomy(int(np.count_nonzero(x))))


@fit.encode.register
def _(format: Coo, x: Array, how: fit.Fit) -> Parts:
    """The elements that are not 0, row by row. Raises TileError where there is no room for them."""
    x = fit.checked(format, x)
    _, room = numbers(format.stored(x.shape))
    found = np.nonzero(x)
    if len(found[0]) > room:
        raise format.refuse(f"expected at most {room} elements", len(found[0]))
    row, column, values = np.full(room, -1), np.zeros(room, np.int64), np.zeros((1, room))
    row[: len(found[0])], column[: len(found[0])] = found
    values[0, : len(found[0])] = x[found]
    return {"row": row, "column": column} | encoded(format, values, how)
