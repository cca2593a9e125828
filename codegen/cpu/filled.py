"""Any tile of a stream of values and bits, in memory: where it is more than a product's operand."""

from __future__ import annotations

from collections.abc import Callable

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.lanes import Expanding, Stored, known_step
from tilec.codegen.cpu.llvm import Number, V
from tilec.codegen.cpu.sparse_codes import SparseCodes
from tilec.codegen.cpu.stream import Round
from tilec.codegen.cpu.tiles import Coordinates, Index, Lazy, Tensor, Writer
from tilec.ir.masked import UNIT, Masked
from tilec.ir.stream import COLUMNS
from tilec.ir.types import Tile


def filled(w: Writer, tensors: tuple[Tensor, Tensor], at: tuple[Coordinates, Coordinates],
           t: Tile) -> Lazy:  # fmt: skip
    """Any tile of a stream: the steps that it lies in are expanded, one after the other."""
    (values, places), (rows, columns) = tensors, at
    f, order = w.f, values.records
    assert isinstance(order, Masked)
    buffer, size = w.buffer(t), max(2, order.size)
    room = f.pointer(w.base, w.scratch.take(order.depth * COLUMNS * size))

    def one(block: V, step: V) -> None:
        rest = f.plus(order.k, f.times(f.times(step, order.depth), -1))
        panel = known_step(w, values, places, (block, step), f.least(order.depth, rest))
        _expand(w, panel, room)
        _within(f.number(block), COLUMNS, rows, w,
                lambda r, row: _within(f.number(step), order.depth, columns, w,
                                       lambda c, k: put((row, k), r, c)))  # fmt: skip

    def put(to: Index, row: Number, column: Number) -> None:
        line, half = f.divided(column, 4 // size)
        place = w.address(room, (line, row, half), (4 * COLUMNS, 4, 2))
        if order.coded:
            v = numbers.from_bits(f, t.dtype, f.convert("zext", f.load("i16", 1, place), "i32"))
        else:
            v = numbers.load(f, t.dtype, place, 1)
        w.write(buffer, t.dtype, to, v)

    _over(
        w,
        rows,
        COLUMNS,
        lambda block: _over(w, columns, order.depth, lambda step: one(block, step)),
    )
    return w.read(buffer, t.dtype, w.shape(t))


def _over(w: Writer, span: Coordinates, size: int, body: Callable[[V], None]) -> None:
    """body(i) for the pieces of so many coordinates that a span has some of."""
    end = w.f.plus(w.f.plus(span.start, span.size), size - 1)
    w.f.loop(w.f.divided(span.start, size)[0], w.f.divided(end, size)[0], 1, body)


def _within(piece: V, size: int, span: Coordinates, w: Writer,
            body: Callable[[Number, Number], None]) -> None:  # fmt: skip
    """body(place in the piece, place in the span) for the coordinates of both."""
    f, first = w.f, w.f.number(w.f.times(piece, size))
    low = f.intrinsic("smax", first, f.number(span.start))
    high = f.least(f.plus(first, size), f.plus(span.start, span.size))
    f.loop(low, high, 1, lambda i: body(f.plus(i, f.times(first, -1)),
                                        f.plus(i, f.times(span.start, -1))))  # fmt: skip


def _expand(w: Writer, panel: Stored, room: V) -> None:
    """A step as it is stored, with its zeros: pairs or columns of 64 rows."""
    assert isinstance(panel.order, Masked)
    decoder, f = (SparseCodes if panel.order.coded else Expanding)(w, panel, 0), w.f
    columns = range(0, COLUMNS, w.lanes)
    lines = 2 if decoder.size == 4 else 1

    def unit(of: Round, c: list[V]) -> list[V]:
        for t in range(UNIT // 2):
            for first in columns:
                for half, v in enumerate(decoder.stored(of, first, t)):
                    line = f.plus(f.times(of.number, UNIT // 2 * lines), lines * t + half)
                    f.store(v, w.address(room, (line, first), (4 * COLUMNS, 4)))
        return c

    decoder.loop([], unit, columns)
