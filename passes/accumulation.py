"""Loops of products that only add to what they carry, so that parts of them can run apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.extent import ceil_div
from tilec.ir.format import Dense
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.remark import Remark
from tilec.ir.types import Memory
from tilec.passes.numbered import KNOWN, countable, multiplies
from tilec.passes.parts import tile


@dataclass(frozen=True)
class Accumulation:
    """A grid's only loop of products, and what is before and behind it in the grid's body."""

    grid: control.Grid
    before: tuple[Op, ...]
    loop: control.For
    behind: tuple[Op, ...]

    @property
    def steps(self) -> int:
        """How many steps the loop has."""
        return int(str(ceil_div(self.loop.dim, self.loop.tile or 1)))


def accumulation(grid: control.Grid) -> Accumulation | str:
    """A grid's loop of products, or why it can't run in parts. Before: tiles have sizes (`pad`)."""
    ops = grid.body.ops
    multiply = [op for op in ops if multiplies(op)]
    if len(multiply) != 1 or not isinstance(loop := multiply[0], control.For):
        return "one loop of products over tiles"
    if not countable(grid) or not isinstance(loop.dim, int):
        return KNOWN
    at = ops.index(loop)
    if loop.stop is not None or loop.first is not None:
        return "a loop of products over a whole dimension"
    if any(Trait.WRITES in o.traits and not o.blocks for o in Block((), ops[:at]).walk()):
        return "nothing that is written before the loop of products"
    if not any(isinstance(op, memory.Write) for op in ops[at:]):
        return "a store behind the loop of products"
    if not _only_adds(loop):
        return "a loop that only adds products to what it carries"
    return Accumulation(grid, ops[:at], loop, ops[at + 1 :])


@dataclass(frozen=True)
class Apart:
    """How a grid becomes several: places of sums in memory, what is made of these, and a remark."""

    places: tuple[int, ...]
    grids: Callable[[list[Value]], list[Op]]
    message: str


def apart(func: Func, origin: str, plan: Callable[[Accumulation], Apart | str]) -> Func:
    """Every grid with a loop of products in several, or a remark of a pass that says why not."""
    ops: list[Op] = []
    params = list(func.params)
    remarks: list[Remark] = []
    for op in func.body.ops:
        if not isinstance(op, control.Grid) or not multiplies(op):
            ops.append(op)
            continue
        found = accumulation(op)
        how = found if isinstance(found, str) else plan(found)
        if isinstance(found, str) or isinstance(how, str):
            remarks.append(Remark(origin, "a grid stays as it is", op.loc, str(how)))
            ops.append(op)
            continue
        memories = _sums(found, how.places, params)
        params += memories
        ops += how.grids(memories)
        remarks.append(Remark(origin, how.message, found.loop.loc))
    return func.replaced(Block(tuple(params), tuple(ops)), *remarks)


def _only_adds(loop: control.For) -> bool:
    """Whether each value that a loop carries becomes itself and a sum of products."""
    carried: dict[Value, Value] = {p: p for p in loop.body.params[1:]}  # a sum, and what it is of
    for op in loop.body.ops:
        used = [v for v in _read(op) if v in carried]
        if not used:
            continue
        if len(used) > 1 or used[0] not in _added(op):
            return False
        carried[op.result] = carried[used[0]]
    ends = zip(loop.body.results, loop.body.params[1:], strict=True)
    return all(carried.get(result) is p for result, p in ends)


def _read(op: Op) -> list[Value]:
    """The values that an op and those inside it read."""
    inner = [v for b in op.blocks for v in (*(v for o in b.ops for v in _read(o)), *b.results)]
    return [*op.operands, *inner]


def _added(op: Op) -> tuple[Value, ...]:
    """The operands of which an op's result is a sum with something else."""
    match op:
        case reduce.Dot() | SparseDot():
            return (op.acc,)
        case arith.Add():
            return (op.a, op.b)
        case arith.Fma():
            return (op.c,)
        case _:
            return ()


def copied(block: Block, to: dict[Value, Value]) -> Block:
    """The same block of other values; `to` says what stands for values of around it."""
    for p in block.params:
        to[p] = Value(p.type, p.hint)
    b = Builder()
    for op in block.ops:
        b.copy(op, to, lambda inner: copied(inner, to))
    params, results = ([to.get(v, v) for v in vs] for vs in (block.params, block.results))
    return Block(tuple(params), tuple(b.ops), tuple(results))


def zeros(v: Value, b: Builder) -> Value:
    """What sums start from that are added to a value later."""
    t = tile(v)
    return b(shape.Full(t.shape, 0, t.dtype))


def _sums(found: Accumulation, places: tuple[int, ...], params: Sequence[Value]) -> list[Value]:
    """More parameters: memory for what a loop carries, a tile at each of `places`."""
    owner = next(op.mem.hint for op in found.grid.body.walk() if isinstance(op, memory.Write))
    out: list[Value] = []
    for v in found.loop.init:
        taken = {p.hint for p in (*params, *out)}
        hint = next(n for i in count() if (n := f"{owner}.sums{i}") not in taken)
        out.append(Value(Memory((*places, *tile(v).shape), Dense(tile(v).dtype)), hint))
    return out


def indices(mem: Value, at: tuple[Value, ...], b: Builder) -> tuple[Value, ...]:
    """What picks the tile at a place of such memory."""
    assert isinstance(mem.type, Memory)
    return (*at, *(b(memory.Whole(d)) for d in mem.type.shape[len(at) :]))


def added(start: Value, mem: Value, at: tuple[Value, ...], b: Builder) -> Value:
    """A value and what lies at a place of such memory."""
    return b(arith.Add(start, b(memory.Load(mem, indices(mem, at, b)))))
