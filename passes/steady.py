"""What is the same in every step of a loop."""

from __future__ import annotations

from collections.abc import Iterable, Set

from tilec.ir.core import Block, Op, Value
from tilec.ir.ops import memory


def steady(values: Iterable[Value], body: Block, written: Set[Value]) -> list[Op] | None:
    """The ops of a loop's body that make values, in order; None if a step changes these.

    They are pure, or read memory that is not among `written`.
    """
    wanted, found = set(values), list[Op]()
    for op in reversed(body.ops):
        if wanted.isdisjoint(op.results):
            continue
        reads = isinstance(op, memory.Load) and op.mem not in written
        if not (op.traits.pure or reads) or op.blocks:
            return None
        wanted.update(op.operands)
        found.append(op)
    return found[::-1] if wanted.isdisjoint(body.params) else None
