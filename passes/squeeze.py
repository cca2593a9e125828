"""Tiles without axes of one element: what is one row of a tile, or one number of a row, is that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.extent import Sym, mentioned
from tilec.ir.ops import control, memory, reduce, scan, shape
from tilec.ir.types import Shape, Span, Tile, Type
from tilec.passes.parts import tile
from tilec.passes.pipeline import register
from tilec.passes.rewrite import Context, Rules, sweep

_FIRST = Rules()
_ALONG = (reduce.Reduction, scan.Scan, shape.Slice, shape.Join)
_SHAPED = (shape.Full, shape.Reshape, shape.Broadcast)
_ANY = (memory.Load, memory.Write, shape.Transpose, shape.Coordinates, shape.Start, *_SHAPED)


@register("squeeze")
def squeeze(func: Func) -> Func:
    """Drop the axes of tiles of one element: of spans that are cut so, and of ones beside them that
    a reduction leaves until a broadcast stretches them.

    Before: tile sizes are chosen. After: the spans' coordinates are numbers; a span that an op
    takes which needs the axis (a product, a sum along it) stays as it was.
    """
    func = sweep(func, _FIRST)
    dead = _dead(func)
    return func.replaced(_Squeezing(_sizes(func, dead), dead).block(func.body))


@_FIRST.pattern(shape.Reshape)
def _first_coordinate(op: shape.Reshape, c: Context) -> Value | None:
    """The first of a span's coordinates, as a number, is where it starts."""
    part = c.made.get(op.a)
    whole = c.made.get(part.a) if isinstance(part, shape.Slice) and part.start == 0 else None
    if op.shape or not isinstance(whole, shape.Coordinates):
        return None
    return c(shape.Start(whole.span))


def _dead(func: Func) -> frozenset[Op]:
    """Slices that nobody reads."""
    blocks = [func.body, *(b for op in func.walk() for b in op.blocks)]
    read = {v for op in func.walk() for v in op.operands} | {v for b in blocks for v in b.results}
    return frozenset(op for op in func.walk()
                     if isinstance(op, shape.Slice) and op.result not in read)  # fmt: skip


def _sizes(func: Func, dead: frozenset[Op]) -> frozenset[str]:
    """The size symbols of tiles of one element that every op can do without."""
    found: dict[str, bool] = {}
    for op in func.walk():
        for size, by in _cut(op):
            if isinstance(size, Sym):
                found[str(size)] = found.get(str(size), True) and by == 1
    for op in (op for op in func.walk() if op not in dead):
        for size in found:
            found[size] = found[size] and _free(op, size)
    return frozenset(size for size, free in found.items() if free)


def _cut(op: Op) -> list[tuple[Any, int | None]]:
    """The sizes of the spans that an op makes, and how many elements these have."""
    match op:
        case control.Grid():
            return list(zip(op.sizes, op.tiles, strict=True))
        case control.For():
            return [(op.size, op.tile)]
        case memory.Nth():
            return [(op.size, None)]
        case _:
            return []


def _free(op: Op, size: str) -> bool:
    """Whether an op can do without the axes of a size."""
    shapes = [v.type.shape for v in (*op.operands, *op.results) if isinstance(v.type, Tile)]
    if any(size in mentioned(d) and str(d) != size for s in shapes for d in s):
        return False
    spans = [v for v in op.operands if isinstance(v.type, Span) and str(v.type.size) == size]
    if not spans and not any(str(d) == size for s in shapes for d in s):
        return size not in mentioned(tuple(op.attributes.values())) or bool(op.blocks)
    if isinstance(op, _ALONG):
        parts = op.parts if isinstance(op, shape.Join) else (op.a,)
        return all(str(tile(v).shape[op.axis]) != size for v in parts)
    return isinstance(op, _ANY) or bool(op.blocks) or Trait.ELEMENTWISE in op.traits


