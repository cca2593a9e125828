"""Fragment order: elements in memory as threads hold them, up to 16 bytes of each at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from tilec.ir.bits import raw
from tilec.ir.dtype import Array, DType
from tilec.ir.layout.register import RegisterLayout

WORD = 32  # bits
PIECES = (4, 2, 1)  # words of one access


@dataclass(frozen=True)
class Arrangement:
    """Where a thread's elements are, a unit of some words at a time.

    Bit b of element e of a unit is bit places[e][b] of its words, which have no other bits.
    `stored` is what stands for each code; nothing where that is the code itself.
    """

    places: tuple[tuple[int, ...], ...]
    stored: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        """Elements of a unit."""
        return len(self.places)

    @property
    def words(self) -> int:
        """Words of a unit."""
        return len(self.places) * len(self.places[0]) // WORD

    def pack(self, codes: Array) -> Array:
        """Words[..., units * words] of the bits of codes[..., elements]."""
        table = np.array(self.stored, np.uint32) if self.stored else None
        units = codes.reshape(*codes.shape[:-1], -1, self.elements)
        out = np.zeros((*units.shape[:-1], self.words), np.uint32)
        for e, bits in enumerate(self.places):
            one = units[..., e] if table is None else table[units[..., e]]
            for b, place, count in _runs(bits):
                field = one >> np.uint32(b) & np.uint32((1 << count) - 1)
                out[..., place // WORD] |= field << np.uint32(place % WORD)
        return out.reshape(*codes.shape[:-1], -1)


def _runs(places: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Bits beside each other that have places beside each other: the first, its place, how many."""
    found: list[tuple[int, int, int]] = []
    for b, place in enumerate(places):
        if found and place == sum(found[-1][1:]) and place % WORD:
            found[-1] = (*found[-1][:2], found[-1][2] + 1)
        else:
            found.append((b, place, 1))
    return found


def plain(bits: int) -> Arrangement:
    """Elements of 8, 16 or 32 bits as they are."""
    return Arrangement(
        tuple(tuple(range(i, i + bits)) for i in range(0, WORD, bits)),
    )


@dataclass(frozen=True)
class Fragments:
    """A matrix, or one after the other, tile by tile (the columns' tiles fastest), each in a
    register layout.

    A tile is the first 16 bytes of every thread, then the second, and so on; of what is left 8
    bytes and then 4. Threads that hold the same as others have no place of their own.
    """

    codes: DType
    layout: RegisterLayout
    arrangement: Arrangement

    @staticmethod
    def fits(layout: RegisterLayout, arrangement: Arrangement) -> bool:
        """Whether what each thread holds is whole units."""
        return layout.rank == 2 and layout.locals % arrangement.elements == 0

    @property
    def threads(self) -> int:
        """How many threads hold different elements."""
        return self.layout.threads // self.layout.copies

    @property
    def words(self) -> int:
        """Words that a thread holds of a tile."""
        return self.layout.locals // self.arrangement.elements * self.arrangement.words

    @property
    def tile_bytes(self) -> int:
        """Bytes of a tile."""
        return self.threads * self.words * 4

    @cached_property
    def pieces(self) -> tuple[tuple[int, int], ...]:
        """The accesses of a thread: the first word of each, and how many."""
        found: list[tuple[int, int]] = []
        at = 0
        for count in PIECES:
            while self.words - at >= count:
                found.append((at, count))
                at += count
        return tuple(found)

    def tiles(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """How many tiles cover a matrix, the last two axes, along each of them."""
        rows, columns = self.layout.shape
        return -(-shape[-2] // rows), -(-shape[-1] // columns)

    def size(self, shape: tuple[int, ...]) -> int:
        """Bytes of a matrix, or of several."""
        return prod(shape[:-2]) * prod(self.tiles(shape)) * self.tile_bytes

    def pack(self, elements: Array) -> Array:
        """Bytes of elements[..., N, K] in their carrier, and of what pads the last tiles."""
        *several, n, k = elements.shape
        if several:
            return np.concatenate([self.pack(e) for e in elements])
        (high, wide), (rows, columns) = self.tiles((n, k)), self.layout.shape
        whole = np.tile(self.beyond(wide * columns), (high * rows, 1))
        whole[:n, :k] = self._raw(elements)
        tiles = whole.reshape(high, rows, wide, columns).swapaxes(1, 2)
        first = self._first()
        r, c = self.layout.element(first[:, None], np.arange(self.layout.locals))
        words = self.arrangement.pack(tiles[:, :, r, c])  # [tiles, tiles, threads, words]
        parts = [words[..., a : a + count].reshape(high, wide, -1) for a, count in self.pieces]
        return np.ascontiguousarray(np.concatenate(parts, -1)).view(np.uint8).reshape(-1)

    def beyond(self, columns: int) -> Array:
        """The bits of what pads the last tiles, in a row of so many elements."""
        return np.zeros(columns, np.uint32)

    def _raw(self, elements: Array) -> Array:
        """The bits of elements."""
        if self.codes.bits <= 8:
            return raw(self.codes, elements)
        stored = self.codes.to_storage(elements)
        return stored.view(f"u{stored.itemsize}")

    def _first(self) -> Array:
        """The first thread of those that hold the same, in order."""
        threads = np.arange(self.layout.threads)
        rest, idle = threads.copy(), np.zeros(len(threads), bool)
        for d in reversed(self.layout.thread_digits):
            idle |= (rest % d.size != 0) & (d.axis is None)
            rest //= d.size
        return threads[~idle]


@dataclass(frozen=True)
class Places(Fragments):
    """Pairs of places of a 2:4 operand, which rise also where there is no element: an instruction
    takes no others (PTX ISA, mma.sp::ordered_metadata)."""

    def beyond(self, columns: int) -> Array:
        return np.arange(columns, dtype=np.uint32) % 2
