"""Values that outlive what they were read from: memory of the function's own keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.ops import memory
from tilec.ir.types import Memory, Tile
from tilec.passes.fuse_order import everything, sources, written


def saved(func: Func) -> Func:
    """Store what is made of a memory that is written before all of it is used; later ops load it.

    After: no op outside of grids uses what can't be computed again. Raises TileError where one
    inside of a grid does.
    """
    made_of = sources(func.body.ops)
    moved = _moved(func.body.ops, made_of)
    outlived = [*dict.fromkeys([*_outlived(func.body.ops, made_of), *moved])]
    if not outlived:
        return func
    owner = next(p.hint for p in func.params if isinstance(p.type, Memory)).partition(".")[0]
    own = {v: Value(_memory(v), f"{owner}.saved{i}") for i, v in enumerate(outlived)}
    b, stale, to = Builder(), set[Value](), dict[Value, Value]()
    for op in func.body.ops:
        b.loc = op.loc
        inside = {v for block in op.blocks for o in block.walk() for v in o.operands}
        if inside & (stale | to.keys()):
            raise TileError(f"{op.name}: a value from outside is used after its memory is written",
                            op.loc)  # fmt: skip
        last = {op.value} & {*moved} if isinstance(op, memory.Store) else set[Value]()
        here = to | {v: _loaded(own[v], b) for v in {*op.operands} & (stale | last)}
        new = b.add(op.rebuilt(here) if here.keys() & {*op.operands} else op)
        to.update((old, v) for old, v in zip(op.results, new.results, strict=True) if old is not v)
        for old, v in zip(op.results, new.results, strict=True):
            if old in own:
                b.add(memory.Store(own[old], _whole(own[old], b), v))
        stale |= {v for v in own if made_of[v] & {*written(op)} and v not in op.results}
    return func.replaced(Block((*func.params, *own.values()), tuple(b.ops), func.body.results))


def _outlived(ops: Sequence[Op], made_of: Mapping[Value, frozenset[Value]]) -> list[Value]:
    """The values that an op uses after memory was written that they were made of."""
    known, stale, found = list[Value](), set[Value](), dict[Value, None]()
    for op in ops:
        found.update(dict.fromkeys(v for v in op.operands if v in stale))
        mems = {*written(op)}
        stale |= {v for v in known if made_of[v] & mems}
        known += [v for v in op.results if isinstance(v.type, Tile)]
    return list(found)


def _moved(ops: Sequence[Op], made_of: Mapping[Value, frozenset[Value]]) -> list[Value]:
    """The values that are stored to a memory of which they have read other places."""
    made = {v: op for op in ops for v in op.results}
    elsewhere: dict[Value, frozenset[Value]] = {}
    found: list[Value] = []
    for op in ops:
        own = frozenset[Value]().union(*(elsewhere.get(v, frozenset[Value]()) for v in op.operands))
        if isinstance(op, memory.Load):
            own = frozenset[Value](() if everything(op.indices, made) else (op.mem,))
        elif Trait.ELEMENTWISE not in op.traits:
            own = own.union(*(made_of.get(v, frozenset[Value]()) for v in op.operands))
        elsewhere.update(dict.fromkeys(op.results, own))
        if isinstance(op, memory.Store) and op.mem in elsewhere[op.value]:
            found.append(op.value)
    return found


def _memory(v: Value) -> Memory:
    assert isinstance(v.type, Tile)
    return Memory(v.type.shape, Dense(v.type.dtype))


def _whole(mem: Value, b: Builder) -> tuple[Value, ...]:
    assert isinstance(mem.type, Memory)
    return tuple(b(memory.Whole(d)) for d in mem.type.shape)


def _loaded(mem: Value, b: Builder) -> Value:
    return b(memory.Load(mem, _whole(mem, b)))
