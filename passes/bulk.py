"""Copies of whole tiles that one thread starts, and the barriers by which the others wait for them.

A loop has two barriers a slot of its rings: `full` ends a phase when the copies into the slot have
come, `empty` when every thread has read them. The t-th turn of the loop, counted over all rounds of
the loops around it, uses slot t % stages, and ends phase t / stages of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.dtype import i32
from tilec.ir.extent import ceil_div
from tilec.ir.ops import arith, control, machine, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Memory, Span, Tile
from tilec.passes.parts import tile

SWIZZLES = (128, 64, 32)  # bytes
LINE = 16  # bytes: what rows in memory and in shared memory are a multiple of
BOX, RANK = 256, 5  # elements along an axis, and axes, of what one copy moves
PLAIN = (memory.Load, memory.Whole, memory.Nth, shape.Full, shape.Start, shape.Size)
Fill = Callable[[Builder, Value], None]  # write the copies that count on barriers


def swizzle(load: memory.Load) -> int:
    """The bytes of the swizzle of a ring for a load; 0 for rows of 16 bytes, and where there is
    none."""
    sizes, row = _sizes(load), _row_bytes(load)
    fits = [n for n in SWIZZLES if row % n == 0 and prod(sizes[:-1]) % 8 == 0]
    return fits[0] if fits else 0


def slot_bytes(load: memory.Load) -> int:
    """What the copy of one slot counts on its barrier."""
    return prod(_sizes(load)[:-1]) * _row_bytes(load)


def obstacle(load: memory.Load) -> str:
    """Why the bulk copy unit can't copy the tiles of a load, or nothing (CUDA driver API,
    cuTensorMapEncodeTiled)."""
    t, sizes, row = load.mem.type, _sizes(load), _row_bytes(load)
    assert isinstance(t, Memory)
    known = [d for d in t.shape[1:] if isinstance(d, int)]
    if any(isinstance(i.type, Tile) and i.type.shape for i in load.indices):
        return "rows one after the other"
    if len(known) < len(t.shape) - 1:
        return "extents that are numbers, but for the first"
    if known[-1] * t.dtype.bits % (8 * LINE):
        return f"rows of a multiple of {LINE} bytes"
    if len(t.shape) > RANK or max(sizes[:-1]) > BOX:
        return f"at most {RANK} axes of at most {BOX} elements in a tile"
    if row != LINE and not swizzle(load):
        return f"tiles of 8 rows of {LINE} bytes, or of a multiple of {SWIZZLES[-1]}"
    return ""


def uncounted(loop: control.For, around: Sequence[Op], everywhere: Set[Value], warps: int) -> str:
    """Why the turns of a loop can't be counted by those that wait for its copies, or nothing."""
    outer, *inner = *around, loop
    if not isinstance(outer, control.For) or not all(map(_fixed, inner)):
        return "as many steps in every round of the loops around"
    ends = {v for v in (outer.stop, outer.first) if v is not None}
    if warps and not ends <= everywhere:
        return "ends that the warps that copy know, too"
    return ""


def _fixed(op: Op) -> bool:
    """Whether an op is a loop with as many steps whenever a block comes to it."""
    return isinstance(op, control.For) and isinstance(op.dim, int) and not (op.stop or op.first)


def everywhere(func: Func) -> Set[Value]:
    """The numbers and spans that any thread can find by itself: made of parameters and of where it
    is in loops over tiles, and of memory that the function does not write."""
    written = {op.mem for op in func.walk() if isinstance(op, memory.Write)}
    known = set(func.params)
    for op in func.walk():
        known.update(v for b in op.blocks for v in b.params if isinstance(v.type, Span))
        plain = Trait.ELEMENTWISE in op.traits or isinstance(op, PLAIN)
        stale = isinstance(op, memory.Load) and op.mem in written
        if plain and not stale and known.issuperset(op.operands):
            known.update(v for v in op.results if not isinstance(v.type, Tile) or not v.type.shape)
    return known


