"""Tiles in and out of memory.

Each dimension of a memory takes one index: a span (its coordinates), a scalar (the dimension goes
away) or an index tile (gather, scatter; all index tiles of one access have one shape, which stands
where the first of them does). A coordinate outside the memory reads 0 and is not written.
"""

from __future__ import annotations

import numpy as np

from tilec.ir.core import Op, Trait, Value
from tilec.ir.dtype import Array, boolean
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops.arith import number
from tilec.ir.types import Memory, Shape, Span, Tile, Type, show_shape

Index = range | Array
HINTS = ("evict_first", "evict_last")


class Whole(Op, name="whole"):
    """out = `size` coordinates of a dimension from `start` on; all of them unless given"""

    dim: Extent
    size: Extent | None = None
    start: int | None = None

    def infer(self) -> Type:
        return Span(self.dim, self.dim if self.size is None else self.size)

    def evaluate(self, size: int) -> range:
        first = self.start or 0
        return range(first, first + size)


class Nth(Op, name="nth"):
    """out = the coordinates of one of the tiles of a dimension, by its number

    A size that is a name is that of a span around it, which has no more than `tile` coordinates; a
    number is at least that of a tile, and what is beyond the dimension lies outside of memory.
    """

    number: Value
    dim: Extent
    size: Extent
    tile: int

    def infer(self) -> Type:
        t = self.number.type
        if not isinstance(t, Tile) or t.shape or not t.dtype.is_integer:
            raise TileError(f"nth: expected a number, not {t}")
        if self.tile < 1 or (isinstance(self.size, int) and self.tile > self.size):
            raise TileError(f"nth: {self.size} coordinates, expected at least the {self.tile} "
                            "of a tile")  # fmt: skip
        return Span(self.dim, self.size)

    def evaluate(self, number: Array, dim: int, size: int) -> range:
        start = int(number) * self.tile
        if not 0 <= start < dim:
            raise TileError(f"nth: {dim} coordinates have no tile {int(number)} of {self.tile}")
        return range(start, start + size)


def accessed(op: str, mem: Value, indices: tuple[Value, ...]) -> Shape:
    """The shape of the tile that these indices pick from a memory."""
    if not isinstance(mem.type, Memory):
        raise TileError(f"{op}: expected a tensor, not {mem.type}")
    if len(indices) != len(mem.type.shape):
        raise TileError(
            f"{op}: {len(indices)} indices into the {len(mem.type.shape)} dims of {mem.type}"
        )
    shape: list[Extent] = []
    gathered: Shape | None = None
    for axis, (index, dim) in enumerate(zip(indices, mem.type.shape, strict=True)):
        t = index.type
        if isinstance(t, Span):
            if t.dim != dim:
                raise TileError(
                    f"{op}: index {axis} runs over {t.dim}, "
                    f"but dimension {axis} of {mem.type} is {dim}",
                    hint="are the indices in the order of the tensor's dims?",
                )
            shape.append(t.size)
        elif not isinstance(t, Tile) or not t.dtype.is_integer:
            raise TileError(f"{op}: index {axis} is {t}, not a span or integers")
        elif t.shape:
            if gathered is None:
                gathered = t.shape
                shape += t.shape
            elif gathered != t.shape:
                raise TileError(
                    f"{op}: index tiles of shapes {show_shape(gathered)} and {show_shape(t.shape)}"
                )
    return tuple(shape)


def hinted(op: str, cache: str | None) -> None:
    """Raise TileError for a hint to caches that there is not."""
    if cache is not None and cache not in HINTS:
        raise TileError(f"{op}: a hint to caches is {' or '.join(HINTS)}, not {cache!r}")


class Load(Op, name="load", traits=Trait.READS):
    """out[...] = mem[indices]

    `cache` is a hint to caches which lines to give up first. It has no part in the meaning.
    """

    mem: Value
    indices: tuple[Value, ...]
    cache: str | None = None

    def infer(self) -> Type:
        hinted("load", self.cache)
        shape = accessed("load", self.mem, self.indices)
        assert isinstance(self.mem.type, Memory)
        return Tile(shape, self.mem.type.dtype)

    def evaluate(self, mem: Array, *indices: Index) -> Array:
        at, inside = positions(mem.shape, indices)
        return np.where(inside, mem[at], np.zeros((), mem.dtype))


