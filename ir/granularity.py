"""Granularity: which elements of a tensor share a scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div


@dataclass(frozen=True)
class Granularity:
    """`rows` x `columns` elements of the last two axes; None is all of an axis, which then has no
    place in the shape of the blocks. Where `rows` is None the block is the whole tensor.

    The last block of an axis may have fewer elements.
    """

    columns: int | None
    rows: int | None = 1

    def __post_init__(self) -> None:
        for what, size in (("a group has", self.columns), ("a block has rows:", self.rows)):
            if size is not None and size < 1:
                raise TileError(f"{what} at least 1 element, not {size}")
        if self.rows is None and self.columns is not None:
            raise TileError(f"a group of {self.columns} needs a number of rows")

    def __str__(self) -> str:
        if self.columns is None:
            return "tensor" if self.rows is None else "channel" if self.rows == 1 else \
                f"rows={self.rows}, channel"  # fmt: skip
        rows = "" if self.rows == 1 else f"rows={self.rows}, "
        return f"{rows}group={self.columns}"

    @property
    def group(self) -> int | None:
        """Columns that share a scale in a row of their own, where that is not all of them."""
        return self.columns if self.rows == 1 else None

    def shape(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        """How many blocks there are along each axis that is divided."""
        if self.rows is None:
            return ()
        if self.rows > 1 and len(shape) < 2:
            raise TileError(f"blocks of {self.rows} rows need a matrix, not {len(shape)} dimension")
        rows = tuple(shape[:-1])
        if self.rows > 1:
            rows = (*rows[:-1], ceil_div(rows[-1], self.rows))
        return rows if self.columns is None else (*rows, ceil_div(shape[-1], self.columns))

    def _sizes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Elements of a block along each axis."""
        if self.rows is None:
            return shape
        last = shape[-1] if self.columns is None else self.columns
        return (*[1] * (len(shape) - 2), *[self.rows] * (len(shape) > 1), last)

    def spread(self, a: Array, shape: tuple[int, ...]) -> Array:
        """A number for every element, from one for every block."""
        if self.rows is None:
            return np.broadcast_to(a, shape)
        out = a if self.columns is not None else a[..., None]
        for axis, size in enumerate(self._sizes(shape)):
            if size > 1 and out.shape[axis] > 1:
                out = np.repeat(out, size, axis)[(slice(None),) * axis + (slice(shape[axis]),)]
        return np.broadcast_to(out[tuple(slice(n) for n in shape)], shape)

    def split(self, x: Array) -> tuple[Array, Array]:
        """x as [blocks..., elements], and which elements are no padding."""
        sizes = self._sizes(x.shape)
        pads = [(0, -n % max(size, 1)) for n, size in zip(x.shape, sizes, strict=True)]
        valid = np.ones(x.shape, bool)
        if any(more for _, more in pads):
            x, valid = np.pad(x, pads, mode="edge"), np.pad(valid, pads)
        return self._turned(x, sizes), self._turned(valid, sizes)

    def _turned(self, x: Array, sizes: tuple[int, ...]) -> Array:
        apart: list[int] = []
        for n, size in zip(x.shape, sizes, strict=True):
            apart += [n // max(size, 1), size]
        rank = x.ndim
        turned = x.reshape(apart).transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2))
        blocks = tuple(int(str(n)) for n in self.shape(x.shape))
        return turned.reshape(*blocks, -1)

    def join(self, blocks: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `split`, padding left out."""
        sizes, rank = self._sizes(shape), len(shape)
        counts = [-(-n // max(size, 1)) for n, size in zip(shape, sizes, strict=True)]
        order = [i for axis in range(rank) for i in (axis, rank + axis)]
        whole = blocks.reshape(*counts, *sizes).transpose(order)
        whole = whole.reshape([n * size for n, size in zip(counts, sizes, strict=True)])
        return whole[tuple(slice(n) for n in shape)]


CHANNEL = Granularity(None)
TENSOR = Granularity(None, None)
