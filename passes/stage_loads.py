"""Loads that begin some steps before they are needed: copies to a ring in shared memory.

A step of a loop waits for its own slot of the ring, starts the copy for the slot that the step
before it has read, and works while that goes on. Where all threads copy, one wait a step is enough:
it is also what says that every thread has read the slot that is filled next. Where one thread
copies whole tiles, barriers say both (`tilec.passes.bulk`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.dtype import i32
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, control, machine, memory, packed, reduce, shape
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Span
from tilec.passes import bulk, pieces
from tilec.passes.parts import tile
from tilec.passes.pipeline import register
from tilec.passes.steady import steady

COPIES = ("pieces", "bulk")
USUAL = 3  # slots: who chooses more is told when a block has no room for them
ROOM = 195 << 10  # bytes of rings: of the 227 KB that a block may have some are for conversions


@register("stage-loads")
def stage_loads(
    func: Func, *, stages: int = USUAL, copies: str = "pieces", specialise: int = 0, kept: int = 0
) -> Func:
    """Put the operands of products in loops into rings of `stages` slots in shared memory.

    `copies`: every thread copies `pieces` of rows (cp.async), or one copies whole tiles with the
    `bulk` copy unit (from sm_90 on), where that can; `specialise` is how many warps do that and
    nothing else, ahead of the others: of 4 the registers go to the others where the target can.
    Slots stay as they are for `kept` steps after their own, in which products may go on reading
    them (`overlap`).

    Before: tiles have sizes (`pad`). After: the same, with copies, and waits before their results
    are read. A loop has rings if what it loads for products moves with it; up to the usual number
    of slots a block must have room for them, too.
    """
    if copies not in COPIES:
        raise TileError(f"stage-loads: copies is {copies!r}, expected one of {', '.join(COPIES)}")
    if specialise < 0 or (specialise and copies != "bulk"):
        raise TileError(f"stage-loads: {specialise} warps can't make copies of their own",
                        hint="copies=bulk")  # fmt: skip
    if not 0 <= kept <= max(stages - 2, 0):
        raise TileError(f"stage-loads: of {stages} slots {kept} can't be kept")
    staging = _Staging(func, stages, kept, copies == "bulk", specialise)
    body = staging.block(func.body)
    return func.replaced(body, *staging.remarks)


@dataclass(frozen=True)
class _Ring:
    """A load of a loop, and where its tiles are kept."""

    load: memory.Load
    shared: Value
    axis: int  # of the memory, along which the loop goes
    by: int  # k's of the loop for one of the memory

    def at(self, span: Value, b: Builder) -> Value:
        """The memory's coordinates for those of the loop."""
        own = self.load.indices[self.axis].type
        assert isinstance(own, Span)
        return span if self.by == 1 else b(packed.Groups(span, self.by, own.size))


@dataclass(frozen=True)
class _Loop:
    """A loop, and the rings of what it loads: copied in pieces, or whole with `turns`."""

    op: control.For
    pieces: tuple[_Ring, ...]
    whole: tuple[_Ring, ...]
    turns: bulk.Turns | None


