"""Rows that are found by tables: pages, sequences of different lengths, lists of rows, hashes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, i32, i64
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.format import Component
from tilec.ir.scaled import Parts
from tilec.ir.sparse.stored import Sparse, check_starts, encoded, numbers, starts

FACTOR, AWAY = 2654435761, 16  # of the hash (key * FACTOR >> AWAY) mod capacity: Knuth, TAOCP 6.4


@dataclass(frozen=True)
class Paged(Sparse):
    """Sequences [B, ..., S, D] in pages of `page` rows (PagedAttention, arXiv 2309.06180).

    Values are [pages, ..., page, D], and table[b, j] is the page of rows j * page and on of
    sequence b. Pages may be shared, and lie in any order. A number that is no page's, such as -1,
    stands for zeros.
    """

    page: int = 16
    pages: int | None = None

    def __post_init__(self) -> None:
        if self.page < 1 or (self.pages is not None and self.pages < 1):
            raise TileError(f"paged: expected pages of at least 1 row, and at least 1 of them, not "
                            f"{self.page}, {self.pages}")  # fmt: skip

    def __str__(self) -> str:
        pages = "" if self.pages is None else f", {self.pages}"
        return f"paged<{self.page}, {self.inner}{pages}>"

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        if len(shape) < 3:
            raise TileError(f"{self}: expected [B, ..., S, D], not {len(shape)} dimensions")
        if self.pages is None:
            raise TileError(f"{self}: how many pages there are is not known",
                            hint=f"paged<{self.page}, {self.inner}, COUNT>")  # fmt: skip
        return self.pages, *shape[1:-2], self.page, shape[-1]

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        return (Component("table", i32, (shape[0], ceil_div(shape[-2], self.page))),)

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        pool, table = self.inner_values(parts, shape), parts["table"].astype(int)
        there = (table >= 0) & (table < len(pool))
        rows = pool[np.where(there, table, 0)]
        rows *= there.reshape(*there.shape, *[1] * (rows.ndim - 2))
        whole = np.moveaxis(rows, 1, -3)  # [B, ..., pages, page, D]
        return whole.reshape(*whole.shape[:-3], -1, shape[-1])[..., : shape[-2], :]

    def fitted(self, x: Array) -> Paged:
        return replace(self, pages=x.shape[0] * -(-x.shape[-2] // self.page))


@dataclass(frozen=True)
class Ragged(Sparse):
    """Sequences [B, S, ...] one after the other in `room` rows: those of b are start[b] to
    start[b + 1], and beyond them there are zeros."""

    room: int | None = None

    def __post_init__(self) -> None:
        if self.room is not None and self.room < 1:
            raise TileError(f"ragged: expected room for at least 1 row, not {self.room}")

    def __str__(self) -> str:
        return f"ragged<{self.inner}{'' if self.room is None else f', {self.room}'}>"

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        if len(shape) < 2:
            raise TileError(f"{self}: expected [B, S, ...], not {len(shape)} dimensions")
        if self.room is None:
            raise TileError(f"{self}: how many rows are stored is not known",
                            hint=f"ragged<{self.inner}, COUNT>")  # fmt: skip
        return self.room, *shape[2:]

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        return (Component("start", i32, (shape[0] + 1,)),)

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        rows = self.inner_values(parts, shape)
        start = parts["start"].astype(int)
        out = np.zeros(shape)
        for b in range(shape[0]):
            out[b, : start[b + 1] - start[b]] = rows[start[b] : start[b + 1]]
        return out

    def check(self, parts: Parts, shape: tuple[int, ...]) -> None:
        start = parts["start"].astype(int)
        assert self.room is not None
        check_starts(self, start, self.room)
        if np.diff(start).max(initial=0) > shape[1]:
            raise self.refuse(f"expected at most {shape[1]} rows each", int(np.diff(start).max()))

    def fitted(self, x: Array) -> Ragged:
        return replace(self, room=max(1, int(_lengths(x).sum())))


@dataclass(frozen=True)
class Grouped(Sparse):
    """Lists of rows [E, S, ...] of one tensor of `rows`: entry s of list e is row
    order[start[e] + s], and beyond its end there are zeros. A row may be in several lists; a number
    that is no row's stands for zeros. Such are the tokens of each expert."""

    room: int = 1
    rows: int = 1

    def __post_init__(self) -> None:
        if self.room < 1 or self.rows < 1:
            raise TileError(f"grouped: expected room and rows of at least 1, not {self.room}, "
                            f"{self.rows}")  # fmt: skip

    def __str__(self) -> str:
        return f"grouped<{self.room}, {self.rows}, {self.inner}>"

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        if len(shape) < 2:
            raise TileError(f"{self}: expected [E, S, ...], not {len(shape)} dimensions")
        return self.rows, *shape[2:]

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        return Component("start", i32, (shape[0] + 1,)), Component("order", i32, (self.room,))

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        rows, out = self.inner_values(parts, shape), np.zeros(shape)
        start, order = (parts[n].astype(int) for n in ("start", "order"))
        for e in range(shape[0]):
            own = order[start[e] : start[e + 1]]
            there = (own >= 0) & (own < self.rows)
            found = rows[np.where(there, own, 0)]
            out[e, : len(own)] = found * there.reshape(-1, *[1] * (found.ndim - 1))
        return out

    def check(self, parts: Parts, shape: tuple[int, ...]) -> None:
        start = parts["start"].astype(int)
        check_starts(self, start, self.room)
        if np.diff(start).max(initial=0) > shape[1]:
            raise self.refuse(f"expected at most {shape[1]} rows each", int(np.diff(start).max()))


