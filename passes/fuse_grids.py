"""Kernels that stand beside each other as one: what lies between them in memory is not stored.

A grid of element-wise ops that fills memory of the function's own is computed where others load
from there (a prologue); one that reads what another stores, is computed where that stores it (an
epilogue).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilec.ir.core import Block, Builder, Op, Value, rebuild
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import control, memory
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Span
from tilec.passes.fuse_cost import size_of
from tilec.passes.specialise import attribute

Ops = list[Op]
Touched = tuple[set[Value], set[Value]]  # the memories that an op reads, and those it writes


@dataclass(frozen=True)
class Joined:
    """Ops with a memory less, and what is said of it."""

    ops: Ops
    mem: Value
    remark: Remark


def joined(ops: Sequence[Op], params: Sequence[Value]) -> tuple[Ops, list[Value], list[Remark]]:
    """The ops and parameters after every prologue and epilogue that saves bytes, with remarks."""
    left, known, remarks = list(ops), list(params), list[Remark]()
    grids: dict[Op, Touched] = {}
    while found := next((j for p in known if "." in p.hint
                         and (j := _without(left, p, grids))), None):  # fmt: skip
        left = found.ops
        known.remove(found.mem)
        remarks.append(found.remark)
    return left, known, remarks


def _without(ops: Ops, mem: Value, grids: dict[Op, Touched]) -> Joined | None:
    """The ops without a memory of the function's own; `grids` is what they touch, once known."""
    grids |= {op: (_read(op), _written(op)) for op in ops if op not in grids}
    stores = [op for op in ops if mem in grids[op][1]]
    readers = [op for op in ops if mem in grids[op][0]]
    if len(stores) != 1 or not readers or stores[0] in readers:
        return None
    (grid,) = stores
    if not all(isinstance(op, control.Grid) for op in (grid, *readers)):
        return None
    found = _prologue(ops, mem, grid, readers) or _epilogue(ops, mem, grid, readers)
    if found is None:
        return None
    left, how = found
    size = size_of(mem)
    saved = "" if size is None else f"; {2 * size} bytes that are not moved"
    return Joined(left, mem, Remark("fuse", f"`{mem.hint}` is no memory: {how}{saved}", grid.loc))


def _prologue(ops: Ops, mem: Value, grid: Op, readers: Ops) -> tuple[Ops, str] | None:
    """What fills a memory, computed by those who read it."""
    assert isinstance(grid, control.Grid)
    store = _only_store(grid)
    if store is None or set(store.indices) != set(grid.body.params):
        return None
    if len(store.indices) != len(grid.body.params):
        return None
    rank = len(store.indices)
    wide = [o for o in grid.body.ops if isinstance(o, memory.Load) and len(o.indices) >= rank]
    inputs = _read(grid)
    for op in readers:
        if inputs & {m for o in ops[ops.index(grid) : ops.index(op)] for m in _written(o)}:
            return None
        loads = [o for b in op.blocks for o in b.walk() if isinstance(o, memory.Load)
                 and o.mem is mem]  # fmt: skip
        again = len(loads) > 1 or any(not set(_grid(op).body.params) <= set(o.indices)
                                      for o in loads)  # fmt: skip
        if (again and len(wide) > 1) or not all(_spans(o) for o in loads):
            return None
    new: dict[Op, Op] = {op: _with_prologue(_grid(op), mem, grid, store) for op in readers}
    left = [new.get(op, op) for op in ops if op is not grid]
    return left, "its elements are computed where they are read"


def _with_prologue(reader: control.Grid, mem: Value, grid: control.Grid, store: memory.Store
                   ) -> control.Grid:  # fmt: skip
    """A grid that computes what it loaded."""

    def change(op: Op, to: dict[Value, Value], b: Builder) -> bool:
        if not isinstance(op, memory.Load) or op.mem is not mem:
            return False
        values = dict(zip(store.indices, op.indices, strict=True))
        _copied([o for o in grid.body.ops if o is not store], values, b)
        to[op.result] = values.get(store.value, store.value)
        return True

    return reader.rebuilt({}, body=rebuild(reader.body, {}, change))


def _epilogue(ops: Ops, mem: Value, grid: Op, readers: Ops) -> tuple[Ops, str] | None:
    """What is done with a memory, computed where it was stored."""
    first, last = _grid(grid), _grid(readers[0])
    stores = [o for o in first.body.ops if isinstance(o, memory.Store) and o.mem is mem]
    if len(readers) != 1 or len(stores) != 1 or any(o.blocks for o in last.body.ops):
        return None
    (store,) = stores
    loads = [o for o in last.body.ops if isinstance(o, memory.Load) and o.mem is mem]
    places = {tuple(_number(i, last) for i in o.indices) for o in loads}
    if places != {tuple(_number(i, first) for i in store.indices)} or None in next(iter(places)):
        return None
    if first.dims != last.dims or len(store.indices) != len(first.dims):
        return None
    if not _free(ops, grid, last) or _written(last) & _read(first):
        return None
    values = dict(zip(last.body.params, first.body.params, strict=True))
    values |= {o.result: store.value for o in loads}
    b = Builder([o for o in first.body.ops if o is not store])
    _copied([o for o in last.body.ops if o not in loads], values, b)
    made = first.rebuilt({}, body=Block(first.body.params, tuple(b.ops)))
    left = [made if op is grid else op for op in ops if op is not last]
    return left, "what follows is computed where it was stored"


def _free(ops: Ops, first: Op, last: Op) -> bool:
    """Whether an op may run right behind an earlier one."""
    between = ops[ops.index(first) + 1 : ops.index(last)]
    read = {m for o in between for m in _read(o)}
    written = {m for o in between for m in _written(o)}
    return not (_written(last) & (read | written)) and not (_read(last) & written)


def _copied(ops: Sequence[Op], values: dict[Value, Value], b: Builder) -> None:
    """Ops at other spans: `values` says what stands for theirs."""
    known: dict[str, Extent] = {}
    for old, new in values.items():
        if isinstance(old.type, Span) and isinstance(new.type, Span):
            known |= {old.type.size.text: new.type.size} if isinstance(old.type.size, Sym) else {}
    for op in ops:
        changed = {n: attribute(v, known) for n, v in op.attributes.items()}
        new = op.rebuilt(values, **changed)
        b.add(new)
        values.update(zip(op.results, new.results, strict=True))


def _only_store(grid: control.Grid) -> memory.Store | None:
    """The store of a grid that does nothing but compute elements and store them once."""
    writes = [o for o in grid.body.ops if isinstance(o, memory.Write)]
    if any(o.blocks for o in grid.body.ops) or len(writes) != 1:
        return None
    (store,) = writes
    return store if isinstance(store, memory.Store) and store.mask is None else None


def _spans(load: memory.Load) -> bool:
    return all(isinstance(i.type, Span) for i in load.indices)


def _number(index: Value, grid: control.Grid) -> int | None:
    """Which of a grid's spans an index is."""
    return next((i for i, p in enumerate(grid.body.params) if p is index), None)


def _grid(op: Op) -> control.Grid:
    assert isinstance(op, control.Grid)
    return op


def _read(op: Op) -> set[Value]:
    """The memories that an op reads, or those inside it."""
    inner = [op, *(o for b in op.blocks for o in b.walk())]
    return {v for o in inner if not isinstance(o, memory.Store) for v in o.operands
            if isinstance(v.type, Memory)}  # fmt: skip


def _written(op: Op) -> set[Value]:
    """The memories that an op writes, or those inside it."""
    inner = [op, *(o for b in op.blocks for o in b.walk())]
    return {o.mem for o in inner if isinstance(o, memory.Write)}
