"""Codes that stand for numbers of a table, decoded by arithmetic where they are loaded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from tilec.ir.bits import from_raw
from tilec.ir.core import Block, Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import e4m3, i32, integer
from tilec.ir.format import Dense
from tilec.ir.ops import arith, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.ops.packed import Term
from tilec.ir.types import Memory, Span
from tilec.passes import elements
from tilec.passes.parts import tile
from tilec.passes.pipeline import register
from tilec.passes.reader import Reader

MOVES = (shape.Transpose, shape.Reshape, shape.Broadcast, shape.Slice)


@register("decode-codes")
def decode_codes(func: Func, *, bytes: bool = False) -> Func:
    """Load codes as whole numbers, and make of their bits the f32 that they stand for.

    For machines that have neither these types nor tables. Before: formats are lowered to plain
    memory. After: memory from which codes are only read to be cast has whole numbers. With `bytes`
    the e4m3 of formats, whose names have a dot, are such codes too.
    """
    readers: dict[Value, list[Op | None]] = defaultdict(list)
    for op in func.walk():
        for v in op.operands:
            readers[v].append(op)
        for v in (v for b in op.blocks for v in b.results):
            readers[v].append(None)
    whole = {p: _whole(p.type, p.hint) for p in func.params
             if isinstance(p.type, Memory) and isinstance(p.type.format, Dense)
             and (p.type.dtype.kind == "code"
                  or (bytes and p.type.dtype == e4m3 and "." in p.hint))
             and all(_only_cast(op, readers) for op in readers[p])}  # fmt: skip

    def change(op: Op, to: dict[Value, Value], b: Builder) -> bool:
        if not isinstance(op, memory.Load) or op.mem not in whole:
            return False
        to[op.result] = _decoded(op, whole[op.mem], b)
        return True

    if not whole:
        return func
    body = rebuild(func.body, {}, change)
    return func.replaced(Block(tuple(whole.get(p, p) for p in func.params), body.ops))


def _only_cast(op: Op | None, readers: Mapping[Value, list[Op | None]]) -> bool:
    """Whether an op casts codes, or loads or moves them and all that reads those does the same."""
    if isinstance(op, (memory.Load, *MOVES)):
        return all(_only_cast(o, readers) for o in readers[op.result])
    return isinstance(op, Cast | Term)


def _whole(t: Memory, hint: str) -> Value:
    """The parameter with the bits of codes in the place of one with codes."""
    return Value(Memory(t.shape, Dense(integer(t.dtype.bits, signed=False))), hint)


def _decoded(op: memory.Load, mem: Value, b: Builder) -> Value:
    """What the codes of a load stand for; 0 outside of memory whatever code 0 is."""
    t = tile(op.result).dtype
    r = Reader(b, {}, (), tile(op.result).shape)
    code = r.cast(b(memory.Load(mem, op.indices, op.cache)), i32)
    out = elements.value(t, code, r, native=False)
    inside = _inside(op, b) if from_raw(t, np.zeros(1)) != 0 else None
    return out if inside is None else b(arith.Where(inside, out, r.constant(0.0)))


def _inside(op: memory.Load, b: Builder) -> Value | None:
    """Which elements of a load lie in memory, if its indices may leave that."""
    assert isinstance(op.mem.type, Memory)
    found, axis, joint, full = None, 0, -1, tile(op.result).shape
    for v, dim in zip(op.indices, op.mem.type.shape, strict=True):
        if isinstance(v.type, Span):
            axis += 1
            continue
        own = tile(v)
        if own.rank and joint < 0:
            joint, axis = axis, axis + own.rank
        here = _between(v, b(Cast(b(shape.Size(dim)), own.dtype)), b)
        if own.rank:
            ones = (1,) * (len(full) - joint - own.rank)
            here = b(shape.Reshape(here, (1,) * joint + own.shape + ones))
        here = b(shape.Broadcast(here, full))
        found = here if found is None else b(arith.And(found, here))
    return found


def _between(v: Value, end: Value, b: Builder) -> Value:
    """Where numbers are from 0 on and less than another."""
    own = tile(v)
    above = b(arith.Le(b(shape.Full(own.shape, 0, own.dtype)), v))
    return b(arith.And(above, b(arith.Lt(v, b(shape.Broadcast(end, own.shape))))))
