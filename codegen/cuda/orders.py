"""Which codes lie in fragment order, and where their decoding is one step of a few instructions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tilec.ir.core import Func, Op, Value
from tilec.ir.dtype import bf16, f16
from tilec.ir.fragments import Fragments
from tilec.ir.ops import arith, machine, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Tile


@dataclass
class Orders:
    """Memories and rings of fragments, and the casts (less a middle) that read them."""

    of: dict[Value, Fragments] = field(default_factory=dict[Value, Fragments])
    decoded: dict[Op, int] = field(default_factory=dict[Op, int])  # what is taken from each code
    within: set[Op] = field(default_factory=set[Op])  # casts that are part of a subtraction


def orders(func: Func) -> Orders:
    """The rings that one load reads in fragments of a product, for one cast to 16-bit floats."""
    found = Orders()
    users: dict[Value, list[Op]] = {}
    reads: Counter[Value] = Counter()
    for op in func.walk():
        for v in op.operands:
            users.setdefault(v, []).append(op)
        reads.update(v for b in op.blocks for v in b.results)
    made = {v: op for op in func.walk() for v in op.results}
    for op in func.walk():
        if isinstance(op, memory.Load) and isinstance(made.get(op.mem), machine.Shared):
            _order(found, op, users, reads, made)
    return found


def _order(found: Orders, load: memory.Load, users: dict[Value, list[Op]], reads: Counter[Value],
           made: dict[Value, Op]) -> None:  # fmt: skip
    convert = _only(load.result, users, reads)
    cast = _only(convert.result, users, reads) if isinstance(convert, machine.Convert) else None
    if not isinstance(convert, machine.Convert) or not isinstance(cast, Cast):
        return
    t = load.result.type
    assert isinstance(t, Tile)
    ring = users[load.mem]
    sources = {op.mem for op in ring if isinstance(op, machine.Copy)}
    source = next(iter(sources))
    alone = len(sources) == 1 and all(op in ring for op in users[source])
    loads = sum(isinstance(op, memory.Load) for op in ring) == 1
    if not (alone and loads and t.dtype.is_integer and cast.dtype in (f16, bf16)):
        return
    if cast.rounding != "nearest" or not Fragments.fits(t.dtype, convert.layout):
        return
    order = Fragments(t.dtype, convert.layout)
    found.of |= {load.mem: order, source: order}
    less = _only(cast.result, users, reads)
    middle = made.get(less.b) if isinstance(less, arith.Sub) and less.a is cast.result else None
    if isinstance(less, arith.Sub) and isinstance(middle, shape.Full) and middle.value >= 0:
        found.decoded[less] = int(middle.value)
        found.within.add(cast)
    else:
        found.decoded[cast] = 0


def _only(v: Value, users: dict[Value, list[Op]], reads: Counter[Value]) -> Op | None:
    """The only op that reads a value, if there is one."""
    ops = users.get(v, [])
    return ops[0] if len(ops) == 1 and not reads[v] else None
