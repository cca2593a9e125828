"""What ops read: how often, other than to convert it, and loads on their way to reductions."""

from __future__ import annotations

from collections import Counter

from tilec.ir.core import Func, Op, Trait, Value
from tilec.ir.ops import machine, memory, reduce, scan
from tilec.ir.ops.packed import Term
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.types import Span, Tile

Axes = dict[Value, tuple[int, ...]]


def uses(func: Func) -> Counter[Value]:
    """How often each value is read."""
    found: Counter[Value] = Counter()
    for op in func.walk():
        found.update(op.operands)
        for block in op.blocks:
            found.update(block.results)
    return found


def read(func: Func) -> set[Value]:
    """What anything but a conversion reads."""
    ops = [op for op in func.walk() if not isinstance(op, machine.Convert)]
    results = {v for op in ops for block in op.blocks for v in block.results}
    return results | {v for op in ops for v in op.operands}


def split(func: Func) -> set[Value]:
    """What is read only to take terms of it, for products that want these in one layout."""
    read = [(v, op) for op in func.walk() for v in op.operands]
    others = {v for v, op in read if not isinstance(op, Term)}
    return {v for v, _ in read} - others


def reduced(func: Func) -> Axes:
    """For each tile that is loaded by spans, the axes along which ops on elements lead it to
    reductions or scans; none for one that a product reads too, or that is converted already."""
    users: dict[Value, list[Op]] = {}
    for op in func.walk():
        for v in dict.fromkeys(op.operands):
            users.setdefault(v, []).append(op)
    found: Axes = {}
    for op in func.walk():
        if isinstance(op, memory.Load) and all(isinstance(i.type, Span) for i in op.indices):
            axes = _axes(op.result, users, {op.result})
            if axes:
                found[op.result] = tuple(axes)
    return found


def _axes(v: Value, users: dict[Value, list[Op]], seen: set[Value]) -> list[int] | None:
    """The axes of the reductions of a value; None where its layout is another op's choice."""
    axes: list[int] = []
    for op in users.get(v, ()):
        match op:
            case reduce.Dot() | SparseDot() | machine.Convert():
                return None
            case reduce.Argmax():
                pass  # by way of shared memory, whatever the layout
            case reduce.Reduction() | scan.Scan():
                axes.append(op.axis)
            case _ if Trait.ELEMENTWISE in op.traits and _alike(op.result, v):
                if op.result not in seen:
                    seen.add(op.result)
                    further = _axes(op.result, users, seen)
                    if further is None:
                        return None
                    axes += further
            case _:
                pass
    return axes


def _alike(a: Value, b: Value) -> bool:
    return isinstance(a.type, Tile) and isinstance(b.type, Tile) and a.type.shape == b.type.shape
