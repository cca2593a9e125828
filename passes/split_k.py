"""Products of few tiles, in parts along k: more blocks than tiles, whose sums are added behind."""

from __future__ import annotations

from tilec.ir.core import Block, Builder, Func, Value, rebuild
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, control, memory, shape
from tilec.ir.types import Span
from tilec.passes.accumulation import (
    Accumulation,
    Apart,
    added,
    apart,
    copied,
    indices,
    zeros,
)
from tilec.passes.numbered import number, place, total
from tilec.passes.pipeline import register


@register("split-k")
def split_k(func: Func, *, parts: int = 1) -> Func:
    """Run the loop of products of each grid in `parts` blocks, and add their sums in another grid.

    The sums are in memory of the function's own, and are added in the order of k: a result does not
    depend on which block is first. It is a sum in another order than one loop's: a float may round
    otherwise. Before: tiles have sizes (`pad`), loads are not staged. After: the same.
    """
    if parts < 1:
        raise TileError(f"split-k: {parts} parts, expected 1 or more")

    def plan(found: Accumulation) -> Apart | str:
        count = min(parts, found.steps)
        if count == 1:
            return "more than one step along k"
        message = f"{total(found.grid)} tiles of {found.steps} steps along k in {count} parts"
        return Apart((count, total(found.grid)),
                     lambda memories: [_apart(found, count, memories),
                                       _behind(found, count, memories)], message)  # fmt: skip

    return func if parts == 1 else apart(func, "split-k", plan)


def _apart(found: Accumulation, count: int, memories: list[Value]) -> control.Grid:
    """The grid that sums each part."""
    grid, loop = found.grid, found.loop
    part, to = Value(Span(count, 1), "part"), dict[Value, Value]()
    before = copied(Block(grid.body.params, found.before), to)
    b = Builder(list(before.ops), loop.loc)
    here = b(shape.Start(part))
    first = _step(here, found.steps, count, b)
    last = _step(b(arith.Add(here, number(1, b))), found.steps, count, b)
    stop = b(arith.Mul(last, number(loop.tile or 1, b)))
    init = tuple(zeros(v, b) for v in loop.init)
    body = copied(loop.body, to)
    new = b.add(control.For(loop.dim, loop.size, loop.tile, init, body, stop, first))
    at = (here, place(grid, before.params, b))
    for mem, v in zip(memories, new.results, strict=True):
        b.add(memory.Store(mem, indices(mem, at, b), v))
    dims, sizes, tiles = (count, *grid.dims), (1, *grid.sizes), (1, *grid.tiles)
    whole = Block((part, *before.params), tuple(b.ops))
    return control.Grid(dims, sizes, tiles, whole).placed(grid.loc)


def _step(part: Value, steps: int, count: int, b: Builder) -> Value:
    """The step that a part begins with: parts have equal numbers of steps, or one more."""
    return b(arith.FloorDiv(b(arith.Mul(part, number(steps, b))), number(count, b)))


def _behind(found: Accumulation, count: int, memories: list[Value]) -> control.Grid:
    """The grid that adds the sums, and does what follows."""
    grid, loop = found.grid, found.loop
    b = Builder(list(found.before), loop.loc)
    here, to = place(grid, grid.body.params, b), dict[Value, Value]()
    for v, start, mem in zip(loop.results, loop.init, memories, strict=True):
        to[v] = start
        for i in range(count):
            to[v] = added(to[v], mem, (number(i, b), here), b)
    behind = rebuild(Block((), found.behind), to)
    body = Block(grid.body.params, (*b.ops, *behind.ops))
    return control.Grid(grid.dims, grid.sizes, grid.tiles, body).placed(grid.loc)
