"""Results of which only some elements are stored: a loop over these in a grid over the rows."""

from __future__ import annotations

from tilec.ir.core import Block, Func, Op, Trait
from tilec.ir.errors import TileError
from tilec.ir.ops import control, memory
from tilec.ir.sparse import Sparse
from tilec.ir.types import Memory


def looped(func: Func) -> Func:
    """The function with a loop over columns in every grid that stores to a sparse tensor.

    Raises TileError where such a grid writes anything else, or writes other tiles than its own.
    """
    ops = tuple(_looped(op) if _sparse_stores(op) else op for op in func.body.ops)
    same = all(a is b for a, b in zip(ops, func.body.ops, strict=True))
    return func if same else func.replaced(Block(func.params, ops))


def _sparse_stores(op: Op) -> list[memory.Write]:
    """What an op writes to sparse tensors."""
    inside = [op, *(o for b in op.blocks for o in b.walk())]
    return [o for o in inside if isinstance(o, memory.Write) and isinstance(o.mem.type, Memory)
            and isinstance(o.mem.type.format, Sparse)]  # fmt: skip


def _looped(op: Op) -> Op:
    stores = _sparse_stores(op)
    name = stores[0].mem.hint
    problem = TileError(
        f"`{name}` is stored sparsely: expected a grid that writes nothing but {name}[m, n], where "
        "m and n are its dimensions", stores[0].loc,
    )  # fmt: skip
    if not isinstance(op, control.Grid) or len(stores) != 1 or stores[0] not in op.body.ops:
        raise problem
    row, column = stores[0].indices
    writing = [o for o in op.body.walk() if Trait.WRITES in o.traits and not o.blocks]
    spans = {*op.body.params}
    if not isinstance(stores[0], memory.Store) or len(writing) != 1 or not {row, column} <= spans:
        raise problem
    at = op.body.params.index(column)
    body = Block((column,), op.body.ops)
    loop = control.For(op.dims[at], op.sizes[at], op.tiles[at], (), body).placed(op.loc)
    rest = [i for i in range(len(op.dims)) if i != at]
    dims, sizes = (tuple(x[i] for i in rest) for x in (op.dims, op.sizes))
    params, tiles = tuple(op.body.params[i] for i in rest), tuple(op.tiles[i] for i in rest)
    return control.Grid(dims, sizes, tiles, Block(params, (loop,))).placed(op.loc)
