"""Elements row by row, each with the number of its column (CSR)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
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
class Csr(Sparse):
    """Elements of row n at start[n] to start[n + 1], with the rising numbers `column`."""

    room: int | None = None

    def __post_init__(self) -> None:
        if self.room is not None and self.room < 1:
            raise TileError(f"csr: expected room for at least 1 element, not {self.room}")

    def __str__(self) -> str:
        return f"csr<{self.inner}{'' if self.room is None else f', {self.room}'}>"

    @property
    def writable(self) -> bool:
        return self.inner.writable

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        if self.room is None:
            raise TileError(f"{self}: how many elements are stored is not known",
                            hint=f"csr<{self.inner}, COUNT>")  # fmt: skip
        matrix(self, shape)
        return 1, self.room

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        n, _ = matrix(self, shape)
        assert self.room is not None
        return Component("start", i32, (n + 1,)), Component("column", i32, (self.room,))

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        start, column = parts["start"].astype(int), parts["column"].astype(int)
        out = np.zeros(shape)
        rows = np.repeat(np.arange(shape[0]), np.diff(start))
        out[rows, column[: start[-1]]] = self.inner_values(parts, shape)[0, : start[-1]]
        return out

    def check(self, parts: Parts, shape: tuple[int, ...]) -> None:
        start, column = parts["start"].astype(int), parts["column"].astype(int)
        assert self.room is not None
        check_starts(self, start, self.room)
        check_columns(self, start, column, shape[1])

    def fitted(self, x: Array) -> Csr:
        return replace(self, room=roomy(int(np.count_nonzero(x))))


@fit.encode.register
def _(format: Csr, x: Array, how: fit.Fit) -> Parts:
    """The elements that are not 0. Raises TileError where there are more than room for them."""
    x = fit.checked(format, x)
    _, room = numbers(format.stored(x.shape))
    present = x != 0
    rows, columns = np.nonzero(present)
    if len(rows) > room:
        raise format.refuse(f"expected at most {room} elements", len(rows))
    column, values = np.zeros(room, np.int64), np.zeros((1, room))
    column[: len(rows)], values[0, : len(rows)] = columns, x[present]
    own = {"start": starts(present.sum(1)), "column": column}
    return own | encoded(format, values, how)
