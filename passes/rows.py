"""Rows of two formats: a grid over them becomes one for each, which reads and writes by row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tilec.ir.composed import Mixed
from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.format import Dense
from tilec.ir.ops import control, memory, shape
from tilec.ir.types import Memory, Shape, Span, Tile, specialise
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
        if loads(op, mixed):
            ops += [_copied(op, mixed, *part, i) for i, part in enumerate(parts)]
        else:
            ops.append(op)
    params = [v for p in func.params for v in ([x for pair in parts for x in pair]
                                               if p is mixed else [p])]  # fmt: skip
    return func.replaced(Block(tuple(params), tuple(ops)))


def loads(op: Op, mem: Value) -> list[memory.Load]:
    """The loads of a memory in an op and its blocks."""
    inside = [op, *(o for b in op.blocks for o in b.walk())]
    return [o for o in inside if isinstance(o, memory.Load) and o.mem is mem]


def _copied(op: Op, mixed: Value, rows: Value, part: Value, number: int) -> Op:
    """A grid over the rows of one part."""
    used = {o.indices[0] for o in loads(op, mixed)}
    axes = [i for i, p in enumerate(op.blocks[0].params) if p in used] if op.blocks else []
    if not isinstance(op, control.Grid) or len(used) != 1 or len(axes) != 1:
        raise TileError(f"`{mixed.hint}` has rows of two widths: they are read along one "
                        "dimension of the grid", op.loc)  # fmt: skip
    (at,) = axes
    copy = Copy(mixed, part, 1, number)
    assert isinstance(part.type, Memory)
    spans = copy.spans(op, {at: part.type.shape[0]})
    copy.own = spans[at]
    b = Builder(loc=op.loc)
    places = b(memory.Load(rows, (copy.own,)))
    span = op.body.params[at]
    copy.index[span] = copy.known[shape.Coordinates, span] = places
    copy.ops(op.body.ops, b)
    return copy.grid(op, spans, op.tiles, b)


class Copy:
    """A grid once more, with a part in the place of a whole memory, or zeros.

    `own`, a span of the part's rows, stands for the first `lead` indices of the whole; in other
    memory `index` stands for spans that the copy lacks, and `known` is what ops of those give.
    """

    def __init__(self, whole: Value, part: Value | None, lead: int, number: int) -> None:
        self.whole, self.part, self.lead, self.number = whole, part, lead, number
        self.to: dict[Value, Value] = {}
        self.sizes: dict[str, Extent] = {}
        self.own: Value | None = None
        self.index: dict[Value, Value] = {}
        self.known: dict[tuple[type[Op], Value], Value] = {}

    def spans(self, op: control.Grid, dims: dict[int, Extent]) -> list[Value]:
        """Spans like those of a grid, some over other dimensions."""
        new = [Value(Span(dims.get(i, d), self._renamed(s)))
               for i, (d, s) in enumerate(zip(op.dims, op.sizes, strict=True))]  # fmt: skip
        self.to.update(zip(op.body.params, new, strict=True))
        return new

    def grid(self, op: control.Grid, spans: list[Value], tiles: tuple[int | None, ...],
             b: Builder) -> Op:  # fmt: skip
        """A grid over these spans, whose body is what `b` holds."""
        types = [s.type for s in spans if isinstance(s.type, Span)]
        dims, sizes = tuple(t.dim for t in types), tuple(t.size for t in types)
        return control.Grid(dims, sizes, tiles, Block(tuple(spans), tuple(b.ops))).placed(op.loc)

    def _renamed(self, size: Extent) -> Extent:
        """The size of a copied loop: another name in all copies but the first."""
        if isinstance(size, int):
            return size
        suffix = f"_{self.whole.hint.replace('.', '_')}{self.number}" if self.number else ""
        self.sizes[size.text] = Sym(f"{size}{suffix}")
        return self.sizes[size.text]

    def ops(self, ops: Iterable[Op], b: Builder) -> None:
        """Ops of the grid once more."""
        for op in ops:
            self._op(op, b)

    def _op(self, op: Op, b: Builder) -> None:
        b.loc = op.loc
        if isinstance(op, memory.Load | memory.Write):
            self._access(op, b)
            return
        if isinstance(op, shape.Coordinates | shape.Start) and (type(op), op.span) in self.known:
            self.to[op.result] = self.known[type(op), op.span]
            return
        if self.index.keys() & {*op.operands}:
            raise TileError(f"{op.name}: the rows of `{self.whole.hint}` have no order", op.loc)
        changed: dict[str, Any] = {}
        if isinstance(op, control.For):
            self._renamed(op.size)
        for name in op.fields("block"):
            changed[name] = getattr(op, name) and self._block(getattr(op, name))
        for name, value in op.attributes.items():
            changed[name] = attribute(value, self.sizes)
        new = b.add(op.rebuilt(self.to, **changed))
        self.to.update(zip(op.results, new.results, strict=True))

    def _block(self, block: Block) -> Block:
        for p in block.params:
            self.to[p] = Value(specialise(p.type, self.sizes), p.hint)
        b = Builder()
        self.ops(block.ops, b)
        return Block(tuple(self.to[p] for p in block.params), tuple(b.ops),
                     tuple(self.to.get(v, v) for v in block.results))  # fmt: skip

    def _access(self, op: memory.Load | memory.Write, b: Builder) -> None:
        """A load or write: of the part by its own rows, of other memory by what stands for it."""
        new: Op = op
        if op.mem is not self.whole:
            new = op.rebuilt(self.to | self.index)
        elif self.part is None:
            assert isinstance(op.result.type, Tile)
            size: Shape = attribute(op.result.type.shape, self.sizes)
            new = shape.Full(size, 0.0, op.result.type.dtype)
        else:
            assert self.own is not None
            rest = (self.to.get(i, i) for i in op.indices[self.lead :])
            new = memory.Load(self.part, (self.own, *rest))
        self.to.update(zip(op.results, b.add(new).results, strict=True))
