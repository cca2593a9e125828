"""Grids that stand beside each other as one: a block has a tile of one of them.

They are launched at once, and what they read in common is in the caches: linear layers of one
input that have different widths, say.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from tilec.ir.core import Block, Builder, Func, Op, Value, rebuild
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, control, memory, shape
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Span
from tilec.passes.numbered import apart, at, countable, multiplies, number, total
from tilec.passes.pipeline import register


@register("beside")
def beside(func: Func, *, kernels: int = 0) -> Func:
    """Make one grid of up to `kernels` products in a row that read a memory in common, of which
    none reads or writes what another one writes; 0 leaves grids as they are.

    Before: tiles have sizes (`pad`), loads are not staged. After: the same.
    """
    if kernels < 0:
        raise TileError(f"beside: {kernels} kernels, expected 1 or more, or 0")
    ops: list[Op] = []
    run: list[control.Grid] = []
    remarks: list[Remark] = []

    def close() -> None:
        ops.extend([_joined(run)] if len(run) > 1 else run)
        if len(run) > 1:
            remarks.append(Remark("beside", f"{len(run)} kernels are one", run[0].loc))
        run.clear()

    for op in func.body.ops:
        if isinstance(op, control.Grid) and kernels and countable(op) and multiplies(op):
            if run and (len(run) >= kernels or not _fits(op, run)):
                close()
            run.append(op)
            continue
        if op.blocks or isinstance(op, memory.Load | memory.Write):
            close()
        ops.append(op)
    close()
    return func.replaced(Block(func.params, tuple(ops)), *remarks)


def _fits(grid: control.Grid, run: Sequence[control.Grid]) -> bool:
    """Whether a grid may run beside others, and reads what they read."""
    own, read = _written(grid), _read(grid)
    theirs = {m for g in run for m in _written(g)}
    common = {m for g in run for m in _read(g)}
    return not (own & (theirs | common)) and not (read & theirs) and bool(read & common)


def _read(grid: control.Grid) -> set[Value]:
    """The memories that a grid reads."""
    inside = [op for op in grid.body.walk() if not isinstance(op, memory.Store)]
    return {v for op in inside for v in op.operands if isinstance(v.type, Memory)}


def _written(grid: control.Grid) -> set[Value]:
    """The memories that a grid writes."""
    return {op.mem for op in grid.body.walk() if isinstance(op, memory.Write)}


def _joined(run: Sequence[control.Grid]) -> control.Grid:
    """One grid with the tiles of several, those of the first before those of the second."""
    counts = [total(g) for g in run]
    block = Value(Span(sum(counts), 1), "block")
    b = Builder(loc=run[0].loc)
    here = b(shape.Start(block))
    b.ops += _chosen(run, list(accumulate(counts, initial=0)), here)
    body = Block((block,), tuple(b.ops))
    return control.Grid((sum(counts),), (1,), (1,), body).placed(run[0].loc)


def _chosen(run: Sequence[control.Grid], first: Sequence[int], here: Value) -> list[Op]:
    """The ops of the grid that has a block; `first` is the first block of each."""
    grid, *others = run
    b = Builder(loc=grid.loc)
    own = here if not first[0] else b(arith.Sub(here, number(first[0], b)))
    to = at(grid, apart(grid, own, b), b)
    ops = [*b.ops, *rebuild(Block((), grid.body.ops), to).ops]
    if not others:
        return ops
    b = Builder(loc=grid.loc)
    mine = b(arith.Lt(here, number(first[1], b)))
    rest = _chosen(others, first[1:], here)
    b.add(control.If(mine, Block((), tuple(ops)), Block((), tuple(rest))))
    return b.ops
