"""The tiles of a grid by number: the last dimension fastest."""

from __future__ import annotations

from math import prod

from tilec.ir.core import Builder, Op, Value
from tilec.ir.dtype import i32
from tilec.ir.extent import ceil_div
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.sparse import SparseDot

KNOWN = "dimensions that are numbers"


def counts(grid: control.Grid) -> tuple[int, ...]:
    """How many tiles a grid has along each of its dimensions, which are numbers."""
    return tuple(int(str(ceil_div(d, t or 1))) for d, t in zip(grid.dims, grid.tiles, strict=True))


def total(grid: control.Grid) -> int:
    """How many tiles a grid has."""
    return prod(counts(grid))


def countable(grid: control.Grid) -> bool:
    """Whether the tiles of a grid can be numbered: its dimensions are numbers."""
    return all(isinstance(d, int) for d in grid.dims)


def multiplies(op: Op) -> bool:
    """Whether an op is a product, or has one inside."""
    return isinstance(op, reduce.Dot | SparseDot) or any(
        multiplies(o) for b in op.blocks for o in b.ops
    )


def number(n: int, b: Builder) -> Value:
    """A constant, of the type that tiles are numbered in."""
    return b(shape.Full((), n, i32))


def place(grid: control.Grid, spans: tuple[Value, ...], b: Builder) -> Value:
    """The number of a grid's tile by its spans, the last dimension fastest."""
    out: Value | None = None
    for p, t, count in zip(spans, grid.tiles, counts(grid), strict=True):
        here = b(arith.FloorDiv(b(shape.Start(p)), number(t or 1, b)))
        out = here if out is None else b(arith.Add(b(arith.Mul(out, number(count, b))), here))
    return number(0, b) if out is None else out


def at(grid: control.Grid, places: tuple[Value, ...], b: Builder) -> dict[Value, Value]:
    """What stands for a grid's spans at a tile, by its number along each dimension."""
    out: dict[Value, Value] = {}
    axes = zip(grid.body.params, places, grid.dims, grid.sizes, grid.tiles, strict=True)
    for p, here, dim, size, tile in axes:
        out[p] = b(memory.Nth(here, int(str(dim)), int(str(size)), tile or 1))
    return out


def apart(grid: control.Grid, here: Value, b: Builder) -> tuple[Value, ...]:
    """The numbers of a tile along each of a grid's dimensions."""
    out: list[Value] = []
    for i, count in reversed(list(enumerate(counts(grid)))):
        size = number(count, b)
        out.insert(0, here if i == 0 else b(arith.Mod(here, size)))
        here = b(arith.FloorDiv(here, size)) if i else here
    return tuple(out)
