"""Rows of two formats: a grid over them becomes one for each, which reads and writes by row."""

from __future__ import annotations

from typing import Any

from tilec.ir.composed import Mixed
from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.format import Dense
from tilec.ir.ops import control, memory, shape
from tilec.ir.types import Memory, Span, specialise
from tilec.passes.specialise import attribute


def split_rows(func: Func, mixed: Value) -> Func:
    """The function with two parameters, and their rows, in the place of a mixed one.

    Raises TileError where the rows are not those of a grid's dimension.
    """
    assert isinstance(mixed.type, Memory)
    assert isinstance(mixed.type.format, Mixed)
    parts = [
        (Value(Memory((size[0],), Dense(i32)), f"{mixed.hint}.{i}.rows"),
         Value(Memory(size, format), f"{mixed.hint}.{i}"))
        for i, (format, size) in enumerate(mixed.type.format.split(mixed.type.shape))
    ]  # fmt: skip
    ops: list[Op] = []
    for op in func.body.ops:
        if any(isinstance(o, memory.Load) and o.mem is mixed for o in [op, *_inside(op)]):
            ops += [_Copy(mixed, *part, i).grid(op) for i, part in enumerate(parts)]
        else:
            ops.append(op)
    params = [v for p in func.params for v in ([x for pair in parts for x in pair]
                                               if p is mixed else [p])]  # fmt: skip
    return func.replaced(Block(tuple(params), tuple(ops)))


def _inside(op: Op) -> list[Op]:
    return [o for b in op.blocks for o in b.walk()]


class _Copy:
    """A grid once more, over the rows of one part; what it made before stands in `to`."""

    def __init__(self, mixed: Value, rows: Value, part: Value, number: int) -> None:
        self.mixed, self.rows, self.part, self.number = mixed, rows, part, number
        self.to: dict[Value, Value] = {}
        self.known: dict[str, Extent] = {}
        self.span: Value | None = None  # of the whole tensor's rows, in the original
        self.own: Value | None = None  # of the part's rows
        self.places: Value | None = None  # the rows that these are of the whole

    def grid(self, op: Op) -> Op:
        """The copy of a grid."""
        used = {o.indices[0] for o in _inside(op)
                if isinstance(o, memory.Load) and o.mem is self.mixed}  # fmt: skip
        axes = [i for i, p in enumerate(op.blocks[0].params) if p in used] if op.blocks else []
        if not isinstance(op, control.Grid) or len(used) != 1 or len(axes) != 1:
            raise TileError(f"`{self.mixed.hint}` has rows of two widths: they are read along one "
                            "dimension of the grid", op.loc)  # fmt: skip
        at = axes[0]
        self.span = op.body.params[at]
        assert isinstance(self.part.type, Memory)
        dims = [*op.dims]
        dims[at] = self.part.type.shape[0]
        sizes = tuple(self._renamed(s) for s in op.sizes)
        spans = [Value(Span(d, s)) for d, s in zip(dims, sizes, strict=True)]
        self.to.update(zip(op.body.params, spans, strict=True))
        self.own = spans[at]
        b = Builder(loc=op.loc)
        self.places = b(memory.Load(self.rows, (self.own,)))
        for inner in op.body.ops:
            self._op(inner, b)
        block = Block(tuple(spans), tuple(b.ops))
        return control.Grid(tuple(dims), sizes, op.tiles, block).placed(op.loc)

    def _renamed(self, size: Sym) -> Sym:
        """The size of a copied loop: another name in all copies but the first."""
        new = Sym(f"{size}_{self.number}") if self.number else size
        self.known[size.text] = new
        return new

    def _op(self, op: Op, b: Builder) -> None:
        b.loc = op.loc
        if isinstance(op, memory.Load | memory.Store):
            self._access(op, b)
            return
        if isinstance(op, shape.Coordinates) and op.span is self.span:
            assert self.places is not None
            self.to[op.result] = self.places
            return
        if self.span in op.operands:
            raise TileError(f"{op.name}: the rows of `{self.mixed.hint}` have no order", op.loc)
        changed: dict[str, Any] = {}
        if isinstance(op, control.For):
            self._renamed(op.size)
        for name in op.fields("block"):
            changed[name] = getattr(op, name) and self._block(getattr(op, name))
        for name, value in op.attributes.items():
            changed[name] = attribute(value, self.known)
        new = b.add(op.rebuilt(self.to, **changed))
        self.to.update(zip(op.results, new.results, strict=True))

    def _block(self, block: Block) -> Block:
        for p in block.params:
            self.to[p] = Value(specialise(p.type, self.known), p.hint)
        b = Builder()
        for op in block.ops:
            self._op(op, b)
        return Block(tuple(self.to[p] for p in block.params), tuple(b.ops),
                     tuple(self.to.get(v, v) for v in block.results))  # fmt: skip

    def _access(self, op: memory.Load | memory.Store, b: Builder) -> None:
        """A load or store: of the part by its own rows, of other memory by the rows' places."""
        ours = op.mem is self.mixed
        rows = self.own if ours else self.places
        assert rows is not None
        to = self.to | ({self.span: rows} if self.span is not None else {})
        to |= {self.mixed: self.part}
        new = b.add(op.rebuilt(to))
        self.to.update(zip(op.results, new.results, strict=True))
