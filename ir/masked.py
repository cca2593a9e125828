"""Streams of the elements of a sparse matrix that are stored, with a bit for every element."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.bits import aligned, from_raw, raw, restored, stored
from tilec.ir.dtype import Array, DType, u32
from tilec.ir.format import Component
from tilec.ir.stream import COLUMNS, LANES

UNIT = 16  # columns of a unit: bits of its elements, then those that are stored
DEPTH = 256  # columns whose place in the stream is known, at most
WORDS = UNIT // 2 * COLUMNS // LANES  # words of bits of a unit
BEYOND = 32  # bytes that code reads at once from the last code on


@dataclass(frozen=True)
class Masked:
    """A matrix [n, k] as a stream of stored elements with a bit for every element before them.

    64 rows are a block. A unit is 16 columns of a block: a word of bits for every pair of columns
    and 16 rows, then the elements that have a 1, in the order of the bits. Elements of 16 bits lie
    so that a word is a vector whose 32-bit lanes are rows, the low half for even columns; those of
    32 bits are a vector of the even column, then one of the odd. Of codes of 4 or 8 bits two words
    are four bytes of every lane, two for each column: the first is of the first word's row, the
    second of the second's; those of two words begin at a byte. Another array has the place of every
    `depth` columns, in units of 2 bytes.
    """

    n: int
    k: int
    dtype: DType
    depth: int = DEPTH

    @property
    def steps(self) -> int:
        """Known places of a block."""
        return -(-self.k // self.depth)

    @property
    def units(self) -> int:
        """Units of a block; the last may end in columns without a 1."""
        return -(-self.k // UNIT)

    @property
    def blocks(self) -> int:
        """Blocks of 64 rows; the last may end in rows without a 1."""
        return -(-self.n // COLUMNS)

    @property
    def coded(self) -> bool:
        """Whether elements are codes, read by two words at once."""
        return self.dtype.bits <= 8

    @property
    def size(self) -> int:
        """Bytes of an element, or of one whose code is alone."""
        return -(-self.dtype.bits // 8)

    def pack(self, mask: Array, values: Array) -> list[Array]:
        """The stream and the places, of the bits [n, k] and the elements with a 1, row by row."""
        bits, whole = np.zeros(self._padded, bool), np.zeros(self._padded, raw_kind(self.dtype))
        bits[: self.n, : self.k] = mask
        whole[: self.n, : self.k][mask] = _stored(self.dtype, values)
        bits, whole = self._ordered(bits), self._ordered(whole)
        lengths = (4 * WORDS + self._sizes(bits).sum(1)).reshape(self.blocks, self.units)
        begins = np.arange(0, self.units, self.depth // UNIT)
        odd = np.add.reduceat(lengths, begins, 1) % 2  # places are even
        lengths[:, [*(begins[1:] - 1), self.units - 1]] += odd
        starts = np.cumsum(lengths) - lengths.reshape(-1)
        out = aligned(int(lengths.sum()) + BEYOND * self.coded)
        words = np.packbits(bits, axis=1, bitorder="little")
        out[starts[:, None] + np.arange(4 * WORDS)] = words
        self._put(out, self._at(bits, starts), whole[bits])
        places = starts.reshape(self.blocks, -1)[:, begins] // 2
        return [out, stored(self.places, places)]

    def unpack(self, arrays: list[Array]) -> tuple[Array, Array]:
        """The bits [n, k] and the elements with a 1, row by row."""
        stream, at = arrays[0], restored(self.places, arrays[1]).astype(np.int64).reshape(-1) * 2
        each = self.depth // UNIT
        bits = np.zeros((at.size, each, UNIT * COLUMNS), bool)
        whole = np.zeros(bits.shape, raw_kind(self.dtype))
        used = np.tile(np.arange(self.steps), self.blocks) * each
        for unit in range(min(each, self.units)):
            here = np.flatnonzero(used + unit < self.units)
            words = stream[at[here, None] + np.arange(4 * WORDS)]
            found = np.unpackbits(words, axis=1, bitorder="little").astype(bool)
            own = np.zeros(found.shape, whole.dtype)
            own[found] = self._found(stream, self._at(found, at[here]))
            bits[here, unit], whole[here, unit] = found, own
            at[here] += 4 * WORDS + self._sizes(found).sum(1)
        mask, values = self._rows(bits), self._rows(whole)
        return mask, _restored(self.dtype, values[mask])

    @property
    def places(self) -> Component:
        """The array of places."""
        return Component("", u32, (self.blocks, self.steps))

    @property
    def _padded(self) -> tuple[int, int]:
        return self.blocks * COLUMNS, self.units * UNIT

    def _sizes(self, bits: Array) -> Array:
        """Bytes of the elements of every two words of some units."""
        return -(-bits.reshape(len(bits), -1, 64).sum(2) * self.dtype.bits // 8)

    def _at(self, bits: Array, starts: Array) -> Array:
        """Where the elements of units are that begin at these bytes, in elements."""
        sizes, twos = self._sizes(bits), bits.reshape(len(bits), -1, 64)
        first = starts[:, None] + 4 * WORDS + np.cumsum(sizes, 1) - sizes
        before = (np.cumsum(twos, 2, dtype=np.uint8) - twos)[twos]
        return np.repeat(first.ravel() * 8 // self.dtype.bits, twos.sum(2).ravel()) + before

    def _put(self, stream: Array, at: Array, elements: Array) -> None:
        if self.dtype.bits != 4:
            stream.view(elements.dtype)[at] = elements
            return
        low = at % 2 == 0
        stream[at[low] // 2] = elements[low]
        stream[at[~low] // 2] |= elements[~low] << 4

    def _found(self, stream: Array, at: Array) -> Array:
        if self.dtype.bits != 4:
            return stream.view(raw_kind(self.dtype))[at]
        return stream[at // 2] >> (at % 2 * 4).astype(np.uint8) & 15

    def _ordered(self, x: Array) -> Array:
        """[units of all blocks, elements of a unit in the order of its bits]."""
        parts = x.reshape(self._split)
        return parts.transpose(self._order).reshape(self.blocks * self.units, -1)

    def _rows(self, x: Array) -> Array:
        """The inverse of `_ordered`, of [steps of all blocks, units, elements]."""
        whole = x.reshape(self.blocks, -1, UNIT * COLUMNS)[:, : self.units]
        parts = whole.reshape([self._split[a] for a in self._order])
        turned = parts.transpose(np.argsort(self._order))
        return turned.reshape(self._padded)[: self.n, : self.k]

    @property
    def _split(self) -> tuple[int, ...]:
        """Rows and columns as [block, two words, word, lane, unit, pair, half]."""
        return self.blocks, 2, COLUMNS // LANES // 2, LANES, self.units, UNIT // 2, 2

    @property
    def _order(self) -> tuple[int, ...]:
        """How these lie in the stream."""
        if self.coded:
            return 0, 4, 5, 1, 3, 6, 2
        return (0, 4, 5, 1, 2, 3, 6) if self.size == 2 else (0, 4, 5, 1, 2, 6, 3)


def raw_kind(t: DType) -> type[np.generic]:
    """The unsigned integer that has the bits of an element."""
    return np.uint8 if t.bits <= 8 else np.uint16 if t.bits == 16 else np.uint32


def _stored(t: DType, x: Array) -> Array:
    """The bits of elements."""
    return raw(t, x) if t.bits <= 8 else t.to_storage(x).view(raw_kind(t))


def _restored(t: DType, x: Array) -> Array:
    """Elements with these bits."""
    return from_raw(t, x) if t.bits <= 8 else t.from_storage(x.view(t.numpy))
