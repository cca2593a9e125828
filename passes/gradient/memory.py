"""What a function's memories hold between its stores and its loads."""

from __future__ import annotations

from collections.abc import Mapping

from tilec.ir.core import Func, Op, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops import arith, control, memory, shape
from tilec.ir.types import Memory, Span

Made = Mapping[Value, Op]
WHOLE = "derivatives are of expressions of whole tensors"


def whole(indices: tuple[Value, ...], made: Made) -> bool:
    """Whether indices are all of a memory, in its order."""
    spans = [made.get(v) for v in indices]
    return all(isinstance(s, memory.Whole) and s.size in (None, s.dim) and not s.start
               for s in spans)  # fmt: skip


def repeated(op: memory.Load, made: Made) -> tuple[int, int] | None:
    """The axis of which a load reads each coordinate r times, by i // r for every i, and r.

    So heads share keys. The other dims are read whole.
    """
    assert isinstance(op.mem.type, Memory)
    tiles = [i for i, v in enumerate(op.indices) if not isinstance(v.type, Span)]
    rest = tuple(v for i, v in enumerate(op.indices) if i not in tiles)
    if len(tiles) != 1 or not whole(rest, made):
        return None
    index, dim = made.get(op.indices[tiles[0]]), op.mem.type.shape[tiles[0]]
    if not isinstance(index, arith.FloorDiv):
        return None
    count, by = _counted(index.a, made), made.get(_one(index.b, made))
    if not isinstance(by, shape.Full) or not isinstance(dim, int) or count != dim * by.value:
        return None
    return tiles[0], int(by.value)


def _counted(v: Value, made: Made) -> Extent | None:
    """n, if a tile is 0, 1, ... n - 1."""
    op = made.get(v)
    if isinstance(op, shape.Coordinates) and whole((op.span,), made):
        assert isinstance(op.span.type, Span)
        return op.span.type.size
    return op.size if isinstance(op, shape.Iota) else None


def _one(v: Value, made: Made) -> Value:
    """The scalar that a tile repeats."""
    op = made.get(v)
    return op.a if isinstance(op, shape.Broadcast) else v


def by_kernels(func: Func) -> dict[Value, Op]:
    """The memories that grids write, each with an op that does."""
    grids = (op for op in func.body.ops if isinstance(op, control.Grid))
    return {mem: op for grid in grids for mem, op in _written(grid).items()}


def _written(grid: control.Grid) -> dict[Value, Op]:
    return {op.mem: op for op in grid.body.walk() if isinstance(op, memory.Write)}


def straight(func: Func) -> list[Op]:
    """The ops outside of grids, with what was stored in place of loads of it.

    Raises TileError for a load of what a kernel or a store of parts left, and for loops.
    """
    ops: list[Op] = []
    to: dict[Value, Value] = {}
    made: dict[Value, Op] = {}
    held: dict[Value, Value | None] = {}  # by memory that was written; None: nobody knows
    for old in func.body.ops:
        if isinstance(old, control.Grid):
            held.update(dict.fromkeys(_written(old)))
            continue
        if old.blocks:
            raise TileError(f"gradient: `{old.name}` outside of a kernel has no derivative",
                            old.loc)  # fmt: skip
        op = old if to.keys().isdisjoint(old.operands) else old.rebuilt(to)
        if isinstance(op, memory.Load) and op.mem in held:
            to[old.result] = _given_on(op, held[op.mem], made)
            continue
        if isinstance(op, memory.Write):
            all_of_it = isinstance(op, memory.Store) and op.mask is None
            held[op.mem] = op.value if all_of_it and whole(op.indices, made) else None
        to.update(zip(old.results, op.results, strict=True) if op is not old else ())
        made.update(dict.fromkeys(op.results, op))
        ops.append(op)
    return ops


def _given_on(op: memory.Load, value: Value | None, made: Made) -> Value:
    """What a load of stored memory reads."""
    if value is None or not whole(op.indices, made):
        raise TileError(
            f"gradient: `{op.mem.hint}` is read after a kernel or a store of a part wrote it",
            op.loc, WHOLE,
        )  # fmt: skip
    return value
