"""Sparse matrices in the order in which code for wide vectors reads them: rows are the lanes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from tilec.ir.bits import aligned, from_raw, restored, stored
from tilec.ir.dtype import Array, DType, bf16, f16, f32, i32
from tilec.ir.format import Component, Dense, Format
from tilec.ir.masked import DEPTH, UNIT, Masked, raw_kind
from tilec.ir.scaled import Parts, Scaled
from tilec.ir.sparse import NM, Bitmap, Blocks, Csr, Sparse
from tilec.ir.sparse.bitmap import ones_of, words_of
from tilec.ir.sparse.stored import VALUES, numbers, starts
from tilec.ir.stream import LANES, Records, beside

ELEMENTS = (f16, bf16, f32)
TALL = 128  # rows of a slab, at most
CODES = f"{VALUES}.codes"
ZERO = np.zeros(1, np.uint8)
RUN = 32  # elements of a row that are read together


@dataclass(frozen=True)
class Slabs:
    """A matrix [n, k] in slabs of `tall` rows, each with pairs of columns one after the other.

    A pair of 16-bit elements of a row is a 32-bit lane; elements of 32 bits lie column by column.
    """

    n: int
    k: int
    tall: int
    dtype: DType

    @property
    def pack(self) -> int:
        """Columns to a lane."""
        return 32 // self.dtype.bits

    @property
    def wide(self) -> int:
        """Columns with those that fill the last pair."""
        return -(-self.k // 2) * 2

    @property
    def unit(self) -> int:
        """Columns that code reads at once."""
        return gcd(UNIT, self.wide)

    @property
    def slab_bytes(self) -> int:
        """Bytes of a slab."""
        return self.tall * self.wide * self.dtype.bits // 8

    def packed(self, values: Array) -> Array:
        """The slabs as bytes."""
        whole = np.zeros((self.n, self.wide), raw_kind(self.dtype))
        whole[:, : self.k] = self.dtype.to_storage(values).view(whole.dtype)
        turned = whole.reshape(-1, self.tall, self.wide // self.pack, self.pack).swapaxes(1, 2)
        out = aligned(whole.nbytes)
        out[:] = np.ascontiguousarray(turned).reshape(-1).view(np.uint8)
        return out

    def unpacked(self, data: Array) -> Array:
        """The values again."""
        turned = data.view(raw_kind(self.dtype)).reshape(-1, self.wide // self.pack, self.tall,
                                                     self.pack)  # fmt: skip
        whole = np.ascontiguousarray(turned.swapaxes(1, 2)).reshape(self.n, self.wide)
        values = np.ascontiguousarray(whole[:, : self.k]).view(self.dtype.numpy)
        return self.dtype.from_storage(values)


@dataclass(frozen=True)
class Runs:
    """Elements row by row, with the numbers of their columns, in runs of 32 that do not cross rows.

    The last run of a row ends in zeros of a column -1. Of each row the number of its first run is
    known.
    """

    n: int
    room: int
    dtype: DType

    @property
    def bound(self) -> int:
        """Elements that there are at most, with those that fill runs."""
        return -(-(self.room + (RUN - 1) * self.n) // RUN) * RUN

    @property
    def start(self) -> Component:
        """The array of the first runs, and the end of the last."""
        return Component("start", i32, (self.n + 1,))

    def pack(self, parts: Parts) -> list[Array]:
        """The first runs, the columns and the values."""
        start = parts["start"].astype(np.int64)
        counts = np.diff(start)
        runs = starts(-(-counts // RUN))
        at = np.arange(int(start[-1])) + np.repeat(runs[:-1] * RUN - start[:-1], counts)
        column = np.full(max(1, runs[-1]) * RUN, -1)
        values = np.zeros(column.shape, parts[VALUES].dtype)
        column[at], values[at] = parts["column"][: start[-1]], parts[VALUES][0, : start[-1]]
        return [stored(self.start, runs), stored(Component("column", i32, column.shape), column),
                stored(Component(VALUES, self.dtype, values.shape), values)]  # fmt: skip

    def unpack(self, arrays: list[Array]) -> Parts:
        """The components."""
        runs = restored(self.start, arrays[0]).astype(np.int64)
        places = (arrays[1].size // 4,)
        found = restored(Component("column", i32, places), arrays[1])
        elements = restored(Component(VALUES, self.dtype, places), arrays[2])
        used = found >= 0
        before = np.concatenate([[0], np.cumsum(used)])[runs * RUN]
        column, values = np.zeros(self.room, np.int64), np.zeros((1, self.room), elements.dtype)
        column[: before[-1]], values[0, : before[-1]] = found[used], elements[used]
        return {"start": before, "column": column, VALUES: values}


@dataclass(frozen=True)
class Lanes:
    """A sparse matrix whose values lie so that the rows of the matrix are the lanes of vectors.

    n:m and bitmaps are a stream of their values or codes and a bit for every element (`Masked`);
    scales are beside it, those of neighbouring rows side by side where every row has its own.
    Blocks are slabs of their rows (`Slabs`), beside the arrays that say where they are, and the
    elements of CSR fill runs (`Runs`).
    """

    @staticmethod
    def fits(format: Format, shape: tuple[int, ...]) -> bool:
        """Whether a tensor can be stored so."""
        if not isinstance(format, Sparse) or len(shape) != 2 or 0 in shape:
            return False
        if isinstance(format.inner, Scaled):
            return spread(format) is not None
        if not isinstance(format.inner, Dense) or format.value not in ELEMENTS:
            return False
        if isinstance(format, Blocks):
            return tall(format.rows) % LANES == 0
        return isinstance(format, NM | Bitmap | Csr)

    def arrays(self, format: Format, shape: tuple[int, ...]) -> int:
        """How many arrays there are."""
        if isinstance(format, Blocks | Csr):
            return len(format.components(shape))
        return 2 + len(_beside(format, shape))

    def place(self, format: Format, component: str) -> int:
        """Which array a component is in; the bits of a stream stand for the array of its places."""
        if isinstance(format, Blocks | Csr):
            return [c.name for c in format.components((1, 1))].index(component)
        least = (1, format.m if isinstance(format, NM) else 1)
        names = [c.name for c in _beside(format, least)]
        if component in names:
            return 2 + names.index(component)
        return 0 if component.partition(".")[0] == VALUES else 1

    def order(self, format: Format, shape: tuple[int, ...], component: str
              ) -> Masked | Slabs | Records | None:  # fmt: skip
        """How a component lies in its array, if that is not plain."""
        for c in [] if isinstance(format, Blocks | Csr) else _beside(format, shape):
            if c.name == component:
                return beside(c, shape)
        found = order(format, shape) if component in (VALUES, CODES) else None
        return None if isinstance(found, Runs) else found

    def pack(self, format: Format, parts: Parts, shape: tuple[int, ...]) -> list[Array]:
        """Components in their carriers as bytes."""
        own = order(format, shape)
        if isinstance(own, Slabs):
            return [own.packed(parts[c.name]) if c.name == VALUES else stored(c, parts[c.name])
                    for c in format.components(shape)]  # fmt: skip
        if isinstance(own, Runs):
            return own.pack(parts)
        values, others = parts[_values(format)], _scales(format, parts, shape)
        if isinstance(format, NM):
            group = np.arange(int(parts["index"].shape[1])) // format.n * format.m
            mask = np.zeros(shape, bool)
            np.put_along_axis(mask, parts["index"].astype(int) + group, True, 1)
            return own.pack(mask, values.reshape(-1)) + others
        mask = ones_of(parts["mask"], shape[1])
        used = np.arange(int(values.shape[1])) < mask.sum(1)[:, None]
        return own.pack(mask, values[used]) + others

    def unpack(self, format: Format, arrays: list[Array], shape: tuple[int, ...]) -> Parts:
        """The components again."""
        own = order(format, shape)
        if isinstance(own, Slabs):
            return {c.name: own.unpacked(a) if c.name == VALUES else restored(c, a)
                    for c, a in zip(format.components(shape), arrays, strict=True)}  # fmt: skip
        if isinstance(own, Runs):
            return own.unpack(arrays)
        assert isinstance(format, Sparse)
        mask, found = own.unpack(arrays)
        size, name = numbers(format.stored(shape)), _values(format)
        others = {c.name: _read(c, a, shape)
                  for c, a in zip(_beside(format, shape), arrays[2:], strict=True)}  # fmt: skip
        if isinstance(format, NM):
            index = np.nonzero(mask)[1].reshape(size) % format.m
            return {"index": index, name: found.reshape(size)} | others
        words, start = words_of(mask)
        values = np.zeros(size, found.dtype)
        values[np.arange(size[1]) < mask.sum(1)[:, None]] = found
        return {"mask": words, "start": start, name: values} | others


Order = Masked | Slabs | Runs


def order(format: Format, shape: tuple[int, ...]) -> Order:
    """The order of the values of a format that fits."""
    if isinstance(format, Blocks):
        n, k = numbers(format.stored(shape))
        return Slabs(n, k, tall(format.rows), format.value)
    if isinstance(format, Csr):
        assert format.room is not None
        return Runs(shape[0], format.room, format.value)
    assert isinstance(format, Sparse)
    if not isinstance(format.inner, Scaled):
        return Masked(shape[0], shape[1], format.value)
    columns = spread(format).block.columns  # type: ignore[union-attr]
    return Masked(shape[0], shape[1], format.inner.codes, gcd(DEPTH, columns or DEPTH))


def spread(format: Sparse) -> Scaled | None:
    """The scaled format of the matrix whose codes a stream holds: its scales are for the columns
    that what they scale is stored of. None where that is no such format, or no code that is 0."""
    inner = format.inner
    if not isinstance(format, NM | Bitmap) or not isinstance(inner, Scaled):
        return None
    if inner.zero != "none" or inner.codes.bits not in (4, 8) or from_raw(inner.codes, ZERO)[0]:
        return None
    block = inner.block
    if block.columns is None:
        return inner
    if not isinstance(format, NM) or block.columns % format.n:
        return None
    columns = block.columns // format.n * format.m
    return replace(inner, block=replace(block, columns=columns)) if columns % UNIT == 0 else None


def _values(format: Format) -> str:
    """The component that a stream holds."""
    return CODES if isinstance(format, Sparse) and isinstance(format.inner, Scaled) else VALUES


def _beside(format: Format, shape: tuple[int, ...]) -> list[Component]:
    """The components of scales."""
    assert isinstance(format, Sparse)
    return [c for c in format.components(shape) if c.name.startswith(VALUES) and
            c.name not in (VALUES, CODES)]  # fmt: skip


def _scales(format: Format, parts: Parts, shape: tuple[int, ...]) -> list[Array]:
    """Their arrays; the rows of those that every row has lie side by side."""
    out: list[Array] = []
    for c in _beside(format, shape):
        records = beside(c, shape)
        out.append(stored(c, parts[c.name]) if records is None else records.pack(parts))
    return out


def _read(c: Component, array: Array, shape: tuple[int, ...]) -> Array:
    records = beside(c, shape)
    return restored(c, array) if records is None else records.unpack(array)[c.name]


def tall(rows: int) -> int:
    """Rows of the tiles that blocks of so many rows are read in."""
    return max(d for d in range(1, min(rows, TALL) + 1) if rows % d == 0)