@dataclass
class _Squeezing:
    """Rebuilds blocks: `to` has what stands for each value, `thin` the same without ones."""

    gone: frozenset[str]
    dead: frozenset[Op]
    to: dict[Value, Value] = field(default_factory=dict[Value, Value])
    thin: dict[Value, Value] = field(default_factory=dict[Value, Value])

    def block(self, block: Block) -> Block:
        """A block without the axes."""
        for p in block.params:
            new = self._type(p.type)
            self.to[p] = p if new == p.type else Value(new, p.hint)
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            if op not in self.dead:
                self._op(op, b)
        return Block(tuple(self.to[p] for p in block.params), tuple(b.ops),
                     tuple(self.to[v] for v in block.results))  # fmt: skip

    def _type(self, t: Type) -> Type:
        return Tile(self._kept(t.shape), t.dtype) if isinstance(t, Tile) else t

    def _kept(self, s: Shape) -> Shape:
        return tuple(d for d in s if str(d) not in self.gone)

    def _op(self, op: Op, b: Builder) -> None:
        match op:
            case memory.Load() | memory.Write():
                indices = tuple(self._index(v, b) for v in op.indices)
                self._add(op, b, indices=indices)
            case shape.Coordinates() if self._is_gone(op.span):
                self.to[op.result] = b(shape.Start(self.to[op.span]))
            case shape.Transpose():
                self._transpose(op, b)
            case shape.Reshape():
                self._reshape(op, b)
            case shape.Broadcast():
                self._broadcast(op, b)
            case shape.Full():
                self._add(op, b, shape=self._kept(op.shape))
            case reduce.Reduction() | scan.Scan() | shape.Slice() | shape.Join():
                source = tile(op.parts[0] if isinstance(op, shape.Join) else op.a).shape
                self._add(op, b, axis=len(self._kept(source[: op.axis])))
            case _ if Trait.ELEMENTWISE in op.traits and any(v in self.thin for v in op.operands):
                self._elementwise(op, b)
            case _:
                self._add(op, b)

    def _add(self, op: Op, b: Builder, **changed: Any) -> None:
        b.copy(op, self.to, self.block, **changed)

    def _is_gone(self, v: Value) -> bool:
        return isinstance(v.type, Span) and str(v.type.size) in self.gone

    def _index(self, v: Value, b: Builder) -> Value:
        return b(shape.Start(self.to[v])) if self._is_gone(v) else self.to[v]

    def _transpose(self, op: shape.Transpose, b: Builder) -> None:
        kept = [i for i, d in enumerate(tile(op.a).shape) if str(d) not in self.gone]
        order = tuple(kept.index(i) for i in op.order if i in kept)
        if order == tuple(range(len(order))):
            self.to[op.result] = self.to[op.a]
        else:
            self._add(op, b, order=order)

    def _reshape(self, op: shape.Reshape, b: Builder) -> None:
        """Of a shape with ones its thin form is remembered."""
        shape_ = self._kept(op.shape)
        self.to[op.result] = _reshaped(self.to[op.a], shape_, b)
        source = self.thin.get(op.a, self.to[op.a])
        if 1 in shape_ and tile(source).shape == _without_ones(shape_):
            self.thin[op.result] = source

    def _elementwise(self, op: Op, b: Builder) -> None:
        """Computed without ones, and given them back for who needs them."""
        thin = {v: _reshaped(self.thin.get(v, self.to[v]), _without_ones(tile(self.to[v]).shape), b)
                for v in op.operands}  # fmt: skip
        new = b(op.rebuilt(thin))
        self.thin[op.result] = new
        self.to[op.result] = _reshaped(new, self._kept(tile(op.result).shape), b)

    def _broadcast(self, op: shape.Broadcast, b: Builder) -> None:
        """An axis that is gone from the result goes from the operand too."""
        whole, own = op.shape, tile(op.a).shape
        tail = whole[len(whole) - len(own) :]
        kept = tuple(d for d, t in zip(own, tail, strict=True)
                     if str(d) not in self.gone and str(t) not in self.gone)  # fmt: skip
        source = self.thin.get(op.a, self.to[op.a])
        if tile(source).shape and tile(source).shape != kept:
            source = _reshaped(self.to[op.a], kept, b)
        shape_ = self._kept(whole)
        if 1 in shape_ and tile(source).shape == _without_ones(shape_):
            self.thin[op.result] = source
        self.to[op.result] = (
            source if tile(source).shape == shape_ else b(shape.Broadcast(source, shape_))
        )


def _without_ones(s: Shape) -> Shape:
    return tuple(d for d in s if d != 1)


def _reshaped(v: Value, s: Shape, b: Builder) -> Value:
    return v if tile(v).shape == s else b(shape.Reshape(v, s))
