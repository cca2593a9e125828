"""What all sparse formats have: values in a format of their own, and arrays that say where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, DType, integer
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.format import Component, Format, inside, prefixed
from tilec.ir.scaled import Parts

VALUES = "values"
STEPS = 16  # rooms are multiples of a power of two, and at least so many of them


@dataclass(frozen=True)
class Sparse(Format):
    """The base of sparse formats.

    A format with a `room` stores as many elements as there are, up to a room that is part of it, so
    that a kernel need not be compiled again for every tensor.
    """

    inner: Format

    @property
    def value(self) -> DType:
        return self.inner.value

    def stored(self, shape: tuple[Extent, ...]) -> tuple[Extent, ...]:
        """The shape of the tensor of values."""
        raise NotImplementedError

    def places(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        """The arrays that say where values are."""
        raise NotImplementedError

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        values = self.inner.components(self.stored(shape))
        return (*self.places(shape), *(Component(inside(VALUES, c.name), c.dtype, c.shape)
                                       for c in values))  # fmt: skip

    def pruned(self, x: Array, density: float) -> Array:
        """A tensor in which only so large a part of the elements is left, the largest ones."""
        count = round(density * x.size)
        kept = np.argsort(-np.abs(x), axis=None, kind="stable")[:count]
        out = np.zeros(x.size)
        out[kept] = x.reshape(-1)[kept]
        return out.reshape(x.shape)

    def inner_values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        """The values that are stored, where they are stored."""
        own = {k.removeprefix(VALUES).removeprefix("."): x for k, x in parts.items()
               if k.partition(".")[0] == VALUES}  # fmt: skip
        return self.inner.values(own, numbers(self.stored(shape)))

    def refuse(self, what: str, found: object = "") -> TileError:
        """The error for bad metadata."""
        return TileError(f"{self}: {what}{f', not {found}' if found != '' else ''}")


def encoded(format: Sparse, values: Array, how: fit.Fit) -> Parts:
    """The components of the values, rounded to the inner format."""
    return prefixed(VALUES, fit.encode(format.inner, values, how))


def matrix(format: Format, shape: tuple[Extent, ...]) -> tuple[Extent, Extent]:
    """The rows and columns of a tensor. Raises TileError if it is no matrix."""
    if len(shape) != 2:
        raise TileError(f"{format}: expected a matrix, not {len(shape)} dimensions")
    return shape[0], shape[1]


def pieces(format: Format, dim: Extent, size: int, what: str) -> Extent:
    """dim / size. Raises TileError where that is known to be no whole number."""
    if isinstance(dim, int) and dim % size:
        raise TileError(f"{format}: expected {what} in multiples of {size}, not {dim}")
    return dim // size


def numbers(shape: tuple[Extent, ...]) -> tuple[int, ...]:
    """A shape of numbers."""
    return tuple(int(str(d)) for d in shape)


def index(count: int) -> DType:
    """The least unsigned integer that tells so many places apart."""
    return integer(max(1, (count - 1).bit_length()), signed=False)


def roomy(count: int) -> int:
    """The least room for so many elements; there are few different ones."""
    unit = 1
    while -(-count // unit) > 2 * STEPS:
        unit *= 2
    return max(1, -(-count // unit)) * unit


def starts(counts: Array) -> Array:
    """Where runs of these lengths begin, and the end of the last."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def check_starts(format: Sparse, start: Array, room: int) -> None:
    """Raises TileError where runs do not lie one behind the other in the room."""
    if start[0] != 0 or (np.diff(start) < 0).any():
        raise format.refuse("expected starts that begin with 0 and never fall")
    if start[-1] > room:
        raise format.refuse(f"expected at most {room} stored", int(start[-1]))


def check_columns(format: Sparse, start: Array, column: Array, columns: int) -> None:
    """Raises TileError where columns of a run lie outside, twice or in no order."""
    used = column[: int(start[-1])]
    if used.size and not 0 <= used.min() <= used.max() < columns:
        bad = int(used[(used < 0) | (used >= columns)][0])
        raise format.refuse(f"expected columns from 0 to {columns - 1}", bad)
    rising = np.diff(used) > 0
    rising[start[1:-1][(start[1:-1] > 0) & (start[1:-1] < used.size)] - 1] = True
    if not rising.all():
        first = int(np.flatnonzero(~rising)[0])
        row = int(np.searchsorted(start, first, "right")) - 1
        raise format.refuse(f"expected columns that rise within row {row}")
