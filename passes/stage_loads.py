"""Loads that begin some steps before they are needed: copies to a ring in shared memory.

A step of a loop waits for its own slot of the ring, starts the copy for the slot that the step
before it has read, and works while that goes on. One wait a step is enough: it is also what says
that every thread has read the slot that is filled next.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.dtype import i32
from tilec.ir.format import Dense
from tilec.ir.ops import arith, control, machine, memory, reduce, shape
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Span
from tilec.passes.parts import tile
from tilec.passes.pipeline import register

WIDTHS = (16, 8, 4)  # bytes that one asynchronous copy moves


@register("stage-loads")
def stage_loads(func: Func, *, stages: int = 3) -> Func:
    """Put the operands of products in loops into rings of `stages` slots in shared memory.

    Before: tiles have sizes (`pad`). After: the same, with copies, and waits before their results
    are read. A loop has rings if what it loads for products moves with it.
    """
    staging = _Staging(stages)
    body = staging.block(func.body)
    return func.replaced(body, *staging.remarks)


@dataclass(frozen=True)
class _Ring:
    """A load of a loop, and where its tiles are kept."""

    load: memory.Load
    shared: Value
    axis: int  # of the memory, along which the loop goes


class _Staging:
    def __init__(self, stages: int) -> None:
        self.stages = stages
        self.to: dict[Value, Value] = {}
        self.remarks: list[Remark] = []

    def block(self, block: Block) -> Block:
        """A block whose loops over products have rings."""
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            self._op(op, b)
        return Block(block.params, tuple(b.ops), tuple(self.to.get(v, v) for v in block.results))

    def _op(self, op: Op, b: Builder) -> None:
        loads = self._staged(op) if isinstance(op, control.For) and self.stages > 1 else []
        if isinstance(op, control.For) and loads:
            self._loop(op, loads, b)
            return
        inner = {n: getattr(op, n) for n in op.fields("block")}
        new = b.add(op.rebuilt(self.to, **{n: v and self.block(v) for n, v in inner.items()}))
        self.to.update(zip(op.results, new.results, strict=True))

    def _staged(self, op: control.For) -> list[memory.Load]:
        """The loads of a loop's body that products read and that move with the loop."""
        made = {v: o for o in op.body.ops for v in o.results}
        wanted = [v for o in op.body.ops if isinstance(o, reduce.Dot) for v in (o.a, o.b)]
        found: list[memory.Load] = []
        while wanted:
            o = made.get(wanted.pop())
            if isinstance(o, memory.Load) and op.body.params[0] in o.indices and o not in found:
                problem = _obstacle(o, op)
                if problem:
                    self.remarks.append(Remark("stage-loads", f"`{o.mem.hint}` is loaded when it "
                                               "is needed", o.loc, problem))  # fmt: skip
                else:
                    found.append(o)
            elif isinstance(o, shape.Transpose) or (o and Trait.ELEMENTWISE in o.traits):
                wanted += o.operands
        return found

    def _loop(self, op: control.For, loads: list[memory.Load], b: Builder) -> None:
        assert op.tile is not None
        rings = [self._ring(x, op, b) for x in loads]
        for step in range(self.stages - 1):
            for ring in rings:
                self._first(ring, op, step, b)
            b.add(machine.Commit())
        changed = {"body": self._body(op, rings)}
        new = b.add(op.rebuilt(self.to, **changed))
        self.to.update(zip(op.results, new.results, strict=True))
        b.add(machine.Wait(0))

    def _ring(self, load: memory.Load, op: control.For, b: Builder) -> _Ring:
        sizes = tuple(int(str(d)) for d in tile(load.result).shape)
        assert isinstance(load.mem.type, Memory)
        shared = b(machine.Shared((self.stages, *sizes), load.mem.type.dtype))
        return _Ring(load, shared, load.indices.index(op.body.params[0]))

    def _first(self, ring: _Ring, op: control.For, step: int, b: Builder) -> None:
        """The copy for one of the steps that come before the loop's own copies."""
        span = op.body.params[0].type
        assert isinstance(span, Span)
        assert op.tile is not None
        here = b(memory.Whole(span.dim, span.size, step * op.tile))
        indices = tuple(here if i == ring.axis else self.to.get(v, v)
                        for i, v in enumerate(ring.load.indices))  # fmt: skip
        slot = b(shape.Full((), step, i32))
        b.add(machine.Copy(ring.shared, slot, ring.load.mem, indices, ring.axis, 0))

    def _body(self, op: control.For, rings: list[_Ring]) -> Block:
        assert op.tile is not None
        b = Builder(loc=op.loc)
        k = op.body.params[0]
        step = b(arith.FloorDiv(b(shape.Start(k)), b(shape.Full((), op.tile, i32))))
        count = b(shape.Full((), self.stages, i32))
        slot = b(arith.Mod(step, count))
        ahead = b(shape.Full((), self.stages - 1, i32))
        free = b(arith.Mod(b(arith.Add(step, ahead)), count))
        b.add(machine.Wait(self.stages - 2))
        for ring in rings:
            indices = tuple(self.to.get(v, v) for v in ring.load.indices)
            distance = (self.stages - 1) * op.tile
            b.add(machine.Copy(ring.shared, free, ring.load.mem, indices, ring.axis, distance))
        b.add(machine.Commit())
        kept = {ring.load: ring.shared for ring in rings}
        for inner in op.body.ops:
            b.loc = inner.loc
            if isinstance(inner, memory.Load) and inner in kept:
                whole = [b(memory.Whole(int(str(d)))) for d in tile(inner.result).shape]
                self.to[inner.result] = b(memory.Load(kept[inner], (slot, *whole)))
            else:
                self._op(inner, b)
        return Block(
            op.body.params, tuple(b.ops), tuple(self.to.get(v, v) for v in op.body.results)
        )


def _obstacle(load: memory.Load, loop: control.For) -> str:
    """Why a load can't be copied in pieces, or nothing."""
    assert isinstance(load.mem.type, Memory)
    t, sizes = load.mem.type, tile(load.result).shape
    if not all(isinstance(i.type, Span) for i in load.indices) or len(sizes) != len(t.shape):
        return "spans as indices"
    if not isinstance(t.format, Dense) or len(sizes) < 2:
        return "a matrix"
    if t.dtype.bits & (t.dtype.bits - 1):
        return "elements of which whole ones fill 4 bytes"
    moves = load.indices[-1] is loop.body.params[0]
    for extent in (t.shape[-1], sizes[-1], *([loop.tile] if moves else [])):
        if int(str(extent)) * t.dtype.bits % (8 * WIDTHS[-1]):
            return f"rows and steps of a multiple of {WIDTHS[-1]} bytes"
    return ""
