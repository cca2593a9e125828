"""Products with a list of elements: a task takes some of them, and adds to the rows of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.dtype import f32, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.sparse import Coo
from tilec.ir.sparse.stored import VALUES
from tilec.ir.types import Memory, Span
from tilec.passes import stored
from tilec.passes.parts import as_f32, tile
from tilec.passes.specialise import attribute

STEP = 64  # elements that a task takes
PURE = (shape.Transpose, Cast)


def by_entries(func: Func, p: Value) -> Func:
    """The function with the components of a list of elements in the place of one parameter.

    Every grid that multiplies by it becomes one that stores zeros and one over the elements. Raises
    TileError where a grid does anything else with it than y[m, n] = sum_k x[m, k] * w[n, k].
    """
    assert isinstance(p.type, Memory)
    assert isinstance(p.type.format, Coo)
    mems = stored.memories(p.type.format, p)
    ops: list[Op] = []
    for op in func.body.ops:
        reads = any(p in o.operands for o in [op, *(o for b in op.blocks for o in b.walk())])
        ops += _Product(op, p, mems).grids() if reads else [op]
    params = [v for q in func.params for v in (mems.values() if q is p else [q])]
    return func.replaced(Block(tuple(params), tuple(ops)))


@dataclass(frozen=True)
class _Parts:
    """What a grid of a product is made of."""

    loop: control.For
    load: memory.Load
    dot: reduce.Dot
    store: memory.Store


class _Product:
    """A grid that multiplies by a list of elements."""

    def __init__(self, grid: Op, p: Value, mems: dict[str, Value]) -> None:
        self.grid, self.p, self.mems = grid, p, mems
        self.parts = self._parts()
        self.to: dict[Value, Value] = {}

    def _parts(self) -> _Parts:
        """The loop, the product and the store. Raises TileError where there is more."""
        body = self.grid.blocks[0] if isinstance(self.grid, control.Grid) else Block((), ())
        loops = [op for op in body.ops if isinstance(op, control.For)]
        stores = [op for op in body.ops if isinstance(op, memory.Store)]
        inner = loops[0].body.ops if len(loops) == 1 else ()
        loads = [op for op in inner if isinstance(op, memory.Load) and op.mem is self.p]
        dots = [op for op in inner if isinstance(op, reduce.Dot)]
        if not (len(loads) == len(dots) == len(stores) == 1):
            raise self._refused()
        found = _Parts(loops[0], loads[0], dots[0], stores[0])
        made = {v: op for op in (*body.ops, *inner) for v in op.results}
        start = made.get(found.loop.init[0]) if len(found.loop.init) == 1 else None
        (m, n), loop = _axes(found), found.loop
        rest = {op for op in body.ops if op not in (loop, start, found.store)}
        plain = (
            isinstance(start, shape.Full) and start.value == 0 and not rest
            and loop.stop is None and loop.first is None
            and not any(Trait.WRITES in op.traits for op in inner)
            and loop.body.results == (found.dot.result,) and found.dot.scale is None
            and found.store.value is loop.results[0] and found.store.mask is None
            and tile(found.store.value).dtype == f32
            and _bare(found.dot.b, made) is found.load.result
            and found.load.indices == (n, loop.body.params[0])
            and {m, n} <= {*body.params}
        )  # fmt: skip
        if not plain:
            raise self._refused()
        return found

    def _refused(self) -> TileError:
        return TileError(
            f"`{self.p.hint}` is a list of elements: expected y[m, n] = sum over k of "
            "dot(x[m, k], w[n, k].T) in f32", self.grid.loc, hint="csr<...> has its rows in order",
        )  # fmt: skip

    def grids(self) -> list[Op]:
        """A grid that stores zeros, and one over the elements."""
        return [self._zeros(), self._sums()]

    def _zeros(self) -> Op:
        grid, store = self.grid, self.parts.store
        assert isinstance(grid, control.Grid)
        sizes = tuple(Sym(f"{s}_zeros") for s in grid.sizes)
        spans = tuple(Value(Span(d, s)) for d, s in zip(grid.dims, sizes, strict=True))
        to = dict(zip(grid.body.params, spans, strict=True))
        b, indices = Builder(loc=grid.loc), tuple(to[i] for i in store.indices)
        zeros = b(
            shape.Full(tuple(i.type.size for i in indices if isinstance(i.type, Span)), 0.0, f32)
        )
        b.add(memory.Store(store.mem, indices, zeros))
        return control.Grid(grid.dims, sizes, grid.tiles, Block(spans, tuple(b.ops))).placed(
            grid.loc
        )

    def _sums(self) -> Op:
        """y[m, row[i]] += x[m, column[i]] * value[i] for tiles of elements."""
        grid, loop = self.grid, self.parts.loop
        assert isinstance(grid, control.Grid)
        n = _axes(self.parts)[1]
        b, at = Builder(loc=self.parts.dot.loc), grid.body.params.index(n)
        room = self._room()
        entries = Value(Span(room, Sym(f"{grid.sizes[at]}_entries")), "i")
        rows = b(memory.Load(self.mems["row"], (entries,)))
        columns = b(memory.Load(self.mems["column"], (entries,)))
        sizes: dict[str, Extent] = {str(loop.size): Sym(f"{grid.sizes[at]}_entries")}
        left = self._left(columns, sizes, b)
        none = b(shape.Full((), 0, i32))
        values = as_f32(b, b(memory.Load(self.mems[VALUES], (none, entries))))
        spread = b(shape.Broadcast(values, tile(left).shape))
        places = tuple(rows if i is n else i for i in self.parts.store.indices)
        b.add(memory.Accumulate(self.parts.store.mem, places, b(arith.Mul(left, spread))))
        params = tuple(entries if p is n else p for p in grid.body.params)
        spans = [p.type for p in params if isinstance(p.type, Span)]
        tiles = tuple(STEP if p is entries else t for p, t in zip(params, grid.tiles, strict=True))
        return control.Grid(tuple(s.dim for s in spans), tuple(s.size for s in spans), tiles,
                            Block(params, tuple(b.ops))).placed(grid.loc)  # fmt: skip

    def _room(self) -> Extent:
        row = self.mems["row"].type
        assert isinstance(row, Memory)
        return row.shape[0]

    def _left(self, columns: Value, sizes: dict[str, Extent], b: Builder) -> Value:
        """The first operand at the columns of the elements, in f32."""
        loop, dot = self.parts.loop, self.parts.dot
        self.to[loop.body.params[0]] = columns
        for op in loop.body.ops:
            if op in (dot, self.parts.load) or self.parts.load.result in op.operands:
                continue
            if isinstance(op, shape.Coordinates) and op.span is loop.body.params[0]:
                self.to[op.result] = columns
                continue
            changed: dict[str, Any] = {k: attribute(v, sizes) for k, v in op.attributes.items()}
            b.copy(op, self.to, lambda block: block, **changed)
        return as_f32(b, self.to[dot.a])


def _axes(parts: _Parts) -> tuple[Value, Value]:
    """The rows and columns of the result."""
    m, n = parts.store.indices if len(parts.store.indices) == 2 else (parts.store.mem,) * 2
    return m, n


def _bare(v: Value, made: dict[Value, Op]) -> Value:
    """What a value is before it is turned or cast."""
    op = made.get(v)
    return _bare(op.operands[0], made) if isinstance(op, PURE) else v
