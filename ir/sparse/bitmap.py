"""A bit for every element: those that are stored lie side by side in their rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, i32, u16, u32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.format import Component
from tilec.ir.scaled import Parts
from tilec.ir.sparse.stored import Sparse, encoded, matrix, numbers, roomy

WORD = 32  # elements whose bits are a word


@dataclass(frozen=True)
class Bitmap(Sparse):
    """Elements whose bit is 1, in a row of `room` places for each row of the matrix.

    Bit b of mask[n, j] is for column 32 * j + b, and start[n, j] is how many ones row n has before
    it. SpInfer (EuroSys 2025) and the expanding loads of AVX-512 read such maps.
    """

    room: int | None = None

    def __post_init__(self) -> None:
        if self.room is not None and self.room < 1:
            raise TileError(f"bitmap: expected room for at least 1 in a row, not {self.room}")

    def __str__(self) -> str:
        return f"bitmap<{self.inner}{'' if self.room is None else f', {self.room}'}>"

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        if self.room is None:
            raise TileError(f"{self}: how many elements of a row are stored is not known",
                            hint=f"bitmap<{self.inner}, COUNT>")  # fmt: skip
        return matrix(self, shape)[0], self.room

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        n, k = matrix(self, shape)
        words = (n, ceil_div(k, WORD))
        count = u16 if isinstance(k, int) and k < 1 << 16 else i32
        return Component("mask", u32, words), Component("start", count, words)

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        mask = ones_of(parts["mask"], shape[1])
        out = np.zeros(shape)
        values = self.inner_values(parts, shape)
        out[mask] = values[np.arange(values.shape[1]) < mask.sum(1)[:, None]]
        return out

    def check(self, parts: Parts, shape: tuple[int, ...]) -> None:
        mask = ones_of(parts["mask"], shape[1])
        assert self.room is not None
        if mask.sum(1).max(initial=0) > self.room:
            most = int(mask.sum(1).max())
            raise self.refuse(f"expected at most {self.room} ones in a row", most)
        if not np.array_equal(words_of(mask)[0], parts["mask"]):
            raise self.refuse(f"expected no ones beyond column {shape[1] - 1}")
        if not np.array_equal(words_of(mask)[1], parts["start"]):
            raise self.refuse(f"expected `start` to count the ones before every {WORD} columns")

    def fitted(self, x: Array) -> Bitmap:
        matrix(self, x.shape)
        return replace(self, room=roomy(int((x != 0).sum(1).max(initial=0))))


def ones_of(words: Array, columns: int) -> Array:
    """The bit of every element."""
    bits = words.astype(np.int64)[..., None] >> np.arange(WORD) & 1
    return bits.reshape(len(words), -1)[:, :columns].astype(bool)


def words_of(mask: Array) -> tuple[Array, Array]:
    """The words of a map of bits, and the ones before each."""
    rows, columns = mask.shape
    padded = np.zeros((rows, -(-columns // WORD) * WORD), np.int64)
    padded[:, :columns] = mask
    bits = padded.reshape(rows, -1, WORD)
    counts = bits.sum(-1)
    return (bits << np.arange(WORD)).sum(-1), np.cumsum(counts, 1) - counts


@fit.encode.register
def _(format: Bitmap, x: Array, how: fit.Fit) -> Parts:
    """The elements that are not 0. Raises TileError where a row has more than room for them."""
    x = fit.checked(format, x)
    mask = x != 0
    size = numbers(format.stored(x.shape))
    counts = mask.sum(1)
    if counts.max(initial=0) > size[1]:
        raise format.refuse(f"expected at most {size[1]} in a row", int(counts.max()))
    values = np.zeros(size)
    values[np.arange(size[1]) < counts[:, None]] = x[mask]
    words, start = words_of(mask)
    return {"mask": words, "start": start} | encoded(format, values, how)