class _Staging:
    def __init__(self, func: Func, stages: int, kept: int, whole: bool, warps: int) -> None:
        self.stages, self.kept, self.whole, self.warps = stages, kept, whole, warps
        self.ahead = stages - 1 - kept  # steps from a copy to its own
        self.everywhere = bulk.everywhere(func)
        self.written = set[Value]()  # memory that a grid writes
        self.around: list[Op] | None = None  # the regions inside a grid around an op of it
        self.task = Builder()  # of the grid's body
        self.to: dict[Value, Value] = {}
        self.remarks: list[Remark] = []

    def block(self, block: Block) -> Block:
        """A block whose loops over products have rings."""
        b = Builder()
        if not self.around:
            self.task = b
        for op in block.ops:
            b.loc = op.loc
            self._op(op, b)
        return Block(block.params, tuple(b.ops), self._new(block.results))

    def _new(self, values: Sequence[Value]) -> tuple[Value, ...]:
        return tuple(self.to.get(v, v) for v in values)

    def _op(self, op: Op, b: Builder) -> None:
        if isinstance(op, control.For) and self.around is not None and self.stages > 1:
            loads = self._staged(op)
            if loads and self._has_room(loads):
                self._loop(op, loads, b)
                return
        around = None if self.around is None else [*self.around, op]
        if isinstance(op, control.Grid):
            around = []
            self.written = {o.mem for o in op.body.walk() if isinstance(o, memory.Write)}
        b.copy(op, self.to, lambda inner: self._inside(inner, around))

    def _inside(self, block: Block, around: list[Op] | None) -> Block:
        """A block in these regions."""
        before, self.around = self.around, around
        found = self.block(block)
        self.around = before
        return found

    def _staged(self, op: control.For) -> list[memory.Load]:
        """The loads of a loop's body that products read and that move with the loop."""
        made = {v: o for o in op.body.ops for v in o.results}
        wanted = [v for o in op.body.ops if isinstance(o, reduce.Dot) for v in (o.a, o.b)]
        wanted += [v for o in op.body.ops if isinstance(o, SparseDot)
                   for v in (o.values, o.index, o.b)]  # fmt: skip
        found: list[memory.Load] = []
        while wanted:
            o = made.get(wanted.pop())
            if isinstance(o, memory.Load) and pieces.moving(o, op) and o not in found:
                problem = pieces.obstacle(o, op)
                if not problem and steady(pieces.numbers(o), op.body, self.written) is None:
                    problem = "numbers that are the same in every step"
                if o.mem in self.written:
                    problem = "memory that nothing writes meanwhile"
                if problem:
                    self._remark(o, "is loaded when it is needed", problem)
                else:
                    found.append(o)
            elif isinstance(o, shape.Transpose) or (o and Trait.ELEMENTWISE in o.traits):
                wanted += o.operands
        return found

    def _has_room(self, loads: list[memory.Load]) -> bool:
        """Whether a block has room for the rings of a loop, or more than usual are chosen."""
        needed = self.stages * sum(map(bulk.slot_bytes, loads))
        if self.stages > USUAL or needed <= ROOM:
            return True
        for load in loads:
            self._remark(load, "is loaded when it is needed",
                         f"rings of at most {ROOM} bytes: they are {needed}")  # fmt: skip
        return False

    def _remark(self, load: memory.Load, what: str, missing: str) -> None:
        self.remarks.append(Remark("stage-loads", f"`{load.mem.hint}` {what}", load.loc, missing))

    def _bulk(self, op: control.For, loads: list[memory.Load]) -> list[memory.Load]:
        """The loads whose tiles one thread copies whole."""
        if not self.whole:
            return []
        found: list[memory.Load] = []
        problem = bulk.uncounted(op, self.around or (), self.everywhere, self.warps)
        for load in loads:
            missing = problem or bulk.obstacle(load) or self._hidden(load, op)
            if missing:
                self._remark(load, "is copied in pieces", missing)
            else:
                found.append(load)
        return found

    def _hidden(self, load: memory.Load, op: control.For) -> str:
        """What of a load the warps that copy would not know, or nothing."""
        known = set(load.indices) - set(pieces.own(load, op)) <= self.everywhere
        return "" if known or not self.warps else "indices that the warps that copy know, too"

    def _loop(self, op: control.For, loads: list[memory.Load], b: Builder) -> None:
        read = {n for x in loads for n in pieces.numbers(x)}
        for number in steady(read, op.body, self.written) or ():
            b.copy(number, self.to, lambda inner: inner)
        loop = self._rings(op, loads, b)
        for step in range(self.ahead):
            if loop.turns is not None and not self.warps:
                loop.turns.before(b, step, self._fill(loop, step, 0))
            if loop.pieces:
                self._before(loop, step, b)
                b.add(machine.Commit())
        new = b.add(op.rebuilt(self.to, body=self._inside_loop(loop)))
        self.to.update(zip(op.results, new.results, strict=True))
        if loop.pieces:
            b.add(machine.Wait(0))
        if loop.turns is not None:
            loop.turns.end(b)

    def _before(self, loop: _Loop, step: int, b: Builder) -> None:
        """The copies in pieces for one of the steps that come before the loop's own copies."""
        inner = Builder(loc=b.loc)
        slot = number = bulk.nth(b, self._first(loop.op), step)
        if loop.op.first is not None:
            slot = b(arith.Mod(number, b(shape.Full((), self.stages, i32))))
        self._copy(loop.pieces, inner, slot, self._span(loop.op, step, inner), 0)
        start = b(arith.Mul(number, b(shape.Full((), loop.op.tile or 1, i32))))
        self._if(loop.op, start, inner, b)

    def _span(self, op: control.For, step: int, b: Builder) -> Value:
        """The coordinates of a step of a loop, counted from its first one."""
        span, first = op.body.params[0].type, self._first(op)
        assert isinstance(span, Span)
        assert op.tile is not None
        if first is None:
            return b(memory.Whole(span.dim, span.size, step * op.tile))
        dim, size = int(str(span.dim)), int(str(span.size))
        return b(memory.Nth(bulk.nth(b, first, step), dim, size, op.tile))

    def _first(self, op: control.For) -> Value | None:
        return op.first and self.to.get(op.first, op.first)

    def _stop(self, op: control.For) -> Value | None:
        return op.stop and self.to.get(op.stop, op.stop)

    def _if(self, op: control.For, start: Value, inner: Builder, b: Builder) -> None:
        """Copy where the loop has a step that starts there; all of memory's where that is known."""
        if op.stop is None and op.first is None:
            b.ops += inner.ops
        else:
            bulk.if_inside(b, op, self._stop(op), start, inner.ops)

    def _rings(self, op: control.For, loads: list[memory.Load], b: Builder) -> _Loop:
        """Shared memory for what a loop loads, and barriers, which count all rounds of loops."""
        whole = self._bulk(op, loads)
        self.task.loc = op.loc
        rings = {x: self._ring(x, op, bulk.swizzle(x), self.task) if x in whole
                 else self._ring(x, op, 0, b) for x in loads}  # fmt: skip
        turns = None
        if whole:
            outer = tuple(o for o in self.around or () if isinstance(o, control.For))
            first = self._first((*outer, op)[0])
            turns = bulk.Turns(op, self._stop(op), first, outer, self.stages, self.kept,
                               self.warps, sum(map(bulk.slot_bytes, whole)),
                               self.task(machine.Barriers(self.stages, False)),
                               self.task(machine.Barriers(self.stages, True)))  # fmt: skip
        apart = tuple(r for x, r in rings.items() if x not in whole)
        return _Loop(op, apart, tuple(rings[x] for x in whole), turns)

    def _ring(self, load: memory.Load, op: control.For, swizzle: int, b: Builder) -> _Ring:
        sizes = tuple(int(str(d)) for d in tile(load.result).shape)
        assert isinstance(load.mem.type, Memory)
        shared = b(machine.Shared((self.stages, *sizes), load.mem.type.dtype, swizzle))
        ((axis, by),) = pieces.moving(load, op).items()
        return _Ring(load, shared, axis, by)

    def _copy(self, rings: Sequence[_Ring], b: Builder, slot: Value, here: Value, ahead: int,
              full: Value | None = None) -> None:  # fmt: skip
        """Copy the tiles of the span `here` of the loop, moved by `ahead`."""
        for ring in rings:
            indices = tuple(ring.at(here, b) if i == ring.axis else self.to.get(v, v)
                            for i, v in enumerate(ring.load.indices))  # fmt: skip
            b.add(machine.Copy(ring.shared, slot, ring.load.mem, indices, ring.axis,
                               ahead // ring.by, full, ring.load.cache))  # fmt: skip

    def _fill(self, loop: _Loop, step: int | None, ahead: int) -> bulk.Fill:
        """The copies of whole tiles for a step, or `ahead` of the one that the loop is at."""
        assert loop.turns is not None
        full = loop.turns.full

        def fill(b: Builder, slot: Value) -> None:
            here = loop.op.body.params[0] if step is None else self._span(loop.op, step, b)
            self._copy(loop.whole, b, slot, here, ahead, full)

        return fill

    def _inside_loop(self, loop: _Loop) -> Block:
        """The loop's body, which reads slots."""
        op, b = loop.op, Builder(loc=loop.op.loc)
        assert op.tile is not None
        slots = dict[Value, Value]()
        if loop.pieces:
            slots |= dict.fromkeys((r.shared for r in loop.pieces), self._next(loop, b))
        if loop.turns is None:
            self._read(loop, slots, b)
        else:
            turn = loop.turns.number(b)
            slot = self._turn(loop, loop.turns, turn, b)
            self._read(loop, slots | dict.fromkeys((r.shared for r in loop.whole), slot), b)
            loop.turns.read(b, turn, slot)
        return Block(op.body.params, tuple(b.ops), self._new(op.body.results))

    def _next(self, loop: _Loop, b: Builder) -> Value:
        """Wait for a step's slot, and start the copies in pieces for one that is free."""
        k, distance = loop.op.body.params[0], self.ahead * (loop.op.tile or 1)
        step = b(arith.FloorDiv(b(shape.Start(k)), b(shape.Full((), loop.op.tile or 1, i32))))
        count = b(shape.Full((), self.stages, i32))
        slot = b(arith.Mod(step, count))
        ahead = b(shape.Full((), self.ahead, i32))
        free = b(arith.Mod(b(arith.Add(step, ahead)), count))
        b.add(machine.Wait(self.ahead - 1))
        inner = Builder(loc=b.loc)
        self._copy(loop.pieces, inner, free, k, distance)
        there = b(arith.Add(b(shape.Start(k)), b(shape.Full((), distance, i32))))
        self._if(loop.op, there, inner, b)
        b.add(machine.Commit())
        return slot

    def _turn(self, loop: _Loop, turns: bulk.Turns, turn: Value, b: Builder) -> Value:
        """See that slots are filled with whole tiles, and wait for that of this turn."""
        slot, distance = turns.slot(b, turn), self.ahead * (loop.op.tile or 1)
        if self.warps:
            turns.apart(b, turn, self._fill(loop, None, 0))
        else:
            turns.following(b, turn, self._fill(loop, None, distance))
        turns.wait(b, turn, slot)
        return slot

    def _read(self, loop: _Loop, slots: dict[Value, Value], b: Builder) -> None:
        """The ops of the loop's body, with loads from slots."""
        kept = {r.load: r.shared for r in (*loop.pieces, *loop.whole)}
        outside = self.around
        self.around = [*(outside or ()), loop.op]
        for op in loop.op.body.ops:
            b.loc = op.loc
            if isinstance(op, memory.Load) and op in kept:
                whole = [b(memory.Whole(int(str(d)))) for d in tile(op.result).shape]
                ring = kept[op]
                self.to[op.result] = b(memory.Load(ring, (slots[ring], *whole)))
            else:
                self._op(op, b)
        self.around = outside
