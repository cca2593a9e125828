"""Sparse matrices in the order in which code for wide vectors reads them: rows are the lanes."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

from tilec.ir.bits import aligned, restored, stored
from tilec.ir.dtype import Array, DType, bf16, f16, f32, i32, u32
from tilec.ir.format import Component, Dense, Format
from tilec.ir.scaled import Parts
from tilec.ir.sparse import NM, Bitmap, Blocks, Csr, Sparse
from tilec.ir.sparse.bitmap import ones_of, words_of
from tilec.ir.sparse.stored import VALUES, numbers, starts
from tilec.ir.stream import COLUMNS, LANES

ELEMENTS = (f16, bf16, f32)
UNIT = 16  # columns of a unit: bits of its elements, then those that are stored
DEPTH = 256  # columns whose place in the stream is known
WORDS = UNIT // 2 * COLUMNS // LANES  # words of bits of a unit
TALL = 128  # rows of a slab, at most
RUN = 32  # elements of a row that are read together


@dataclass(frozen=True)
class Masked:
    """A matrix [n, k] as a stream of stored elements with a bit for every element before them.

    64 rows are a block. A unit is 16 columns of a block: a word of bits for every pair of columns
    and 16 rows, then the elements that have a 1, in the order of the bits. Elements of 16 bits lie
    so that a word is a vector whose 32-bit lanes are rows, the low half for even columns; those of
    32 bits are a vector of the even column, then one of the odd. Another array has the place of
    every 16th unit, in units of 2 bytes.
    """

    n: int
    k: int
    dtype: DType

    @property
    def depth(self) -> int:
        """Columns from one known place to the next."""
        return DEPTH

    @property
    def steps(self) -> int:
        """Known places of a block."""
        return -(-self.k // DEPTH)

    @property
    def units(self) -> int:
        """Units of a block; the last may end in columns without a 1."""
        return -(-self.k // UNIT)

    @property
    def blocks(self) -> int:
        """Blocks of 64 rows; the last may end in rows without a 1."""
        return -(-self.n // COLUMNS)

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return self.dtype.bits // 8

    def pack(self, mask: Array, values: Array) -> list[Array]:
        """The stream and the places, of the bits [n, k] and the elements with a 1, row by row."""
        bits, whole = np.zeros(self._padded, bool), np.zeros(self._padded, _raw(self.dtype))
        bits[: self.n, : self.k] = mask
        whole[: self.n, : self.k][mask] = self.dtype.to_storage(values).view(whole.dtype)
        bits, whole = self._ordered(bits), self._ordered(whole)
        counts = bits.sum(1)
        ends = np.cumsum(4 * WORDS + self.size * counts)
        starts = ends - 4 * WORDS - self.size * counts
        out = aligned(int(ends[-1]))
        words = np.packbits(bits, axis=1, bitorder="little").view(np.uint16)
        out.view(np.uint16)[starts[:, None] // 2 + np.arange(2 * WORDS)] = words
        first = (starts + 4 * WORDS) // self.size - (np.cumsum(counts) - counts)
        at = np.repeat(first, counts) + np.arange(counts.sum())
        out.view(whole.dtype)[at] = whole[bits]
        places = starts.reshape(self.blocks, -1)[:, :: DEPTH // UNIT] // 2
        return [out, stored(self.places, places)]

    def unpack(self, arrays: list[Array]) -> tuple[Array, Array]:
        """The bits [n, k] and the elements with a 1, row by row."""
        stream, at = arrays[0], restored(self.places, arrays[1]).astype(np.int64).reshape(-1) * 2
        kind = _raw(self.dtype)
        bits = np.zeros((at.size, DEPTH // UNIT, UNIT * COLUMNS), bool)
        whole = np.zeros(bits.shape, kind)
        used = np.tile(np.arange(self.steps), self.blocks) * (DEPTH // UNIT)
        for unit in range(min(DEPTH // UNIT, self.units)):
            here = np.flatnonzero(used + unit < self.units)
            words = stream.view(np.uint16)[at[here, None] // 2 + np.arange(2 * WORDS)]
            found = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(bool)
            counts = found.sum(1)
            first = (at[here] + 4 * WORDS) // self.size - (np.cumsum(counts) - counts)
            own = np.zeros(found.shape, kind)
            own[found] = stream.view(kind)[np.repeat(first, counts) + np.arange(counts.sum())]
            bits[here, unit], whole[here, unit] = found, own
            at[here] += 4 * WORDS + self.size * counts
        mask, values = self._rows(bits), self._rows(whole)
        return mask, self.dtype.from_storage(values[mask].view(self.dtype.numpy))

    @property
    def places(self) -> Component:
        """The array of places."""
        return Component("", u32, (self.blocks, self.steps))

    @property
    def _padded(self) -> tuple[int, int]:
        return self.blocks * COLUMNS, self.units * UNIT

    def _ordered(self, x: Array) -> Array:
        """[units of all blocks, elements of a unit in the order of its bits]."""
        vectors = COLUMNS // LANES
        parts = x.reshape(self.blocks, vectors, LANES, self.units, UNIT // 2, 2)
        order = (0, 3, 4, 1, 2, 5) if self.size == 2 else (0, 3, 4, 1, 5, 2)
        return parts.transpose(order).reshape(self.blocks * self.units, -1)

    def _rows(self, x: Array) -> Array:
        """The inverse of `_ordered`, of [steps of all blocks, units, elements]."""
        whole = x.reshape(self.blocks, -1, UNIT * COLUMNS)[:, : self.units]
        vectors, pair = COLUMNS // LANES, (LANES, 2) if self.size == 2 else (2, LANES)
        parts = whole.reshape(self.blocks, self.units, UNIT // 2, vectors, *pair)
        order = (0, 3, 4, 1, 2, 5) if self.size == 2 else (0, 3, 5, 1, 2, 4)
        return parts.transpose(order).reshape(self._padded)[: self.n, : self.k]


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
        whole = np.zeros((self.n, self.wide), _raw(self.dtype))
        whole[:, : self.k] = self.dtype.to_storage(values).view(whole.dtype)
        turned = whole.reshape(-1, self.tall, self.wide // self.pack, self.pack).swapaxes(1, 2)
        out = aligned(whole.nbytes)
        out[:] = np.ascontiguousarray(turned).reshape(-1).view(np.uint8)
        return out

    def unpacked(self, data: Array) -> Array:
        """The values again."""
        turned = data.view(_raw(self.dtype)).reshape(-1, self.wide // self.pack, self.tall,
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
        at = np.arange(start[-1]) + np.repeat(runs[:-1] * RUN - start[:-1], counts)
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

    n:m and bitmaps are a stream of their values and a bit for every element (`Masked`); blocks are
    slabs of their rows (`Slabs`), beside the arrays that say where they are, and the elements of
    CSR fill runs (`Runs`).
    """

    @staticmethod
    def fits(format: Format, shape: tuple[int, ...]) -> bool:
        """Whether a tensor can be stored so."""
        dense = isinstance(format, Sparse) and isinstance(format.inner, Dense)
        if not dense or len(shape) != 2 or 0 in shape or format.value not in ELEMENTS:
            return False
        if isinstance(format, Blocks):
            return tall(format.rows) % LANES == 0
        return isinstance(format, NM | Bitmap | Csr)

    def arrays(self, format: Format, shape: tuple[int, ...]) -> int:
        """How many arrays there are."""
        return len(format.components(shape)) if isinstance(format, Blocks | Csr) else 2

    def place(self, format: Format, component: str) -> int:
        """Which array a component is in; the bits of a stream stand for the array of its places."""
        if isinstance(format, Blocks | Csr):
            return [c.name for c in format.components((1, 1))].index(component)
        return 0 if component == VALUES else 1

    def order(self, format: Format, shape: tuple[int, ...], component: str
              ) -> Masked | Slabs | None:  # fmt: skip
        """How a component lies in its array, if that is not plain."""
        found = order(format, shape) if component == VALUES else None
        return None if isinstance(found, Runs) else found

    def pack(self, format: Format, parts: Parts, shape: tuple[int, ...]) -> list[Array]:
        """Components in their carriers as bytes."""
        own = order(format, shape)
        if isinstance(own, Slabs):
            return [own.packed(parts[c.name]) if c.name == VALUES else stored(c, parts[c.name])
                    for c in format.components(shape)]  # fmt: skip
        if isinstance(own, Runs):
            return own.pack(parts)
        if isinstance(format, NM):
            group = np.arange(parts["index"].shape[1]) // format.n * format.m
            mask = np.zeros(shape, bool)
            np.put_along_axis(mask, parts["index"].astype(int) + group, True, 1)
            return own.pack(mask, parts[VALUES].reshape(-1))
        mask = ones_of(parts["mask"], shape[1])
        used = np.arange(parts[VALUES].shape[1]) < mask.sum(1)[:, None]
        return own.pack(mask, parts[VALUES][used])

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
        size = numbers(format.stored(shape))
        if isinstance(format, NM):
            return {"index": np.nonzero(mask)[1].reshape(size) % format.m,
                    VALUES: found.reshape(size)}  # fmt: skip
        words, start = words_of(mask)
        values = np.zeros(size, found.dtype)
        values[np.arange(size[1]) < mask.sum(1)[:, None]] = found
        return {"mask": words, "start": start, VALUES: values}


Order = Masked | Slabs | Runs


def order(format: Format, shape: tuple[int, ...]) -> Order:
    """The order of the values of a format that fits."""
    if isinstance(format, Blocks):
        n, k = numbers(format.stored(shape))
        return Slabs(n, k, tall(format.rows), format.value)
    if isinstance(format, Csr):
        assert format.room is not None
        return Runs(shape[0], format.room, format.value)
    return Masked(shape[0], shape[1], format.value)


def tall(rows: int) -> int:
    """Rows of the tiles that blocks of so many rows are read in."""
    return max(d for d in range(1, min(rows, TALL) + 1) if rows % d == 0)


def _raw(t: DType) -> type[np.generic]:
    return np.uint16 if t.bits == 16 else np.uint32
