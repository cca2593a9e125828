"""The order of a grid's tiles: in bands of columns, so that blocks beside each other share rows of
both operands."""

from __future__ import annotations

from tilec.ir.core import Block, Builder, Func, Op, Value, rebuild
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, control, shape
from tilec.ir.remark import Remark
from tilec.ir.types import Span
from tilec.passes.numbered import (
    KNOWN,
    apart,
    at,
    countable,
    counts,
    multiplies,
    number,
    total,
)
from tilec.passes.pipeline import register


@register("raster")
def raster(func: Func, *, width: int = 0) -> Func:
    """Go through the tiles of products in bands of `width` columns, row by row; 0 leaves them be.

    Without, the last dimension is the fastest over its whole length. Before: tiles have sizes
    (`pad`). After: the same; a grid has one dimension, the number of a tile.
    """
    if width < 0:
        raise TileError(f"raster: a band of {width} columns, expected 1 or more, or 0")
    ops: list[Op] = []
    remarks: list[Remark] = []
    for op in func.body.ops:
        if not width or not isinstance(op, control.Grid) or not multiplies(op) or len(op.dims) < 2:
            ops.append(op)
        elif not countable(op):
            remarks.append(Remark("raster", "a grid keeps its order", op.loc, KNOWN))
            ops.append(op)
        else:
            ops.append(_banded(op, width) if width < counts(op)[-1] else op)
    return func.replaced(Block(func.params, tuple(ops)), *remarks)


def _banded(grid: control.Grid, width: int) -> control.Grid:
    tiles, b = total(grid), Builder(loc=grid.loc)
    *_, rows, columns = counts(grid)
    p = Value(Span(tiles, 1), "tile")
    here = b(shape.Start(p))
    *outer, _, _ = apart(grid, here, b)
    here = b(arith.Mod(here, number(rows * columns, b))) if outer else here
    size = number(rows * width, b)
    band, inside = b(arith.FloorDiv(here, size)), b(arith.Mod(here, size))
    first = b(arith.Mul(band, number(width, b)))
    wide = b(arith.Minimum(b(arith.Sub(number(columns, b), first)), number(width, b)))
    row = b(arith.FloorDiv(inside, wide))
    column = b(arith.Add(first, b(arith.Mod(inside, wide))))
    to = at(grid, (*outer, row, column), b)
    body = rebuild(Block((), grid.body.ops), to)
    whole = Block((p,), (*b.ops, *body.ops))
    return control.Grid((tiles,), (1,), (1,), whole).placed(grid.loc)
