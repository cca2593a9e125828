"""Tiles of fixed sizes: what lies beyond a dimension's end is in them, and masked where it counts.

A machine with threads holds tiles whole. Until here a tile at the end of a dimension is clipped;
from here on its size is a number, elements outside memory are read as 0 and not written, and
reductions, products and stores leave out what is not of the dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import DType, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, names, substitute
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Memory, Span, Tile, Type
from tilec.passes.parts import tile
from tilec.passes.pipeline import register


@register("pad")
def pad(func: Func, *, least: int = 16) -> Func:
    """Give every tile a size that is a number: of each axis the next power of two.

    The sides of products are at least `least`. Before: extents are numbers, tile sizes are chosen,
    formats are lowered. After: no size symbol is left in a type.
    """
    if _padded(func):
        return func
    return func.replaced(_Padding(_sides(func, least)).block(func.body, {}))


def _padded(func: Func) -> bool:
    """Whether the sizes of all spans are numbers of this pass's choice."""
    sizes: list[Extent | None] = []
    for op in func.walk():
        match op:
            case control.Grid():
                sizes += op.sizes
            case control.For() | memory.Whole():
                sizes.append(op.size)
            case _:
                pass
    return bool(sizes) and all(isinstance(s, int) for s in sizes)


def _sides(func: Func, least: int) -> dict[str, int]:
    """The least size of the axes of products."""
    found: dict[str, int] = {}
    for op in func.walk():
        if isinstance(op, reduce.Dot):
            for v in (op.a, op.b):
                found |= {str(d): least for d in tile(v).shape if d != 1}
    return found


@dataclass(frozen=True)
class _Axis:
    """What a size symbol was the size of: a span of at most `tile` coordinates below `dim`, and
    below `stop` if that is given."""

    span: Value
    dim: Extent
    tile: int
    size: int
    stop: Value | None = None

    @property
    def in_memory(self) -> bool:
        """Whether what is left out lies outside of the dimension."""
        return self.size == self.tile and self.stop is None

    @property
    def exact(self) -> bool:
        """Whether nothing has to be left out."""
        return self.in_memory and isinstance(self.dim, int) and self.dim % self.tile == 0