@dataclass(frozen=True)
class Turns:
    """The turns of one loop, which ends at `stop`, and the barriers of its slots.

    `first` is the number of the first tile of the outermost loop, all others begin at 0. A slot is
    read for `kept` more turns after its own.
    """

    loop: control.For
    stop: Value | None
    first: Value | None
    around: tuple[control.For, ...]
    stages: int
    kept: int
    warps: int
    bytes: int
    full: Value
    empty: Value

    def step(self, b: Builder) -> Value:
        """The number of the step in its round of the loop."""
        return _index(b, self.loop, None if self.around else self.first)

    def number(self, b: Builder) -> Value:
        """The number of the turn, in the loop."""
        return _plus(b, self._before(b), self.step(b))

    def slot(self, b: Builder, turn: Value) -> Value:
        """The slot that a turn uses."""
        return b(arith.Mod(turn, _number(b, self.stages)))

    def wait(self, b: Builder, turn: Value, slot: Value) -> None:
        """Wait for the copies of a turn."""
        b.add(machine.Await(self.full, slot, self._parity(b, turn, 0)))

    def read(self, b: Builder, turn: Value, slot: Value) -> None:
        """At the end of a turn, say of which slot nothing is read any more."""
        if not self.kept:
            b.add(machine.Arrive(self.empty, slot))
            return
        inner, kept = Builder(loc=b.loc), _number(b, self.kept)
        done = self.slot(inner, inner(arith.Sub(turn, kept)))
        inner.add(machine.Arrive(self.empty, done))
        later = b(arith.Le(kept, self.step(b)))
        b.add(control.If(later, Block((), tuple(inner.ops)), Block((), ())))

    def end(self, b: Builder) -> None:
        """Behind the loop, say the same of the slots that were kept, if there is another round."""
        steps = ceil_div(self.loop.dim, self.loop.tile or 1) if self.around else 0
        assert isinstance(steps, int)
        for step in range(max(steps - self.kept, 0), steps):
            turn = _plus(b, self._before(b), _number(b, step))
            b.add(machine.Arrive(self.empty, self.slot(b, turn)))

    def before(self, b: Builder, step: int, fill: Fill) -> None:
        """Fill the slot of a step that comes before the loop's own copies, if there is such a
        step."""
        assert self.loop.tile is not None
        inner = Builder(loc=b.loc)
        if self.around:
            self._filled(inner, _plus(inner, self._before(inner), _number(inner, step)), fill)
        else:
            self._copied(inner, _number(inner, step), fill)
        alone = [machine.Alone(0, Block((), tuple(inner.ops))).placed(b.loc)]
        if not _fixed(self.loop):
            here = nth(b, self.first, step)
            start = b(arith.Mul(here, _number(b, self.loop.tile)))
            if_inside(b, self.loop, self.stop, start, alone)
        elif step * self.loop.tile < int(str(self.loop.dim)):
            b.ops += alone

    def following(self, b: Builder, turn: Value, fill: Fill) -> None:
        """In the loop, fill the slot that is free, if there is a turn for it."""
        assert self.loop.tile is not None
        inner, ahead = Builder(loc=b.loc), self.stages - 1 - self.kept
        self._filled(inner, _plus(inner, turn, _number(inner, ahead)), fill)
        alone = [machine.Alone(0, Block((), tuple(inner.ops))).placed(b.loc)]
        distance = _number(b, ahead * self.loop.tile)
        start = b(arith.Add(b(shape.Start(self.loop.body.params[0])), distance))
        if_inside(b, self.loop, self.stop, start, alone)

    def apart(self, b: Builder, turn: Value, fill: Fill) -> None:
        """In the loop, fill the slot of the turn by warps that do nothing else."""
        inner = Builder(loc=b.loc)
        self._filled(inner, turn, fill)
        b.add(machine.Alone(self.warps, Block((), tuple(inner.ops))))

    def _before(self, b: Builder) -> Value | None:
        """The turns of all earlier rounds of the loops around."""
        out: Value | None = None
        for loop, inner in pairwise((*self.around, self.loop)):
            here = _plus(b, out, _index(b, loop, None if out else self.first))
            turns = ceil_div(inner.dim, inner.tile or 1)
            assert isinstance(turns, int)
            out = b(arith.Mul(here, _number(b, turns)))
        return out

    def _filled(self, b: Builder, turn: Value, fill: Fill) -> None:
        slot = self.slot(b, turn)
        b.add(machine.Await(self.empty, slot, self._parity(b, turn, 1)))
        self._copied(b, slot, fill)

    def _copied(self, b: Builder, slot: Value, fill: Fill) -> None:
        b.add(machine.Expect(self.full, slot, self.bytes))
        fill(b, slot)

    def _parity(self, b: Builder, turn: Value, earlier: int) -> Value:
        """The parity of the phase that ends with a turn, or of the one before it, which counts as
        ended where there was none."""
        phase = b(arith.FloorDiv(turn, _number(b, self.stages)))
        if earlier:
            phase = b(arith.Add(phase, _number(b, earlier)))
        return b(arith.Mod(phase, _number(b, 2)))


def nth(b: Builder, first: Value | None, step: int) -> Value:
    """The number of a loop's tile, `step` after its first one."""
    if first is None:
        return _number(b, step)
    return b(arith.Add(b(arith.Maximum(first, _number(b, 0))), _number(b, step)))


def if_inside(b: Builder, loop: control.For, stop: Value | None, start: Value,
              ops: Sequence[Op]) -> None:  # fmt: skip
    """Do this if a loop that ends at `stop` has a step that starts there."""
    end = _number(b, loop.dim) if isinstance(loop.dim, int) else b(shape.Size(loop.dim))
    if stop is not None:
        end = b(arith.Minimum(stop if tile(stop).dtype == i32 else b(Cast(stop, i32)), end))
    b.add(control.If(b(arith.Lt(start, end)), Block((), tuple(ops)), Block((), ())))


def _sizes(load: memory.Load) -> tuple[int, ...]:
    return tuple(int(str(d)) for d in tile(load.result).shape)


def _row_bytes(load: memory.Load) -> int:
    return _sizes(load)[-1] * tile(load.result).dtype.bits // 8


def _number(b: Builder, n: int) -> Value:
    return b(shape.Full((), n, i32))


def _plus(b: Builder, a: Value | None, c: Value) -> Value:
    return c if a is None else b(arith.Add(a, c))


def _index(b: Builder, loop: control.For, first: Value | None) -> Value:
    """How many steps of a loop come before the one that it is at."""
    assert loop.tile is not None
    step = b(arith.FloorDiv(b(shape.Start(loop.body.params[0])), _number(b, loop.tile)))
    return step if first is None else b(arith.Sub(step, nth(b, first, 0)))
