"""Ops that read the components of a format at the places of one tile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tilec.ir.core import Builder, Value
from tilec.ir.dtype import DType, f32, i32
from tilec.ir.ops import arith, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Shape, Span, Tile

Binary = type[arith.Binary]


@dataclass(frozen=True)
class Reader:
    """Ops for one tile: the memory of components by name, the indices, and the tile's shape."""

    b: Builder
    mems: dict[str, Value]
    spans: tuple[Value, ...]
    shape: Shape

    @cached_property
    def k(self) -> Value:
        """The coordinates along the last dimension."""
        return self.coordinates(-1)

    def coordinates(self, axis: int) -> Value:
        """The coordinates along a dimension, as i32."""
        index = self.spans[axis]
        spanned = isinstance(index.type, Span)
        return self.b(shape.Coordinates(index)) if spanned else self.cast(index, i32)

    def crossed(self, rows: Value, columns: Value) -> tuple[Value, Value]:
        """Index tiles for every row and every column."""
        return self.stretched(rows), self.spread(columns)

    def op(self, cls: Binary, a: Value, other: Value | int | float) -> Value:
        """A binary op; a number stands for a tile of it."""
        if isinstance(other, int | float):
            other = self.b(shape.Full(_tile(a).shape, other, _tile(a).dtype))
        return self.b(cls(a, other))

    def over(self, size: int) -> Value:
        """The number of the piece of so many elements that each k is in."""
        return self.op(arith.FloorDiv, self.k, size)

    def within(self, size: int) -> Value:
        """The place of each k in its piece."""
        return self.op(arith.Mod, self.k, size)

    def spread(self, v: Value) -> Value:
        """The same for every row."""
        return self.b(shape.Broadcast(v, self.shape))

    def stretched(self, v: Value) -> Value:
        """A number for each row, or one for all, as one for each element."""
        own = _tile(v).shape
        if own == self.shape:
            return v
        column = self.b(shape.Reshape(v, (*own, 1))) if own else v
        return self.b(shape.Broadcast(column, self.shape))

    def read(self, name: str, at: Value, dtype: DType = i32) -> Value:
        """The component's elements of the tile's rows, at places along the last dimension."""
        found = self.b(memory.Load(self.mems[name], (*self.spans[:-1], at)))
        return self.cast(found, dtype)

    def here(self, name: str, dtype: DType = i32) -> Value:
        """The elements of a component that has one for each of the tensor."""
        return self.cast(self.b(memory.Load(self.mems[name], self.spans)), dtype)

    def cast(self, v: Value, dtype: DType) -> Value:
        """The elements in another dtype."""
        return v if _tile(v).dtype == dtype else self.b(Cast(v, dtype))

    def at(self, i: int) -> Value:
        """One index."""
        return self.b(shape.Full((), i, i32))

    def chosen(self, bit: Value, one: Value, zero: Value) -> Value:
        """`one` where a bit is 1, else `zero`."""
        return self.b(arith.Where(self.op(arith.Eq, bit, 1), one, zero))

    def constant(self, value: float, dtype: DType = f32) -> Value:
        """A number for every element."""
        return self.b(shape.Full(self.shape, value, dtype))


def _tile(v: Value) -> Tile:
    assert isinstance(v.type, Tile)
    return v.type
