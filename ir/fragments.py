"""Fragment order: codes in memory as threads hold them, 16 bytes of each at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.bits import raw
from tilec.ir.dtype import Array, DType
from tilec.ir.layout.register import RegisterLayout

WORD, PIECE = 32, 128  # bits


@dataclass(frozen=True)
class Fragments:
    """A matrix of codes, tile by tile (the columns' tiles fastest), each in a register layout.

    A tile is pieces of 16 bytes: the first of every thread, then the second, and so on. In a
    32-bit word the even elements of a thread are in the lower half and the odd ones in the upper,
    so that one mask finds two neighbours as the two halves of a register. Threads that hold the
    same as others have no place of their own.
    """

    codes: DType
    layout: RegisterLayout

    @staticmethod
    def fits(codes: DType, layout: RegisterLayout) -> bool:
        """Whether what each thread holds is whole pieces."""
        return (
            codes.bits in (1, 2, 4) and layout.rank == 2 and not layout.locals * codes.bits % PIECE
        )

    @property
    def threads(self) -> int:
        """How many threads hold different elements."""
        return self.layout.threads // self.layout.copies

    @property
    def tile_bytes(self) -> int:
        """Bytes of a tile."""
        return self.threads * self.layout.locals * self.codes.bits // 8

    def tiles(self, shape: tuple[int, int]) -> tuple[int, int]:
        """How many tiles cover a matrix, along each axis."""
        rows, columns = self.layout.shape
        return -(-shape[0] // rows), -(-shape[1] // columns)

    def pack(self, codes: Array) -> Array:
        """Bytes of codes[N, K] in their carrier; what pads the last tiles is code 0."""
        n, k = codes.shape
        (high, wide), (rows, columns) = self.tiles((n, k)), self.layout.shape
        whole = np.zeros((high * rows, wide * columns), np.uint32)
        whole[:n, :k] = raw(self.codes, codes)
        tiles = whole.reshape(high, rows, wide, columns).swapaxes(1, 2)
        first = self._first()
        r, c = self.layout.element(first[:, None], np.arange(self.layout.locals))
        held = tiles[:, :, r, c]  # [tiles, tiles, threads, elements]
        each = WORD // self.codes.bits
        fields = held.reshape(*held.shape[:3], -1, each // 2, 2)
        word = np.zeros(fields.shape[:4], np.uint32)
        for j in range(each // 2):
            for half in range(2):
                at = np.uint32(self.codes.bits * j + WORD // 2 * half)
                word |= fields[..., j, half] << at
        pieces = word.reshape(high, wide, len(first), -1, PIECE // WORD).swapaxes(2, 3)
        return np.ascontiguousarray(pieces).view(np.uint8).reshape(-1)

    def _first(self) -> Array:
        """The first thread of those that hold the same, in order."""
        threads = np.arange(self.layout.threads)
        rest, idle = threads.copy(), np.zeros(len(threads), bool)
        for d in reversed(self.layout.thread_digits):
            idle |= (rest % d.size != 0) & (d.axis is None)
            rest //= d.size
        return threads[~idle]
