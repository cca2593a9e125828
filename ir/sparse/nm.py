"""n elements of every m along the last axis, and columns that are chosen for many rows at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.format import Component
from tilec.ir.scaled import Parts
from tilec.ir.sparse.stored import Sparse, encoded, index, matrix, pieces


@dataclass(frozen=True)
class NM(Sparse):
    """n of every m elements along the last axis, at rising places (NVIDIA's 2:4 is nm<2, 4>).

    `index` has the place in its m of each stored element.
    """

    n: int = 2
    m: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m <= 256:
            raise TileError(f"nm: expected n below m, and m up to 256, not {self.n} of {self.m}")

    def __str__(self) -> str:
        return f"nm<{self.n}, {self.m}, {self.inner}>"

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        return (*shape[:-1], pieces(self, shape[-1], self.m, "columns") * self.n)

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        return (Component("index", index(self.m), self.stored(shape)),)

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        out = np.zeros((*shape[:-1], shape[-1] // self.m, self.m))
        grouped = (*out.shape[:-1], self.n)
        places = parts["index"].astype(int).reshape(grouped)
        np.put_along_axis(out, places, self.inner_values(parts, shape).reshape(grouped), -1)
        return out.reshape(shape)

    def check(self, parts: Parts, shape: tuple[int, ...]) -> None:
        places = parts["index"].reshape(-1, self.n)
        if places.size and not 0 <= places.min() <= places.max() < self.m:
            raise self.refuse(f"expected places from 0 to {self.m - 1}", int(places.max()))
        if (np.diff(places, axis=-1) <= 0).any():
            raise self.refuse(f"expected places that rise within every {self.m}")


@dataclass(frozen=True)
class VNM(Sparse):
    """V:N:M (VENOM, arXiv 2310.02065): of every m columns four are chosen for v rows at once, and
    each row has n of these four.

    `columns` has the place in its m of each chosen column, `index` the place in its four of each
    stored element; both rise.
    """

    v: int = 64
    n: int = 2
    m: int = 8

    def __post_init__(self) -> None:
        if self.v < 1 or not 1 <= self.n < 4 < self.m <= 256:
            raise TileError("vnm: expected rows from 1, n below 4, and m from 5 to 256, not "
                            f"{self.v}, {self.n}, {self.m}")  # fmt: skip

    def __str__(self) -> str:
        return f"vnm<{self.v}, {self.n}, {self.m}, {self.inner}>"

    @property
    def chosen(self) -> NM:
        """The format of the chosen columns as a matrix of their own."""
        return NM(self.inner, self.n, 4)

    def narrow(self, shape: tuple[Extent, ...]) -> tuple[Extent, Extent]:
        """The shape of that matrix."""
        rows, columns = matrix(self, shape)
        pieces(self, rows, self.v, "rows")
        return rows, pieces(self, columns, self.m, "columns") * 4

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        return self.chosen.stored(self.narrow(shape))

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        rows, columns = self.narrow(shape)
        return (Component("columns", index(self.m), (rows // self.v, columns)),
                *self.chosen.places((rows, columns)))  # fmt: skip

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        rows, columns = shape
        narrow = self.chosen.values(parts, (rows, columns // self.m * 4))
        place = parts["columns"].astype(int).reshape(-1, columns // self.m, 4)
        out = np.zeros((rows, columns // self.m, self.m))
        where = np.repeat(place, self.v, 0)
        np.put_along_axis(out, where, narrow.reshape(where.shape), -1)
        return out.reshape(shape)

    def check(self, parts: Parts, shape: tuple[int, ...]) -> None:
        places = parts["columns"].reshape(-1, 4)
        if places.size and not 0 <= places.min() <= places.max() < self.m:
            raise self.refuse(f"expected columns from 0 to {self.m - 1}", int(places.max()))
        if (np.diff(places, axis=-1) <= 0).any():
            raise self.refuse(f"expected columns that rise within every {self.m}")
        rows, columns = shape
        self.chosen.check(parts, (rows, columns // self.m * 4))


@dataclass(frozen=True)
class Channels(Sparse):
    """`count` columns of a matrix, the same for all rows: `columns` are their numbers, rising, and
    `place` has where each column of the matrix is among them, or -1."""

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise TileError(f"channels: expected at least 1 column, not {self.count}")

    def __str__(self) -> str:
        return f"channels<{self.count}, {self.inner}>"

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        rows, columns = matrix(self, shape)
        if isinstance(columns, int) and columns < self.count:
            raise TileError(f"{self}: expected at least {self.count} columns, not {columns}")
        return rows, self.count

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        columns = matrix(self, shape)[1]
        return Component("columns", i32, (self.count,)), Component("place", i32, (columns,))

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        out = np.zeros(shape)
        out[:, parts["columns"].astype(int)] = self.inner_values(parts, shape)
        return out

    def check(self, parts: Parts, shape: tuple[int, ...]) -> None:
        columns = parts["columns"]
        if not 0 <= columns.min() <= columns.max() < shape[-1]:
            raise self.refuse(f"expected columns from 0 to {shape[-1] - 1}", int(columns.max()))
        if (np.diff(columns) <= 0).any():
            raise self.refuse("expected columns that rise")
        if not np.array_equal(_inverse(columns, shape[-1]), parts["place"]):
            raise self.refuse("expected `place` to say where `columns` are")


def _inverse(columns: Array, count: int) -> Array:
    """Where each of `count` columns is among some, or -1."""
    place = np.full(count, -1)
    place[columns.astype(int)] = np.arange(len(columns))
    return place


def largest(x: Array, count: int) -> Array:
    """The places, rising, of the elements of x[..., m] that are largest; of equals the first."""
    order = np.argsort(-np.abs(x), axis=-1, kind="stable")[..., :count]
    return np.sort(order, axis=-1)


@fit.encode.register
def _(format: NM, x: Array, how: fit.Fit) -> Parts:
    """The n largest of every m."""
    x = fit.checked(format, x)
    stored = format.stored(x.shape)
    groups = x.reshape(*x.shape[:-1], -1, format.m)
    places = largest(groups, format.n)
    values = np.take_along_axis(groups, places, -1)
    return {"index": places.reshape(stored)} | encoded(format, values.reshape(stored), how)  # type: ignore[arg-type]


@fit.encode.register
def _(format: VNM, x: Array, how: fit.Fit) -> Parts:
    """The four columns with the largest sums of squares, and in each row the n largest of these."""
    x = fit.checked(format, x)
    rows, narrow = format.narrow(x.shape)
    groups = x.reshape(-1, format.v, x.shape[1] // format.m, format.m)
    places = largest(np.square(groups).sum(1), 4)
    wide = np.repeat(places, format.v, 0)
    chosen = np.take_along_axis(x.reshape(*wide.shape[:-1], format.m), wide, -1)
    parts = fit.encode(format.chosen, chosen.reshape(int(str(rows)), int(str(narrow))), how)
    return {"columns": places.reshape(places.shape[0], -1)} | parts


@fit.encode.register
def _(format: Channels, x: Array, how: fit.Fit) -> Parts:
    """The columns with the largest sums of squares."""
    x = fit.checked(format, x)
    format.stored(x.shape)
    columns = largest(np.square(x).sum(0), format.count)
    own = {"columns": columns, "place": _inverse(columns, x.shape[1])}
    return own | encoded(format, x[:, columns], how)
