"""Tiles from nothing, and tiles in another shape."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tilec.ir.core import Op, Value
from tilec.ir.dtype import Array, DType, i32, u32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops.arith import tile
from tilec.ir.types import Shape, Span, Tile, Type


class Full(Op, name="full"):
    """out[...] = value"""

    shape: Shape
    value: float | int | bool
    dtype: DType

    def infer(self) -> Type:
        if self.dtype.is_integer and not self.dtype.low <= self.value <= self.dtype.high:
            raise TileError(f"full: {self.value} is out of the range of {self.dtype}")
        return Tile(self.shape, self.dtype)

    def evaluate(self, shape: tuple[int, ...]) -> Array:
        return np.full(shape, self.value, self.dtype.carrier)


class Iota(Op, name="iota"):
    """out[i] = i"""

    size: Extent

    def infer(self) -> Type:
        return Tile((self.size,), i32)

    def evaluate(self, shape: tuple[int, ...]) -> Array:
        return np.arange(shape[0])


class Coordinates(Op, name="coordinates"):
    """out[i] = the i-th coordinate of the span"""

    span: Value

    def infer(self) -> Type:
        if not isinstance(self.span.type, Span):
            raise TileError(f"coordinates: expected a span, not {self.span.type}")
        return Tile((self.span.type.size,), i32)

    def evaluate(self, span: range) -> Array:
        return np.asarray(span)


class Start(Op, name="start"):
    """out = the first coordinate of the span"""

    span: Value

    def infer(self) -> Type:
        if not isinstance(self.span.type, Span):
            raise TileError(f"start: expected a span, not {self.span.type}")
        return Tile((), i32)

    def evaluate(self, span: range) -> Array:
        return np.asarray(span.start)


class Size(Op, name="size"):
    """out = the extent of a dimension, as a number"""

    dim: Extent

    def infer(self) -> Type:
        return Tile((), i32)

    def evaluate(self, dim: int) -> Array:
        return np.asarray(dim)


class Broadcast(Op, name="broadcast"):
    """out[..., i, ...] = a[..., 0 if a's extent is 1 else i, ...], with leading dims added"""

    a: Value
    shape: Shape

    def infer(self) -> Type:
        a = tile("broadcast", self.a)
        tail = self.shape[len(self.shape) - a.rank :]
        if a.rank > len(self.shape) or any(
            d not in (1, s) for d, s in zip(a.shape, tail, strict=True)
        ):
            raise TileError(f"broadcast: {a} does not stretch to {list(map(str, self.shape))}")
        return Tile(self.shape, a.dtype)

    def evaluate(self, a: Array, shape: tuple[int, ...]) -> Array:
        return np.broadcast_to(a, shape)


class Reshape(Op, name="reshape"):
    """out = a's elements in row-major order in another shape"""

    a: Value
    shape: Shape

    def infer(self) -> Type:
        a = tile("reshape", self.a)
        if _product(a.shape) != _product(self.shape):
            raise TileError(
                f"reshape: {a} has not as many elements as {list(map(str, self.shape))}"
            )
        return Tile(self.shape, a.dtype)

    def evaluate(self, a: Array, shape: tuple[int, ...]) -> Array:
        return a.reshape(shape)


def _product(shape: Shape) -> Extent:
    n: Extent = 1
    for d in shape:
        n = d * n
    return n


class Transpose(Op, name="transpose"):
    """out[i_order[0], i_order[1], ...] = a[i_0, i_1, ...]"""

    a: Value
    order: tuple[int, ...]

    def infer(self) -> Type:
        a = tile("transpose", self.a)
        if sorted(self.order) != list(range(a.rank)):
            raise TileError(f"transpose: {self.order} does not permute the {a.rank} dims of {a}")
        return Tile(tuple(a.shape[i] for i in self.order), a.dtype)

    def evaluate(self, a: Array) -> Array:
        return a.transpose(self.order)


class Slice(Op, name="slice"):
    """out[i] = a[start + i] along one axis, for bounds within it"""

    a: Value
    axis: int
    start: Extent
    stop: Extent

    def infer(self) -> Type:
        a = tile("slice", self.a)
        if not 0 <= self.axis < a.rank:
            raise TileError(f"slice: {a} has no axis {self.axis}")
        size = a.shape[self.axis]
        bounds = (0, self.start, self.stop, size)
        for low, high in pairwise(bounds):
            if isinstance(low, int) and isinstance(high, int) and low > high:
                raise TileError(f"slice: {self.start}:{self.stop} is not within 0:{size}")
        return Tile(
            (*a.shape[: self.axis], self.stop - self.start, *a.shape[self.axis + 1 :]), a.dtype
        )

    def evaluate(self, a: Array, start: int, stop: int) -> Array:
        return np.take(a, range(start, stop), self.axis)


class Join(Op, name="join"):
    """out = the tiles one after the other along an axis"""

    parts: tuple[Value, ...]
    axis: int

    def infer(self) -> Type:
        types = [tile("join", p) for p in self.parts]
        if not types or not 0 <= self.axis < types[0].rank:
            raise TileError(
                f"join: no axis {self.axis} in {', '.join(map(str, types)) or 'no tiles'}"
            )
        total: Extent = 0
        for t in types:
            rest = (*t.shape[: self.axis], *t.shape[self.axis + 1 :])
            own = (*types[0].shape[: self.axis], *types[0].shape[self.axis + 1 :])
            if rest != own or t.dtype != types[0].dtype:
                raise TileError(f"join: {t} does not fit {types[0]} along axis {self.axis}")
            total = total + t.shape[self.axis]
        first = types[0]
        return Tile((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :]), first.dtype)

    def evaluate(self, *parts: Array) -> Array:
        return np.concatenate(parts, self.axis)


class RandomBits(Op, name="random_bits"):
    """out[...] = word 0 of Philox4x32-10(counter = (offset[...], 0, 0, 0), key = (seed, 0))

    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
    """

    seed: Value
    offset: Value

    def infer(self) -> Type:
        seed, offset = tile("random_bits", self.seed), tile("random_bits", self.offset)
        if seed != Tile((), u32) or offset.dtype != u32:
            raise TileError(
                f"random_bits: expected a u32 seed and u32 offsets, not {seed} and {offset}"
            )
        return offset

    def evaluate(self, seed: Array, offset: Array) -> Array:
        mask, zero = np.uint64(0xFFFFFFFF), np.zeros(offset.shape, np.uint64)
        c = [offset.astype(np.uint64), zero, zero, zero]
        k0, k1 = int(seed), 0
        for _ in range(10):
            p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
            high0, high1 = p0 >> np.uint64(32), p1 >> np.uint64(32)
            c = [high1 ^ c[1] ^ np.uint64(k0), p1 & mask, high0 ^ c[3] ^ np.uint64(k1), p0 & mask]
            k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
        return c[0].astype(np.int64)