class _Padding:
    """The rewriting of one function."""

    def __init__(self, least: dict[str, int]) -> None:
        self.least = least
        self.axes: dict[str, _Axis] = {}
        self.to: dict[Value, Value] = {}
        self.made: dict[Value, Op] = {}

    # -- sizes --

    def size(self, e: Extent) -> int:
        """How many elements an axis has from now on."""
        if isinstance(e, int):
            return _power(max(e, self.least.get(str(e), 1)))
        if e.is_name:
            return self.axes[e.text].size
        known = self._number(e)
        assert isinstance(known, int)
        return known

    def exact(self, e: Extent) -> bool:
        """Whether an axis has no elements that are to be left out."""
        if isinstance(e, int):
            return self.size(e) == e
        return all(self.axes[n].exact for n in names(e))

    def type(self, t: Type) -> Type:
        """A type with numbers for sizes."""
        match t:
            case Tile():
                return Tile(tuple(map(self.size, t.shape)), t.dtype)
            case Span():
                return Span(t.dim, self.size(t.size))
            case Memory():
                return t

    def inside(self, e: Extent, b: Builder) -> Value:
        """Which elements of an axis count: bool[size]."""
        if isinstance(e, int):
            size = self.size(e)
            return b(arith.Lt(b(shape.Iota(size)), b(shape.Full((size,), e, i32))))
        if not e.is_name:
            raise TileError(f"pad: an axis of {e} elements ends within a tile", b.loc,
                            hint="a size that divides the dimension")  # fmt: skip
        axis = self.axes[e.text]
        at = b(shape.Coordinates(axis.span))
        ends = [b(shape.Full((axis.size,), axis.dim, i32))] if isinstance(axis.dim, int) else []
        if axis.stop is not None:
            stop = axis.stop if tile(axis.stop).dtype == i32 else b(Cast(axis.stop, i32))
            ends.append(b(shape.Broadcast(stop, (axis.size,))))
        found = b(arith.Lt(at, ends[0]))
        for end in ends[1:]:
            found = b(arith.And(found, b(arith.Lt(at, end))))
        if axis.size == axis.tile:
            return found
        last = b(shape.Full((axis.size,), axis.tile, i32))
        return b(arith.And(found, b(arith.Lt(b(shape.Iota(axis.size)), last))))

    def among(self, e: Extent, axis: int, sizes: tuple[Extent, ...], b: Builder) -> Value:
        """Which elements of a tile of these sizes count along one axis."""
        own = tuple(n if i == axis else 1 for i, n in enumerate(sizes))
        found = self.inside(e, b)
        found = found if len(sizes) == 1 else b(shape.Reshape(found, own))
        return b(shape.Broadcast(found, sizes))

    # -- ops --

    def block(self, block: Block, axes: dict[str, _Axis]) -> Block:
        """A block with sizes; `axes` are those that its parameters bring."""
        self.axes |= axes
        for p in block.params:
            if p not in self.to:
                self.to[p] = Value(self.type(p.type), p.hint)
        b = Builder()
        for op in block.ops:
            b.loc = op.loc
            self.op(op, b)
        return Block(tuple(self.to[p] for p in block.params), tuple(b.ops),
                     tuple(self.to[v] for v in block.results))  # fmt: skip

    def op(self, op: Op, b: Builder) -> None:
        """One op with sizes, and the masks that it needs."""
        self.made.update(dict.fromkeys(op.results, op))
        match op:
            case control.Grid() | control.For():
                self._loop(op, b)
            case reduce.Dot():
                changed = {
                    n: self._without(getattr(op, n), axis, 0, b)
                    for n, axis in (("a", 1), ("b", 0))
                    if not self._zero(getattr(op, n))
                }
                self._add(op, b, changed)
            case reduce.Reduction():
                neutral = _neutral(op.name, tile(op.a).dtype)
                self._add(op, b, {"a": self._without(op.a, op.axis, neutral, b)})
            case memory.Store():
                self._add(op, b, {"mask": self._mask(op, b)})
            case memory.Whole():
                self._add(op, b, {"size": self.size(op.dim)})
            case shape.Size() if isinstance(op.dim, Sym):
                raise TileError(f"pad: the extent {op.dim} of a tile is no number", op.loc)
            case shape.Slice() | shape.Join() | shape.Reshape():
                self._moved(op, b)
            case _:
                inner = {n: getattr(op, n) for n in op.fields("block")}
                self._add(op, b, {n: v and self.block(v, {}) for n, v in inner.items()})

    def _add(self, op: Op, b: Builder, changed: dict[str, Any]) -> None:
        if "shape" in op.attributes:
            changed["shape"] = tuple(map(self.size, op.attributes["shape"]))
        if isinstance(op, shape.Iota):
            changed["size"] = self.size(op.size)
        new = op.rebuilt(self.to, **changed)
        b.add(new)
        self.to.update(zip(op.results, new.results, strict=True))

    def _loop(self, op: control.Grid | control.For, b: Builder) -> None:
        """A loop whose spans have sizes."""
        grid = isinstance(op, control.Grid)
        dims, sizes = (op.dims, op.sizes) if grid else ((op.dim,), (op.size,))
        tiles = op.tiles if grid else (op.tile,)
        stop = None if grid or op.stop is None else self.to.get(op.stop, op.stop)
        axes: dict[str, _Axis] = {}
        for p, dim, size, t in zip(op.body.params, dims, sizes, tiles, strict=False):
            if t is None or not isinstance(size, Sym):
                raise TileError(f"pad: the tile size `{size}` is not chosen", op.loc,
                                hint="run the pass `tile` first")  # fmt: skip
            whole = _power(max(t, self.least.get(size.text, 1)))
            self.to[p] = Value(Span(dim, whole), p.hint)
            axes[size.text] = _Axis(self.to[p], dim, t, whole, stop)
        body = self.block(op.body, axes)
        spans = [p.type for p in body.params[: len(dims)]]
        numbers = tuple(s.size for s in spans if isinstance(s, Span))
        self._add(op, b, {"body": body, **({"sizes": numbers} if grid else {"size": numbers[0]})})

    def _without(self, v: Value, axis: int, neutral: float | int, b: Builder) -> Value:
        """A tile with a neutral number where an axis has elements that do not count."""
        e, new = tile(v).shape[axis], self.to[v]
        if self.exact(e):
            return new
        t = tile(new)
        counts = self.among(e, axis, t.shape, b)
        return b(arith.Where(counts, new, b(shape.Full(t.shape, neutral, t.dtype))))

    def _zero(self, v: Value) -> bool:
        """Whether a tile is 0 wherever it lies outside of its dimensions."""
        op = self.made.get(v)
        if isinstance(op, shape.Transpose | Cast):
            return self._zero(op.a)
        if not isinstance(op, memory.Load):
            return False
        return all(self._in_memory(i) for i in op.indices)

    def _in_memory(self, index: Value) -> bool:
        """Whether an index leaves out just what lies outside of the memory."""
        if not isinstance(index.type, Span):
            return False
        size = index.type.size
        return isinstance(size, int) or self.axes[str(size)].in_memory

    def _mask(self, op: memory.Store, b: Builder) -> Value | None:
        """Which elements a store writes, where its indices alone do not say."""
        value = tile(op.value)
        sizes = tile(self.to[op.value]).shape
        found = None if op.mask is None else self.to[op.mask]
        for axis, e in enumerate(value.shape):
            if self.exact(e) or self._in_memory(_index_of(op, axis)):
                continue
            mask = self.among(e, axis, sizes, b)
            found = mask if found is None else b(arith.And(found, mask))
        return found

    def _moved(self, op: shape.Slice | shape.Join | shape.Reshape, b: Builder) -> None:
        """An op that moves elements along axes: those that change have nothing to leave out."""
        shapes = [tile(v).shape for v in (*op.operands, op.result)]
        if isinstance(op, shape.Reshape):
            moved = {e for s in shapes for e in s} if _flat(shapes) else set[Extent]()
        else:
            axis: int = op.attributes["axis"]
            moved = {s[axis] for s in shapes}
        for e in moved:
            if not self.exact(e):
                raise TileError(f"pad: {op.name} of an axis of {e}, which ends within a tile",
                                op.loc, hint="a power of two")  # fmt: skip
        ends = ("start", "stop") if isinstance(op, shape.Slice) else ()
        self._add(op, b, {n: self._number(op.attributes[n]) for n in ends})

    def _number(self, e: Extent) -> Extent:
        """A place along an axis that has nothing to leave out."""
        return substitute(e, {n: self.axes[n].size for n in names(e)})


def _flat(shapes: list[tuple[Extent, ...]]) -> bool:
    """Whether axes are merged or split, not only put at 1."""
    return len({tuple(e for e in s if e != 1) for s in shapes}) > 1 and len(shapes) == 2


def _index_of(op: memory.Store, axis: int) -> Value:
    """The index that gives an axis of the value."""
    at = 0
    joint = False
    for v in op.indices:
        rank = 1 if isinstance(v.type, Span) else tile(v).rank
        if rank and not (joint and not isinstance(v.type, Span)):
            if at <= axis < at + rank:
                return v
            at += rank
        joint = joint or (rank > 0 and not isinstance(v.type, Span))
    raise TileError(f"store: no index gives axis {axis}", op.loc)


def _neutral(name: str, t: DType) -> float | int:
    """What changes no result of a reduction."""
    if name == "sum":
        return 0
    if not t.is_float:
        return int(t.high if name == "min" else t.low)
    most = float("inf") if t.infinite else float(t.high)
    return most if name == "min" else -most


def _power(n: int) -> int:
    """The least power of two that is no less."""
    return 1 << max(n - 1, 0).bit_length()
