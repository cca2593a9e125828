"""Persistent blocks: as many as the machine runs at once, each of which goes through many tiles."""

from __future__ import annotations

from tilec.ir.core import Block, Builder, Func, Op, Value, rebuild
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, control, shape
from tilec.ir.remark import Remark
from tilec.ir.types import Span
from tilec.passes.numbered import KNOWN, apart, at, countable, multiplies, number, total
from tilec.passes.pipeline import register


@register("persist")
def persist(func: Func, *, blocks: int = 0) -> Func:
    """Have `blocks` blocks do the tiles of a product, block i the tiles i, i + blocks, ...

    0 leaves grids as they are, and so do more blocks than there are tiles. Before: tiles have sizes
    (`pad`), loads are not staged. After: the same.
    """
    if blocks < 0:
        raise TileError(f"persist: {blocks} blocks, expected 1 or more, or 0")
    ops: list[Op] = []
    remarks: list[Remark] = []
    for op in func.body.ops:
        if not blocks or not isinstance(op, control.Grid) or not multiplies(op):
            ops.append(op)
        elif not countable(op):
            remarks.append(Remark("persist", "a grid has a block for each tile", op.loc, KNOWN))
            ops.append(op)
        elif blocks < total(op):
            remarks.append(Remark("persist", f"{total(op)} tiles by {blocks} blocks", op.loc))
            ops.append(_persistent(op, blocks))
        else:
            ops.append(op)
    return func.replaced(Block(func.params, tuple(ops)), *remarks)


def _persistent(grid: control.Grid, blocks: int) -> control.Grid:
    tiles, b = total(grid), Builder(loc=grid.loc)
    rounds = -(-tiles // blocks)
    block, turn = Value(Span(blocks, 1), "block"), Value(Span(rounds, 1), "turn")
    here = b(shape.Start(block))
    stop = None
    if tiles % blocks:  # the last round is not for all
        left = b(arith.Lt(here, number(tiles % blocks, b)))
        stop = b(arith.Where(left, number(rounds, b), number(rounds - 1, b)))
    inner = Builder(loc=grid.loc)
    done = inner(arith.Mul(inner(shape.Start(turn)), number(blocks, inner)))
    to = at(grid, apart(grid, inner(arith.Add(done, here)), inner), inner)
    body = rebuild(Block((), grid.body.ops), to)
    b.add(control.For(rounds, 1, 1, (), Block((turn,), (*inner.ops, *body.ops)), stop))
    return control.Grid((blocks,), (1,), (1,), Block((block,), tuple(b.ops))).placed(grid.loc)
