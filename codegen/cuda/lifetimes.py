"""When the ops of a kernel run, as numbers, and from when to when its rings hold anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tilec.ir.core import Op, Value
from tilec.ir.ops.machine import Barriers, Copy, Shared, Wait


@dataclass
class Lifetimes:
    """`steps` are the numbers of ops, each after those before it, ops inside others after these;
    `rings` the first and the last step of what lies in a ring; `last` follows all steps."""

    steps: dict[Op, int] = field(default_factory=dict[Op, int])
    rings: dict[Value, tuple[int, int]] = field(default_factory=dict[Value, tuple[int, int]])
    last: int = 0


def lifetimes(ops: Sequence[Op]) -> Lifetimes:
    """Of the ops of a kernel."""
    found = Lifetimes()
    _number(ops, found)
    found.last += 1
    _rings(ops, found)
    return found


def _number(ops: Sequence[Op], found: Lifetimes) -> None:
    for op in ops:
        found.last += 1
        found.steps[op] = found.last
        for block in op.blocks:
            _number(block.ops, found)


def _rings(ops: Sequence[Op], found: Lifetimes) -> None:
    """The rings of a block and those inside it."""
    for i, op in enumerate(ops):
        if isinstance(op, Shared):
            alive = found.steps[op], _end(op, ops[i:], found)
            found.rings[op.result] = (0, found.last) if _watched(op, ops[i:]) else alive
        if isinstance(op, Barriers):
            found.rings[op.result] = (0, found.last)
        for block in op.blocks:
            _rings(block.ops, found)


def _end(ring: Shared, following: Sequence[Op], found: Lifetimes) -> int:
    """The wait that ends the copies after all ops that read or write a ring; its threads are at a
    barrier then, so that what follows may write there."""
    users = [i for i, op in enumerate(following) if ring.result in _read(op)]
    waits = (op for op in following[users[-1] if users else 0 :]
             if isinstance(op, Wait) and op.pending == 0)  # fmt: skip
    return next((found.steps[op] for op in waits), found.last)


def _read(op: Op) -> set[Value]:
    """What an op and those inside it read."""
    return {v for o in (op, *(x for b in op.blocks for x in b.walk())) for v in o.operands}


def _watched(ring: Shared, following: Sequence[Op]) -> bool:
    """Whether a unit other than the threads reads or writes a ring, at times of its own."""
    inside = [o for op in following for o in (op, *(x for b in op.blocks for x in b.walk()))]
    return bool(ring.swizzle) or any(
        isinstance(o, Copy) and o.to is ring.result and o.full is not None for o in inside
    )
