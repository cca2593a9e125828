"""Codes in planes: put together bit by bit, and decoded as the scaled format decodes them."""

from __future__ import annotations

from tilec.ir.core import Value
from tilec.ir.dtype import f32, integer
from tilec.ir.format import Dense
from tilec.ir.granularity import Granularity
from tilec.ir.ops import arith, memory, shape
from tilec.ir.planes import Planes, name
from tilec.ir.scaled import ADDED
from tilec.ir.types import Memory
from tilec.passes import elements
from tilec.passes.reader import Reader


def memories(format: Planes, p: Value) -> dict[str, Value]:
    """The parameters that stand for a tensor: its planes, and the tensors of its scales and zeros,
    which have formats of their own."""
    assert isinstance(p.type, Memory)
    found = {name(i): Memory(p.type.shape, Dense(integer(w, signed=False)))
             for i, w in enumerate(format.widths)}  # fmt: skip
    blocks = format.scaled.block.shape(p.type.shape)
    found |= {n: Memory(blocks, number) for n, number in format.scaled.numbers().items()}
    return {n: Value(t, f"{p.hint}.{n}") for n, t in found.items()}


def decoded(format: Planes, r: Reader) -> Value:
    """(code - zero) * scale as the scaled format says it, each step rounded to f32."""
    inner = format.scaled
    out = elements.value(inner.codes, joined(format, r), r)
    zero = None if inner.zeros is None else _number("zero", inner.block, r)
    if inner.centre:
        out = r.op(arith.Sub, out, float(inner.centre))
    if zero is not None and inner.zero not in ADDED:
        out = r.op(arith.Sub, out, zero)
    out = r.op(arith.Mul, out, _number("scale", inner.block, r))
    return r.op(arith.Add, out, zero) if zero is not None and inner.zero in ADDED else out


def joined(format: Planes, r: Reader) -> Value:
    """The bits of codes, in an i32."""
    out = r.here(name(0))
    for i, low in enumerate(format.lows[1:], 1):
        out = r.op(arith.Or, out, r.op(arith.Shl, r.here(name(i)), low))
    return out


def _number(which: str, block: Granularity, r: Reader) -> Value:
    """The scale (or zero) of the block that each element is in."""
    found = r.b(memory.Load(r.mems[which], _blocks(block, r)))
    return r.stretched(r.cast(found, f32))


def _blocks(block: Granularity, r: Reader) -> tuple[Value, ...]:
    """The indices of the elements' blocks."""
    if block.rows is None:
        return ()
    rows = r.spans[:-1]
    if block.rows == 1:
        return rows if block.columns is None else (*rows, r.over(block.columns))
    row = r.op(arith.FloorDiv, r.b(shape.Coordinates(rows[-1])), block.rows)
    if block.columns is None:
        return (*rows[:-1], row)
    tail = r.shape[-2:]  # two index tiles have one shape
    column = r.b(shape.Broadcast(r.over(block.columns), tail))
    row = r.b(shape.Broadcast(r.b(shape.Reshape(row, (tail[0], 1))), tail))
    return (*rows[:-1], row, column)