class Write(Op):
    """mem[indices] changed by value, where mask if there is one"""

    mem: Value
    indices: tuple[Value, ...]
    value: Value
    mask: Value | None = None

    def infer(self) -> tuple[Type, ...]:
        shape, name = accessed(self.name, self.mem, self.indices), self.name
        assert isinstance(self.mem.type, Memory)
        expected = Tile(shape, self.mem.type.dtype)
        if not self.mem.type.format.writable:
            raise TileError(f"{name}: {self.mem.type} is not dense; only dense tensors are written")
        if self.value.type != expected:
            raise TileError(f"{name}: the value is {self.value.type}, not {expected}")
        if self.mask is not None and self.mask.type != Tile(shape, boolean):
            raise TileError(f"{name}: the mask is {self.mask.type}, not {Tile(shape, boolean)}")
        return ()

    def evaluate(self, mem: Array, indices: tuple[Index, ...], value: Array,
                 mask: Array | None) -> None:  # fmt: skip
        at, inside = positions(mem.shape, indices)
        inside = inside if mask is None else inside & mask
        where = np.broadcast_to(inside, np.broadcast_shapes(*(a.shape for a in at)) if at else ())
        picked = tuple(np.broadcast_to(a, where.shape)[where] for a in at)
        values = np.broadcast_to(value, where.shape)[where]
        if values.size:
            flat = np.ravel_multi_index(picked, mem.shape) if at else np.zeros(1, np.int64)
            self.put(mem.flat, flat, values)

    def put(self, elements: np.flatiter[Array], at: Array, values: Array) -> None:
        """Change the elements at some places by as many values."""
        raise NotImplementedError


class Store(Write, name="store", traits=Trait.WRITES):
    """mem[indices] = value, where mask if there is one; of values at one place any"""

    def put(self, elements: np.flatiter[Array], at: Array, values: Array) -> None:
        elements[at] = values


class Accumulate(Write, name="accumulate", traits=Trait.READS | Trait.WRITES):
    """mem[indices] += value, where mask if there is one, at places that may coincide

    Each addition is exact and rounded to the memory's dtype, and none is lost: not of a tile's, not
    of those of another task of the grid. Their order is not specified.
    """

    def infer(self) -> tuple[Type, ...]:
        super().infer()
        number(self.name, self.value)
        return ()

    def put(self, elements: np.flatiter[Array], at: Array, values: Array) -> None:
        assert isinstance(self.mem.type, Memory)
        left = np.arange(values.size)
        while left.size:  # the first of those at one place, all places at once
            _, first = np.unique(at[left], return_index=True)
            now = left[first]
            sums = elements[at[now]] + values[now]
            elements[at[now]] = self.mem.type.dtype.round(sums)
            left = np.delete(left, first)


def positions(
    extents: tuple[int, ...], indices: tuple[Index, ...]
) -> tuple[tuple[Array, ...], Array]:
    """Broadcasting index arrays, one a dimension and clipped, and which of them lie inside."""
    tiles = [i for i in indices if isinstance(i, np.ndarray) and i.ndim]
    rank = sum(isinstance(i, range) for i in indices) + (tiles[0].ndim if tiles else 0)
    at: list[Array] = []
    inside = np.ones((1,) * rank, bool)
    axis, joint = 0, -1
    for index, extent in zip(indices, extents, strict=True):
        values = np.asarray(index)
        if values.ndim == 0:
            shaped = values.reshape((1,) * rank)
        elif isinstance(index, range):
            shaped = values.reshape((1,) * axis + (-1,) + (1,) * (rank - axis - 1))
            axis += 1
        else:
            if joint < 0:
                joint, axis = axis, axis + values.ndim
            tail = rank - joint - values.ndim
            shaped = values.reshape((1,) * joint + values.shape + (1,) * tail)
        inside = inside & (shaped >= 0) & (shaped < extent)
        at.append(np.clip(shaped, 0, max(extent - 1, 0)))
    return tuple(at), inside
