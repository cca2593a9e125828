"""Tile sizes that nobody pinned, by a cost model of a processor with vectors and caches."""

from __future__ import annotations

from math import gcd
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import control
from tilec.ir.ops.memory import Load
from tilec.ir.ops.reduce import Dot
from tilec.ir.ops.shape import Transpose
from tilec.ir.types import Span, Tile
from tilec.passes.pipeline import register

ROWS, COLUMNS, DEPTH = 256, 64, 256  # of a product: A's rows stay in L2, a B panel in L1
BUDGET = 8192  # elements of a tile without a product: its temporaries stay in L1 and L2


@register("tile")
def tile(func: Func, *, threads: int = 2, **sizes: int) -> Func:
    """Choose every tile size that is left open; `sizes` (`m=16`) pins some.

    Before: extents are numbers. A product's k step divides the group of a scaled operand, so that
    its scale is constant over a step. After: every Grid and For says its tiles.
    """
    roles = _roles(func)
    return func.replaced(_block(func.body, {}, roles, dict(sizes), threads))


def _roles(func: Func) -> dict[str, int]:
    """The most that each size symbol should be, from the products that it takes part in."""
    roles: dict[str, int] = {}
    made = {v: op for op in func.walk() for v in op.results}
    for op in func.walk():
        if isinstance(op, Dot):
            assert isinstance(op.a.type, Tile)
            assert isinstance(op.b.type, Tile)
            for extent, most in zip(
                (*op.a.type.shape, op.b.type.shape[1]), (ROWS, DEPTH, COLUMNS), strict=True
            ):
                if isinstance(extent, Sym):
                    roles[extent.text] = min(most, roles.get(extent.text, most))
            for side in (op.a, op.b):
                _group(made, side, op.a.type.shape[1], roles)
    return roles


def _group(made: dict[Value, Op], v: Value, depth: Extent, roles: dict[str, int]) -> None:
    op = made.get(v)
    if isinstance(op, Transpose):
        op = made.get(op.a)
    if isinstance(op, Load) and isinstance(depth, Sym):
        group = getattr(getattr(op.mem.type, "format", None), "group", None)
        if isinstance(group, int):
            roles[depth.text] = gcd(roles.get(depth.text, 0) % DEPTH, _step(group))


def _step(group: int) -> int:
    """A step of k that divides a group: the group, or the largest divisor that is not too deep."""
    if group <= DEPTH:
        return group
    return max((d for d in range(1, DEPTH + 1) if group % d == 0), key=lambda d: (d % 32 == 0, d))


def _block(
    block: Block, to: dict[Value, Value], roles: dict[str, int], sizes: dict[str, int], threads: int
) -> Block:
    for p in block.params:
        to[p] = p
    b = Builder()
    for op in block.ops:
        changed: dict[str, Any] = {
            n: _block(getattr(op, n), to, roles, sizes, threads) for n in op.fields("block")
        }
        if isinstance(op, control.Grid):
            changed["tiles"] = _grid(op, roles, sizes, threads)
        if isinstance(op, control.For) and op.tile is None:
            changed["tile"] = sizes.get(op.size.text) or _clipped(
                op.dim, roles.get(op.size.text, DEPTH)
            )
        new = b.add(op.rebuilt(to, **changed))
        to.update(zip(op.results, new.results, strict=True))
    return Block(block.params, tuple(b.ops), tuple(to[v] for v in block.results))


def _clipped(dim: Extent, most: int) -> int:
    return max(1, min(most, dim)) if isinstance(dim, int) else most


def _grid(
    op: control.Grid, roles: dict[str, int], sizes: dict[str, int], threads: int
) -> tuple[int, ...]:
    """A product's tiles by role; others from the last dimension on until the budget is used up."""
    chosen: list[int] = []
    left = BUDGET // max(1, _whole(op))
    for dim, size, pinned in zip(
        reversed(op.dims), reversed(op.sizes), reversed(op.tiles), strict=True
    ):
        if pinned is None:
            most = roles.get(size.text, max(1, left))
            pinned = sizes.get(size.text) or _clipped(dim, most)
        left //= max(pinned, 1)
        chosen.insert(0, pinned)
    return _spread(op, tuple(chosen), roles, sizes, threads)


def _whole(op: control.Grid) -> int:
    """The largest extent that the body loads whole: a row of it counts against the budget."""
    spans = [v.type for o in op.body.walk() for v in o.results if isinstance(v.type, Span)]
    return max((s.size for s in spans if isinstance(s.size, int)), default=1)


def _spread(
    op: control.Grid,
    tiles: tuple[int, ...],
    roles: dict[str, int],
    sizes: dict[str, int],
    threads: int,
) -> tuple[int, ...]:
    """Smaller first tiles, where there would be fewer tasks than four a thread."""
    out = list(tiles)
    for i, (dim, size, pinned) in enumerate(zip(op.dims, op.sizes, op.tiles, strict=True)):
        free = pinned is None and size.text not in sizes and size.text not in roles
        while free and out[i] > 1 and _tasks(op, out) < 4 * threads and isinstance(dim, int):
            out[i] = -(-out[i] // 2)
    return tuple(out)


def _tasks(op: control.Grid, tiles: list[int]) -> int:
    n = 1
    for dim, t in zip(op.dims, tiles, strict=True):
        n *= -(-dim // t) if isinstance(dim, int) else 1
    return n
