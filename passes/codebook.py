"""Elements of learnt codebooks: entries of tables at the places that codes say."""

from __future__ import annotations

from tilec.ir.codebook import Codebook
from tilec.ir.core import Value
from tilec.ir.dtype import f32, i32
from tilec.ir.extent import ceil_div
from tilec.ir.grid import Grid
from tilec.ir.ops import arith, memory, shape
from tilec.ir.types import Span
from tilec.passes.reader import Reader


def decoded(format: Codebook, r: Reader) -> Value:
    """table[block][code] * scale, the scale only if there is one."""
    place = entry(format, r)
    if format.tables.rows is not None:
        place = r.op(arith.Add, place, _first(format, r))
    out = r.cast(r.b(memory.Load(r.mems["table"], (place,))), f32)
    if format.block is None:
        return out
    if format.block.columns is not None:
        return r.op(arith.Mul, out, r.read("scale", r.over(format.block.columns), f32))
    scale = r.b(memory.Load(r.mems["scale"], r.spans[:-1]))
    return r.op(arith.Mul, out, r.stretched(r.cast(scale, f32)))


def entry(format: Codebook | Grid, r: Reader) -> Value:
    """The place of each element in its table: of its code's entry, and there its own."""
    pieces = r.spans[-1] if format.length == 1 else r.over(format.length)
    code = r.read("codes", pieces)
    if format.width > 8:
        code = r.op(arith.Or, code, r.op(arith.Shl, r.read("high", pieces), 8))
    if format.length == 1:
        return code
    first = r.op(arith.Mul, code, format.length)
    return r.op(arith.Add, first, r.spread(r.within(format.length)))


def _first(format: Codebook, r: Reader) -> Value:
    """Where the table of each element begins: tables are in the order of their blocks."""
    rows, columns = format.tables.rows, format.tables.columns
    last = len(r.spans) - 1
    stride, total = format.entries * format.length, None
    for axis in range(last, -1, -1):
        size = columns if axis == last else rows if axis == last - 1 else 1
        if size is None:
            continue
        span = r.spans[axis]
        assert isinstance(span.type, Span)
        block = r.op(arith.FloorDiv, r.b(shape.Coordinates(span)), size)
        own = tuple(d if i == axis else 1 for i, d in enumerate(r.shape))
        part = r.b(shape.Reshape(r.op(arith.Mul, block, stride), own))
        total = r.spread(part) if total is None else r.op(arith.Add, total, r.spread(part))
        stride *= int(str(ceil_div(span.type.dim, size)))
    return r.constant(0, i32) if total is None else total
