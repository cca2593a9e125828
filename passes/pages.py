"""Rows in pages that a table names: a tile within one page is a span of it, looked up once."""

from __future__ import annotations

from math import gcd

from tilec.ir.core import Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym
from tilec.ir.ops import arith, control, memory, shape
from tilec.ir.types import Span, Tile
from tilec.passes.parts import tile
from tilec.passes.pipeline import register

LEAST = 16  # rows of a page that is worth a tile


@register("pages")
def pages(func: Func) -> Func:
    """Make loads at `table[i // page]` and `i % page`, for the i of a tile that lies in one page,
    loads of a span of that page.

    Before: tile sizes are chosen. After: the table is read once a tile, and rows of a page are
    neighbours. Every element is the same.
    """
    rewriting = _Pages(func)
    return func.replaced(rebuild(func.body, {}, rewriting.change))


def sizes(func: Func) -> dict[str, int]:
    """For the sizes of spans whose coordinates are rows of pages, what tiles are to divide."""
    made = {v: op for op in func.walk() for v in op.results}
    found: dict[str, int] = {}
    for op in func.walk():
        if not isinstance(op, memory.Load):
            continue
        for index in op.indices:
            span, page = _within(index, made)
            if span is not None and isinstance(span.size, Sym) and page >= LEAST:
                found[span.size.text] = gcd(found.get(span.size.text, 0), page)
    return found


def _within(index: Value, made: dict[Value, Op]) -> tuple[Span | None, int]:
    """The span of which a tile is the coordinates modulo a number, and that number."""
    op = made.get(index)
    if not isinstance(op, arith.Mod):
        return None, 0
    places, by = made.get(op.a), made.get(op.b)
    if not isinstance(places, shape.Coordinates) or not isinstance(by, shape.Full):
        return None, 0
    assert isinstance(places.span.type, Span)
    return places.span.type, int(by.value)


class _Pages:
    """The rewriting of one function; `change` is the rule for `rebuild`."""

    def __init__(self, func: Func) -> None:
        self.made: dict[Value, Op] = {}
        self.tiles: dict[Value, int | None] = {}
        for op in func.walk():
            if isinstance(op, control.For):
                self.tiles[op.body.params[0]] = op.tile
            if isinstance(op, control.Grid):
                self.tiles.update(zip(op.body.params, op.tiles, strict=True))

    def change(self, op: Op, to: dict[Value, Value], b: Builder) -> bool:
        """Replace a load of rows of a page."""
        indices = self._indices(op, b) if isinstance(op, memory.Load) else None
        if indices is not None:
            assert isinstance(op, memory.Load)
            to[op.result] = b(memory.Load(op.mem, indices, op.cache))
            return True
        self.made.update(dict.fromkeys(op.results, op))
        return False

    def _indices(self, op: memory.Load, b: Builder) -> tuple[Value, ...] | None:
        """The page's number and a span in it, for indices that are tiles; None for others."""
        tiles = [i for i in op.indices if isinstance(i.type, Tile) and i.type.rank]
        if len(tiles) < 2 or not self._divides(tiles[-1]):
            return None
        first, last = op.indices.index(tiles[0]), op.indices.index(tiles[-1])
        between = any(isinstance(i.type, Span) for i in op.indices[first:last])
        if between or tile(tiles[-1]).rank > 1 or not all(map(self._steady, tiles[:-1])):
            return None
        inside = self._inside(tiles[-1], b)
        known = {t: self._scalar(t, b) for t in tiles[:-1]} | {tiles[-1]: inside}
        return tuple(known.get(i, i) for i in op.indices)

    def _divides(self, index: Value) -> bool:
        """Whether the tiles of a span, of which an index is the rows in a page, do so."""
        span, page = _within(index, self.made)
        op = self.made.get(index)
        if span is None or not isinstance(op, arith.Mod):
            return False
        places = self.made[op.a]
        assert isinstance(places, shape.Coordinates)
        size = self.tiles.get(places.span)
        return size is not None and page > 0 and page % size == 0

    def _inside(self, index: Value, b: Builder) -> Value:
        """The span of a page with the rows of a tile."""
        op = self.made[index]
        span, page = _within(index, self.made)
        assert span is not None
        assert isinstance(op, arith.Mod)
        places = self.made[op.a]
        assert isinstance(places, shape.Coordinates)
        size = self.tiles[places.span]
        assert size is not None
        start = b(shape.Start(places.span))
        row = b(arith.Mod(start, b(shape.Full((), page, i32))))
        number = b(arith.FloorDiv(row, b(shape.Full((), size, i32))))
        return b(memory.Nth(number, page, span.size, size))

    def _steady(self, v: Value) -> bool:
        """Whether every element of a tile is the same number, which is known without it."""
        op = self.made.get(v)
        match op:
            case shape.Broadcast() | shape.Reshape():
                return not tile(op.a).rank or self._steady(op.a)
            case arith.FloorDiv():
                places, by = self.made.get(op.a), self.made.get(op.b)
                if not isinstance(places, shape.Coordinates) or not isinstance(by, shape.Full):
                    return False
                size, page = self.tiles.get(places.span), int(by.value)
                return size is not None and page > 0 and page % size == 0
            case memory.Load():
                return all(isinstance(i.type, Tile) and (not i.type.rank or self._steady(i))
                           for i in op.indices)  # fmt: skip
            case _:
                return False

    def _scalar(self, v: Value, b: Builder) -> Value:
        """The number that every element of such a tile is."""
        op = self.made.get(v)
        match op:
            case shape.Broadcast() | shape.Reshape():
                return self._scalar(op.a, b) if tile(op.a).rank else op.a
            case arith.FloorDiv():
                places, by = self.made[op.a], self.made[op.b]
                assert isinstance(places, shape.Coordinates)
                assert isinstance(by, shape.Full)
                page = b(shape.Full((), by.value, i32))
                return b(arith.FloorDiv(b(shape.Start(places.span)), page))
            case memory.Load():
                indices = (self._scalar(i, b) if tile(i).rank else i for i in op.indices)
                return b(memory.Load(op.mem, tuple(indices), op.cache))
            case _:
                raise TileError(f"pages: no single number is known for {v.type}")
