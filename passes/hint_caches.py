"""Which operands caches should give up first: those that only one block reads."""

from __future__ import annotations

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.ops import control, memory, reduce, shape
from tilec.ir.ops.sparse import SparseDot
from tilec.ir.remark import Remark
from tilec.passes.numbered import countable, counts, multiplies
from tilec.passes.parts import tile
from tilec.passes.pipeline import register

FIRST, LAST = "evict_first", "evict_last"


@register("hint-caches")
def hint_caches(func: Func) -> Func:
    """Say of operands of products that one block reads that their lines may go first, and of those
    beside them, which several blocks read, that they should stay.

    Nothing is said where several blocks read all operands. Before: tiles have sizes (`pad`), a
    block has one tile. After: the same.
    """
    ops: list[Op] = []
    remarks: list[Remark] = []
    for op in func.body.ops:
        if not isinstance(op, control.Grid) or not multiplies(op) or not countable(op):
            ops.append(op)
            continue
        found = _hints(op)
        remarks += [Remark("hint-caches", f"`{o.mem.hint}`: {found[o]}", o.loc) for o in found]
        body = _hinted(op.body, found, {})
        ops.append(op.rebuilt({}, body=body) if found else op)
    return func.replaced(Block(func.params, tuple(ops)), *remarks)


def _hints(grid: control.Grid) -> dict[memory.Load, str]:
    """What to say of each operand."""
    several = {p for p, n in zip(grid.body.params, counts(grid), strict=True) if n > 1}
    made = {v: op for op in grid.body.walk() for v in op.results}
    loads = [op for op in _operands(grid, made) if op.cache is None]
    own = [op for op in loads if several <= _behind(op.indices, made)]
    return {op: FIRST if op in own else LAST for op in loads} if own else {}


def _operands(grid: control.Grid, made: dict[Value, Op]) -> list[memory.Load]:
    """The matrices that products read as they are loaded, turned or computed element by element."""
    wanted = [v for op in grid.body.walk() if isinstance(op, reduce.Dot) for v in (op.a, op.b)]
    wanted += [v for op in grid.body.walk() if isinstance(op, SparseDot)
               for v in (op.values, op.index, op.b)]  # fmt: skip
    found: list[memory.Load] = []
    while wanted:
        op = made.get(wanted.pop(0))
        if isinstance(op, memory.Load):
            found += [op] if tile(op.result).rank > 1 and op not in found else []
        elif op is not None and (Trait.ELEMENTWISE in op.traits or isinstance(op, shape.Transpose)):
            wanted += op.operands
    return found


def _behind(values: tuple[Value, ...], made: dict[Value, Op]) -> set[Value]:
    """All that values depend on."""
    seen, wanted = set[Value](), list(values)
    while wanted:
        v = wanted.pop()
        if v not in seen:
            seen.add(v)
            wanted += made[v].operands if v in made else ()
    return seen


def _hinted(block: Block, hints: dict[memory.Load, str], to: dict[Value, Value]) -> Block:
    b = Builder()
    for op in block.ops:
        hint = hints.get(op) if isinstance(op, memory.Load) else None
        changed = {} if hint is None else {"cache": hint}
        b.copy(op, to, lambda inner: _hinted(inner, hints, to), **changed)
    return Block(block.params, tuple(b.ops), tuple(to.get(v, v) for v in block.results))
