"""Results of products handed over before they are stored, so that a thread has neighbours of a row.

A matrix instruction leaves a thread two neighbours: 4 or 8 bytes. Through shared memory it gets as
many as a store of 16 bytes takes.
"""

from __future__ import annotations

from math import gcd

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.laid import WIDEST, coalesced, sizes_of
from tilec.ir.layout.register import RegisterLayout
from tilec.ir.ops import control, machine, memory, reduce, shape
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.types import Memory, Span
from tilec.passes.parts import tile
from tilec.passes.pipeline import register


@register("coalesce-stores")
def coalesce_stores(func: Func, *, threads: int = 128) -> Func:
    """Give what is computed of products the layout of a wide store before it is stored.

    Before: tiles have sizes (`pad`). After: the same, for `lay-out` to choose all other layouts.
    """
    made = {v: op for op in func.walk() for v in op.results}
    return func.replaced(_block(func.body, {}, _Products(made), threads))


class _Products:
    """Which values are computed of products, element by element."""

    def __init__(self, made: dict[Value, Op]) -> None:
        self.made = made
        self.known: dict[Value, bool] = {}

    def __call__(self, v: Value) -> bool:
        if v not in self.known:
            op = self.made.get(v)
            self.known[v] = isinstance(op, reduce.Dot | SparseDot) or self._of(v, op)
        return self.known[v]

    def _of(self, v: Value, op: Op | None) -> bool:
        if isinstance(op, control.For | control.Count):
            return self(op.body.results[op.results.index(v)])
        if isinstance(op, shape.Transpose):
            return self(op.a)
        return op is not None and Trait.ELEMENTWISE in op.traits and any(map(self, op.operands))


def _block(block: Block, to: dict[Value, Value], product: _Products, threads: int) -> Block:
    b = Builder()
    for op in block.ops:
        b.loc = op.loc
        changed: dict[str, Value] = {}
        if isinstance(op, memory.Store) and product(op.value) and _in_rows(op):
            changed["value"] = b(machine.Convert(to.get(op.value, op.value), _rows(op, threads)))
        b.copy(op, to, lambda inner: _block(inner, to, product, threads), **changed)
    return Block(block.params, tuple(b.ops), tuple(to.get(v, v) for v in block.results))


def _in_rows(op: memory.Store) -> bool:
    """Whether the last axis of what is stored goes along rows of memory."""
    return tile(op.value).rank > 0 and isinstance(op.indices[-1].type, Span)


def _rows(op: memory.Store, threads: int) -> RegisterLayout:
    """Neighbours of a row in a thread: as many as rows of memory are cut into without a rest."""
    assert isinstance(op.mem.type, Memory)
    t, width = tile(op.value), op.mem.type.shape[-1]
    most = WIDEST // max(t.dtype.bits, 8)
    each = gcd(width, most) if isinstance(width, int) else 1
    return coalesced(sizes_of(t), WIDEST // each, threads)