@dataclass(frozen=True)
class Hashed(Sparse):
    """Rows [X, Y, ..., C] at some coordinates, found by open addressing (as in Minkowski engines).

    The key of a row is the number of its coordinates in the order of the dimensions; `key` and
    `row` have it at the first free place from its hash on, at most `probes` further. A free place
    has the key -1. What has no key is 0.
    """

    capacity: int = 1
    probes: int = 1
    rows: int = 1

    def __post_init__(self) -> None:
        power = self.capacity > 0 and self.capacity & (self.capacity - 1) == 0
        if not power or self.probes < 1 or self.rows < 1:
            raise TileError(
                "hashed: expected a capacity that is a power of two, and probes and rows of at "
                f"least 1, not {self.capacity}, {self.probes}, {self.rows}"
            )

    def __str__(self) -> str:
        return f"hashed<{self.capacity}, {self.probes}, {self.rows}, {self.inner}>"

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        if len(shape) < 2:
            raise TileError(f"{self}: expected [X, ..., C], not {len(shape)} dimensions")
        return self.rows, shape[-1]

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        return (Component("key", i64, (self.capacity,)), Component("row", i32, (self.capacity,)))

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        out = np.zeros((int(np.prod(shape[:-1])), shape[-1]))
        used = parts["key"] >= 0
        rows = parts["row"].astype(int)[used]
        out[parts["key"].astype(int)[used]] = self.inner_values(parts, shape)[rows]
        return out.reshape(shape)

    def check(self, parts: Parts, shape: tuple[int, ...]) -> None:
        keys, rows = parts["key"].astype(np.int64), parts["row"].astype(int)
        used = np.flatnonzero(keys >= 0)
        if used.size and keys.max() >= np.prod(shape[:-1]):
            raise self.refuse(f"expected keys below {int(np.prod(shape[:-1]))}", int(keys.max()))
        if used.size and not 0 <= rows[used].min() <= rows[used].max() < self.rows:
            raise self.refuse(f"expected rows from 0 to {self.rows - 1}", int(rows[used].max()))
        if len(np.unique(keys[used])) != used.size:
            raise self.refuse("expected every key once")
        away = (used - hashed(keys[used], self.capacity)) % self.capacity
        if away.max(initial=0) >= self.probes:
            raise self.refuse(f"expected keys within {self.probes} places", int(away.max()) + 1)


def hashed(keys: Array, capacity: int) -> Array:
    """The place where the search for each key begins."""
    with np.errstate(over="ignore"):
        mixed = keys.astype(np.int64) * np.int64(FACTOR)
    return mixed >> AWAY & capacity - 1


def table_of(keys: Array) -> tuple[Array, Array, int]:
    """The keys and rows of a table at most half full in which row i has key keys[i], and how many
    places a search must try."""
    capacity = 2 << max(1, len(keys) - 1).bit_length()
    key, row = np.full(capacity, -1, np.int64), np.zeros(capacity, np.int64)
    probes = 1
    for i, (k, at) in enumerate(zip(keys.tolist(), hashed(keys, capacity).tolist(), strict=True)):
        away = 0
        while key[(at + away) % capacity] >= 0:
            away += 1
        key[(at + away) % capacity], row[(at + away) % capacity] = k, i
        probes = max(probes, away + 1)
    return key, row, probes


def _lengths(x: Array) -> Array:
    """The rows of each sequence [B, S, ...] up to the last that is not 0."""
    if x.ndim < 2:
        raise TileError(f"ragged: expected [B, S, ...], not {x.ndim} dimensions")
    used = (np.asarray(x).reshape(*x.shape[:2], -1) != 0).any(-1)
    numbered: Array = used * np.arange(1, int(x.shape[1]) + 1)
    return numbered.max(1, initial=0)


@fit.encode.register
def _(format: Paged, x: Array, how: fit.Fit) -> Parts:
    """Pages in the order of the sequences. Raises TileError where there are too few."""
    x = fit.checked(format, x)
    size = numbers(format.stored(x.shape))
    each = -(-x.shape[-2] // format.page)
    if x.shape[0] * each > size[0]:
        raise format.refuse(f"expected at most {size[0]} pages", x.shape[0] * each)
    padded = np.zeros((*x.shape[:-2], each * format.page, x.shape[-1]))
    padded[..., : x.shape[-2], :] = x
    cut = np.moveaxis(padded.reshape(*x.shape[:-2], each, format.page, x.shape[-1]), -3, 1)
    pool = np.zeros(size)
    pool[: x.shape[0] * each] = cut.reshape(-1, *size[1:])
    table: Array = np.arange(int(x.shape[0] * each)).reshape(-1, each)
    return {"table": table} | encoded(format, pool, how)


@fit.encode.register
def _(format: Ragged, x: Array, how: fit.Fit) -> Parts:
    """Sequences up to their last row that is not 0. Raises TileError where there is no room."""
    x = fit.checked(format, x)
    lengths, size = _lengths(x), numbers(format.stored(x.shape))
    if lengths.sum() > size[0]:
        raise format.refuse(f"expected at most {size[0]} rows", int(lengths.sum()))
    rows = np.zeros(size)
    rows[: lengths.sum()] = x[np.arange(x.shape[1]) < lengths[:, None]]
    return {"start": starts(lengths)} | encoded(format, rows, how)
