"""Loops over what is stored of an operand, in the place of loops over all of its columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilec.ir.core import Block, Builder, Op, Value
from tilec.ir.dtype import i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, divides
from tilec.ir.lanes import RUN
from tilec.ir.lanes import tall as tall_of
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.sparse import VNM, Blocks, Channels, Csr, Sparse
from tilec.ir.sparse.stored import VALUES
from tilec.ir.types import Memory, Shape, Span, Tile
from tilec.passes import stored
from tilec.passes.parts import tile
from tilec.passes.reader import Reader

STEP = 64  # elements of a row that are read together


def rows_of(format: Sparse) -> int | None:
    """Rows that a tile must have for its loop to go over what is stored; None for any."""
    match format:
        case Blocks(rows=rows) | VNM(v=rows):
            return tall_of(rows)
        case Csr():
            return 1
        case _:
            return None


@dataclass(frozen=True)
class Step:
    """One step over what is stored: what stands for the loop's span of columns and for tiles of the
    tensor, read or written, and how many columns it has."""

    columns: Value
    size: Extent
    read: Callable[[Builder, Shape], Value]
    write: Callable[[Builder, Value], Op] | None = None


Body = Callable[[Step, Builder, Value], Block]  # a loop's body: its first parameter is given


@dataclass(frozen=True)
class Skipping:
    """A loop over the columns of a sparse operand, which it reads at `rows`.

    `mems` are the operand's components; the elements of CSR are in `runs` or as its format says.
    """

    loop: control.For
    format: Sparse
    mems: dict[str, Value]
    rows: Value
    init: tuple[Value, ...]
    body: Body
    runs: bool = False

    def write(self, b: Builder) -> Op:
        """The loop over what is stored."""
        match self.format:
            case Blocks():
                return self._blocks(self.format, b)
            case Csr():
                return self._runs(b) if self.runs else self._csr(b)
            case Channels():
                return self._channels(self.format, b)
            case VNM():
                return self._vnm(self.format, b)
            case _:
                raise TileError(f"sparsify: no loop over what is stored of {self.format}")

    def _counted(self, row: Value, step: int, make: Callable[[Value, Builder], Step],
                 b: Builder) -> Op:  # fmt: skip
        """A loop over the places from start[row] to start[row + 1]."""
        one = _number(b, 1)
        first = _loaded(b, self.mems["start"], row)
        end = _loaded(b, self.mems["start"], b(arith.Add(row, one)))
        place, inner = Value(Tile((), i32)), Builder(loc=b.loc)
        made = make(place, inner) if step == 1 else self._within(place, end, make, inner)
        block = self.body(made, inner, place)
        return b.add(control.Count(first, end, _number(b, step), self.init, block))

    def _within(self, place: Value, end: Value, make: Callable[[Value, Builder], Step],
                b: Builder) -> Step:  # fmt: skip
        """A step of several places, those from `end` on being -1."""
        at = b(arith.Add(b(shape.Broadcast(place, (STEP,))), b(shape.Iota(STEP))))
        inside = b(arith.Lt(at, b(shape.Broadcast(end, (STEP,)))))
        return make(b(arith.Where(inside, at, b(shape.Full((STEP,), -1, i32)))), b)

    def _blocks(self, format: Blocks, b: Builder) -> Op:
        n, tall = self.rows.type, rows_of(format) or 1
        assert isinstance(n, Span)
        row = b(arith.FloorDiv(b(shape.Start(self.rows)), _number(b, format.rows)))

        def step(number: Value, inner: Builder) -> Step:
            column = _loaded(inner, self.mems["column"], number)
            slab = number
            if tall < format.rows:  # the tile is one of several parts of a block
                parts = _number(inner, format.rows // tall)
                start = inner(arith.FloorDiv(inner(shape.Start(self.rows)), _number(inner, tall)))
                slab = inner(arith.Add(inner(arith.Mul(number, parts)),
                                       inner(arith.Mod(start, parts))))  # fmt: skip
            values = self.mems[VALUES]
            assert isinstance(values.type, Memory)
            rows = inner(memory.Nth(slab, values.type.shape[0], n.size, tall))

            def read(here: Builder, _: Shape) -> Value:
                return here(memory.Load(values, (rows, here(memory.Whole(format.columns)))))

            def write(here: Builder, value: Value) -> Op:
                at = rows, here(memory.Whole(format.columns))
                return here.add(memory.Store(values, at, value))

            return Step(self._columns(format, column, inner), format.columns, read, write)

        return self._counted(row, 1, step, b)

    def _columns(self, format: Blocks, number: Value, b: Builder) -> Value:
        """The columns of a block: a span, unless the last one goes beyond the edge."""
        size = format.columns
        if divides(size, self.loop.dim):
            return b(memory.Nth(number, self.loop.dim, size, size))
        first = b(arith.Mul(number, _number(b, size)))
        return b(arith.Add(b(shape.Broadcast(first, (size,))), b(shape.Iota(size))))

    def _csr(self, b: Builder) -> Op:
        row = b(shape.Start(self.rows)) if isinstance(self.rows.type, Span) else self.rows

        def step(places: Value, inner: Builder) -> Step:
            found = _loaded(inner, self.mems["column"], places)
            none = inner(shape.Full((STEP,), -1, i32))
            used = inner(arith.Le(inner(shape.Full((STEP,), 0, i32)), places))
            columns = inner(arith.Where(used, found, none))

            def read(here: Builder, wanted: Shape) -> Value:
                values = here(memory.Load(self.mems[VALUES], (_number(here, 0), places)))
                return here(shape.Broadcast(values, wanted))

            def write(here: Builder, value: Value) -> Op:
                row = here(reduce.Sum(value, 0))  # of which there is one
                return here.add(memory.Store(self.mems[VALUES], (_number(here, 0), places), row))

            return Step(columns, STEP, read, write)

        return self._counted(row, STEP, step, b)

    def _runs(self, b: Builder) -> Op:
        row = b(shape.Start(self.rows)) if isinstance(self.rows.type, Span) else self.rows
        column, values = self.mems["column"], self.mems[VALUES]
        assert isinstance(column.type, Memory)
        bound = column.type.shape[0]

        def step(number: Value, inner: Builder) -> Step:
            places = inner(memory.Nth(number, bound, RUN, RUN))

            def read(here: Builder, wanted: Shape) -> Value:
                found = here(memory.Load(values, (_number(here, 0), places)))
                return here(shape.Broadcast(found, wanted))

            return Step(inner(memory.Load(column, (places,))), RUN, read)

        return self._counted(row, 1, step, b)

    def _spanned(self, dim: Extent, find: Callable[[Value, Builder], Value],
                 format: Sparse | None, b: Builder) -> Op:  # fmt: skip
        """A loop over tiles of the chosen columns, whose numbers `find` gives; they are stored as a
        matrix, of a sparse format or as they are."""
        size = self.loop.size
        span, inner = Value(Span(dim, size)), Builder(loc=b.loc)
        columns = find(span, inner)

        def read(here: Builder, wanted: Shape) -> Value:
            if format is None:
                return here(memory.Load(self.mems[VALUES], (self.rows, span)))
            return stored.elements(format, Reader(here, self.mems, (self.rows, span), wanted))

        block = self.body(Step(columns, size, read), inner, span)
        return b.add(control.For(dim, size, self.loop.tile, self.init, block))

    def _channels(self, format: Channels, b: Builder) -> Op:
        def find(span: Value, inner: Builder) -> Value:
            return inner(memory.Load(self.mems["columns"], (span,)))

        return self._spanned(format.count, find, None, b)

    def _vnm(self, format: VNM, b: Builder) -> Op:
        columns = self.mems["columns"]
        assert isinstance(columns.type, Memory)
        row = b(arith.FloorDiv(b(shape.Start(self.rows)), _number(b, format.v)))

        def find(span: Value, inner: Builder) -> Value:
            place = inner(memory.Load(columns, (row, span)))
            place = inner(Cast(place, i32))
            full = tile(place).shape
            group = inner(arith.FloorDiv(inner(shape.Coordinates(span)),
                                         inner(shape.Full(full, 4, i32))))  # fmt: skip
            first = inner(arith.Mul(group, inner(shape.Full(full, format.m, i32))))
            return inner(arith.Add(first, place))

        return self._spanned(columns.type.shape[1], find, format.chosen, b)


def _number(b: Builder, n: int) -> Value:
    return b(shape.Full((), n, i32))


def _loaded(b: Builder, mem: Value, at: Value) -> Value:
    """Numbers of a component, as i32."""
    found = b(memory.Load(mem, (at,)))
    return found if tile(found).dtype == i32 else b(Cast(found, i32))
