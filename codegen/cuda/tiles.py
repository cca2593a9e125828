"""What each value is while a kernel is printed: registers, a scalar, or an expression."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tilec.codegen.cuda import pointwise
from tilec.codegen.cuda.orders import Orders
from tilec.codegen.cuda.printer import Printer, narrowed, plus, times
from tilec.ir.core import Op, Value
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.laid import Layouts, by_element, seen
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops import shape
from tilec.ir.types import Memory, Shape, Span, Tile


@dataclass(frozen=True)
class Place:
    """A span: the text of its first coordinate, and what that is a multiple of."""

    start: str
    multiple: int
    exact: bool  # whether all its coordinates are in the dimension

    def grouped(self, by: int) -> Place:
        """The groups of so many of its coordinates."""
        start = self.start if self.start == "0" else f"({self.start}) / {by}"
        return Place(start, max(self.multiple // by, 1), self.exact and self.multiple % by == 0)


@dataclass
class Values:
    """The values of one kernel; `layouts` says which are held in registers."""

    p: Printer
    layouts: Layouts
    orders: Orders
    names: dict[Value, str] = field(default_factory=dict[Value, str])
    spans: dict[Value, Place] = field(default_factory=dict[Value, Place])
    made: dict[Value, Op] = field(default_factory=dict[Value, Op])
    rings: dict[Value, Any] = field(default_factory=dict[Value, Any])  # codegen.cuda.ring.Ring
    late: dict[str, str] = field(default_factory=dict[str, str])  # loads left to products
    own: set[Value] = field(default_factory=set[Value])  # what loops carry and read in one place
    in_place: bool = False  # whether products read rings in place
    group: str = ""  # the number of a thread's warp group, where it was asked for

    def declare(self, v: Value, hint: str) -> str:
        """Registers for a value, or a variable for a scalar."""
        t = tile(v)
        name = self.names[v] = self.p.fresh(hint)
        if v in self.layouts:
            self.p.line(f"Share<{pointwise.cpp_type(t.dtype)}, {self.layouts[v].locals}> {name};")
        return name

    def tiled(self, v: Value, start: str, tiles: int) -> None:
        """A span for one of the tiles of so many coordinates of its dimension."""
        t = v.type
        assert isinstance(t, Span)
        exact = t.size == tiles and isinstance(t.dim, int) and t.dim % tiles == 0
        self.spans[v] = Place(start, tiles, exact)

    def scalar(self, v: Value) -> str:
        """A tile of rank 0."""
        return self.names.get(v) or self._expression(v, None, "0")

    def coordinate(self, v: Value) -> str:
        """A number as the index of one element, and no text that C++ may read as a type."""
        op = self.made.get(v)
        return self.spans[op.span].start if isinstance(op, shape.Start) else (
            f"u32(({self.scalar(v)}))")  # fmt: skip

    def matrix(self, mem: Value, numbers: tuple[Value, ...]) -> tuple[str, list[str]]:
        """Which of the matrices in a memory the indices before its last two axes mean, and what
        says that there is one."""
        number, bounds = "0", list[str]()
        for index, dim in zip(numbers, extents(mem) if numbers else (), strict=False):
            text = self.coordinate(index)
            number = plus(times(f"({number})" if "+" in number else number, dim), text)
            bounds.append(f"{text} < {dim}")
        return number, bounds

    def item(self, v: Value, layout: RegisterLayout, i: str) -> str:
        """Element `i` of this thread, in a layout in which the value can be read."""
        t = tile(v)
        if not t.shape:
            return self.scalar(v)
        held = self.layouts.get(v)
        if held is not None:
            if held != layout:
                raise TileError(f"cuda: a {t} is held as {held}, but wanted as {layout}")
            return f"{self.names[v]}[{i}]"
        return self._expression(v, layout, i)

    def unmoved(self, v: Value, layout: RegisterLayout) -> Value | None:
        """The value whose registers hold what `v` is in a layout, element for element."""
        op = self.made.get(v)
        if v in self.layouts:
            return v if self.layouts[v] == layout else None
        if isinstance(op, shape.Transpose | shape.Reshape):
            return self.unmoved(op.operands[0], seen(op, layout))
        return None

    def _expression(self, v: Value, layout: RegisterLayout | None, i: str) -> str:
        op = self.made.get(v)
        match op:
            case shape.Full():
                return pointwise.literal(op.value, op.dtype)
            case shape.Iota() if layout is not None:
                return f"s32({self.p.coordinate(layout, 0, i)})"
            case shape.Coordinates() if layout is not None:
                start = self.spans[op.span].start
                return f"s32({plus(start, self.p.coordinate(layout, 0, i))})"
            case shape.Start():
                return f"s32({self.spans[op.span].start})"
            case shape.Size():
                return f"s32({self.p.extent(op.dim)})"
            case shape.Broadcast() | shape.Transpose() | shape.Reshape():
                return self._view(op, layout, i)
            case _ if op is not None and by_element(op):
                parts = [self.scalar(x) if layout is None else self.item(x, layout, i)
                         for x in op.operands]  # fmt: skip
                return pointwise.rounded(op, pointwise.emit(op, parts))
            case _:
                raise TileError(f"cuda: no code for {op.name if op else 'a value'} here")

    def _view(self, op: Op, layout: RegisterLayout | None, i: str) -> str:
        source = op.operands[0]
        if layout is None or not tile(source).shape:
            return self.scalar(source)
        inner = seen(op, layout)
        if isinstance(op, shape.Broadcast):
            skip = layout.rank - inner.rank
            kept = [a for a in range(layout.rank)
                    if a >= skip and inner.shape[a - skip] == layout.shape[a]]  # fmt: skip
            i = narrowed(layout.local_digits, kept, i)
        return self.item(source, inner, i)


def tile(v: Value) -> Tile:
    """The type of a value that is a tile."""
    assert isinstance(v.type, Tile)
    return v.type


def memory_type(v: Value) -> Memory:
    """The type of a value that is memory."""
    assert isinstance(v.type, Memory)
    return v.type


def extents(v: Value) -> tuple[int, ...]:
    """The extents of memory, which are numbers."""
    known = tuple(d for d in dims(v) if isinstance(d, int))
    if len(known) != len(dims(v)):
        raise TileError(f"cuda: {v.type} is not memory of known extents")
    return known


def dims(v: Value) -> Shape:
    """The extents of dense memory."""
    t = memory_type(v)
    if not isinstance(t.format, Dense):
        raise TileError(f"cuda: {t} is not dense memory")
    return t.shape


def span(v: Value) -> Span | None:
    """The type of a value that is a span."""
    return v.type if isinstance(v.type, Span) else None


def storage(t: DType) -> int:
    """Bits of an element in memory."""
    return 8 if t.kind == "bool" else t.bits
