"""Tiles of fixed sizes: what lies beyond a dimension's end is in them, and masked where it counts.

A machine with threads holds tiles whole. Until here a tile at the end of a dimension is clipped;
from here on its size is a number, elements outside memory are read as 0 and not written, and
reductions, products and writes leave out what is not of the dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.ir.bits import from_raw
from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import DType, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, ceil_div, linear, names, substitute
from tilec.ir.ops import arith, control, machine, memory, reduce, scan, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.ops.packed import Groups
from tilec.ir.ops.scaled import ScaledDot
from tilec.ir.ops.sparse import Expand, SparseDot
from tilec.ir.types import Memory, Span, Tile, Type
from tilec.passes.multiples import multiple
from tilec.passes.parts import index_of, tile
from tilec.passes.pipeline import register
from tilec.passes.sides import padded, sides


@register("pad")
def pad(func: Func, *, least: int = 16, columns: int = 16) -> Func:
    """Give every tile a size that is a number: of each axis the next power of two.

    The sides of products are at least `least`, the columns of their results at least `columns`.
    Before: extents are numbers, tile sizes are chosen, formats are lowered. After: no size symbol
    is left in a type.
    """
    if padded(func):
        return func
    return func.replaced(_Padding(sides(func, least, columns)).block(func.body, {}))


@dataclass(frozen=True)
class _Axis:
    """What a size symbol was the size of: a span of at most `tile` coordinates below `dim`, and
    below `stop` if that is given, of which `aligned` says that no tile ends behind it."""

    span: Value
    dim: Extent
    tile: int
    size: int
    stop: Value | None = None
    aligned: bool = True

    @property
    def in_memory(self) -> bool:
        """Whether what is left out lies outside of the dimension."""
        last = isinstance(self.dim, int) and self.dim <= self.tile
        return self.stop is None and (self.size == self.tile or last)

    @property
    def exact(self) -> bool:
        """Whether nothing has to be left out."""
        whole = isinstance(self.dim, int) and self.dim % self.tile == 0
        return whole and self.size == self.tile and self.aligned

    def count(self, b: Builder) -> Value:
        """How many coordinates there are in this step: i32[]."""
        end = b(shape.Size(self.dim))
        if self.stop is not None:
            stop = self.stop if tile(self.stop).dtype == i32 else b(Cast(self.stop, i32))
            end = b(arith.Minimum(end, stop))
        rest = b(arith.Sub(end, b(shape.Start(self.span))))
        return b(arith.Minimum(b(shape.Full((), self.tile, i32)), rest))


class _Padding:
    """The rewriting of one function."""

    def __init__(self, least: dict[str, int]) -> None:
        self.least = least
        self.axes: dict[str, _Axis] = {}
        self.to: dict[Value, Value] = {}
        self.made: dict[Value, Op] = {}
        self.steps: dict[Value, int] = {}  # from one tile of a span to the next

    # -- sizes --

    def size(self, e: Extent) -> int:
        """How many elements an axis has from now on."""
        if isinstance(e, int):
            return _power(max(e, self.least.get(str(e), 1)))
        if e.is_name:
            return self._axis(e.text).size
        return _power(max(self._most(e), self.least.get(e.text, 1)))

    def exact(self, e: Extent) -> bool:
        """Whether an axis has no elements that are to be left out."""
        if isinstance(e, int):
            return self.size(e) == e
        return self._fixed(e) and self.size(e) == self._number(e)

    def _fixed(self, e: Extent) -> bool:
        """Whether an extent is the same number in every step."""
        return all(self._axis(n).exact for n in names(e))

    def _axis(self, name: str) -> _Axis:
        if name not in self.axes:
            raise TileError(f"pad: a tile has all of the dimension {name}, which is no number")
        return self.axes[name]

    def _number(self, e: Extent) -> int:
        """An extent of whole tiles."""
        known = substitute(e, {n: self.axes[n].tile for n in names(e)})
        assert isinstance(known, int)
        return known

    def _most(self, e: Sym) -> int:
        """The greatest number that an extent stands for: no span has less than one coordinate."""
        if self._fixed(e):
            return self._number(e)
        constant, factors = _sum(e)
        return constant + sum(
            by * (self.axes[n].tile if by > 0 else 1) for n, by in factors.items()
        )

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
            return self.below(e, self.size(e), b)
        axis = self.axes[e.text]
        at = b(shape.Coordinates(axis.span))
        ends = [b(shape.Full((axis.size,), axis.dim, i32)) if isinstance(axis.dim, int)
                else b(shape.Broadcast(b(shape.Size(axis.dim)), (axis.size,)))]  # fmt: skip
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

    def below(self, e: Extent, size: int, b: Builder) -> Value:
        """Which places of an axis come before place e: bool[size]."""
        end = b(shape.Broadcast(self.count(e, b), (size,)))
        return b(arith.Lt(b(shape.Iota(size)), end))

    def count(self, e: Extent, b: Builder) -> Value:
        """An extent as it is in this step: i32[]."""
        if self._fixed(e):
            return b(shape.Full((), self._number(e), i32))
        constant, factors = _sum(e)
        out = b(shape.Full((), constant, i32))
        for n, by in factors.items():
            times = b(shape.Full((), by, i32))
            out = b(arith.Add(out, b(arith.Mul(times, self.axes[n].count(b)))))
        return out

    def among(self, e: Extent, axis: int, sizes: tuple[Extent, ...], b: Builder) -> Value:
        """Which elements of a tile of these sizes count along one axis."""
        return self._across(self.inside(e, b), axis, sizes, b)

    def _across(self, found: Value, axis: int, sizes: tuple[Extent, ...], b: Builder) -> Value:
        """What holds for the places of an axis, for a tile of these sizes."""
        own = tuple(n if i == axis else 1 for i, n in enumerate(sizes))
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
            case reduce.Dot() | ScaledDot() | SparseDot():
                self._add(op, b, self._operands(op, b))
            case reduce.Reduction() | scan.Scan(reverse=True):
                neutral = _neutral(op.name, tile(op.a).dtype)
                self._add(op, b, {"a": self._without(op.a, op.axis, neutral, b)})
            case memory.Write():
                self._add(op, b, {"mask": self._mask(op, b)})
            case memory.Whole() | memory.Nth():
                known = op.dim if isinstance(op, memory.Whole) else op.size
                self._add(op, b, {"size": self.size(known)})
            case shape.Size() if names(op.dim) & self.axes.keys():
                self.to[op.result] = self.count(op.dim, b)
                self.made[op.result] = b.ops[-1]
            case shape.Slice():
                a, size = self.to[op.a], self.size(tile(op.result).shape[op.axis])
                self.to[op.result] = self._shifted(a, op.start, op.axis, size, b)
            case shape.Join():
                self._joined(op, b)
            case shape.Reshape():
                self._reshaped(op, b)
            case _:
                inner = {n: getattr(op, n) for n in op.fields("block")}
                self._add(op, b, {n: v and self.block(v, {}) for n, v in inner.items()})

    def _add(self, op: Op, b: Builder, changed: dict[str, Any]) -> None:
        if "shape" in op.attributes:
            changed["shape"] = tuple(map(self.size, op.attributes["shape"]))
        if isinstance(op, shape.Iota):
            changed["size"] = self.size(op.size)
        if isinstance(op, Groups) and isinstance(op.size, Sym):
            span = self.to[op.span].type
            assert isinstance(span, Span)
            changed["size"] = ceil_div(span.size, op.by)
        new = op.rebuilt(self.to, **changed)
        b.add(new)
        self.to.update(zip(op.results, new.results, strict=True))

    def _loop(self, op: control.Grid | control.For, b: Builder) -> None:
        """A loop whose spans have sizes."""
        grid = isinstance(op, control.Grid)
        dims, sizes = (op.dims, op.sizes) if grid else ((op.dim,), (op.size,))
        tiles = op.tiles if grid else (op.tile,)
        end = None if grid else op.stop
        axes: dict[str, _Axis] = {}
        for p, dim, size, t in zip(op.body.params, dims, sizes, tiles, strict=False):
            if t is None or not isinstance(size, Sym):
                raise TileError(f"pad: the tile size `{size}` is not chosen", op.loc,
                                hint="run the pass `tile` first")  # fmt: skip
            whole = _power(max(t, self.least.get(size.text, 1)))
            self.to[p] = Value(Span(dim, whole), p.hint)
            self.steps[p] = t
            aligned = end is None or multiple(end, self.made, self.steps) % t == 0
            axes[size.text] = _Axis(
                self.to[p], dim, t, whole, end and self.to.get(end, end), aligned
            )
        body = self.block(op.body, axes)
        spans = [p.type for p in body.params[: len(dims)]]
        numbers = tuple(s.size for s in spans if isinstance(s, Span))
        self._add(op, b, {"body": body, **({"sizes": numbers} if grid else {"size": numbers[0]})})

    def _operands(self, op: reduce.Dot | ScaledDot | SparseDot, b: Builder) -> dict[str, Any]:
        """Operands without what does not count, where one of them would not be 0 there.

        Codes beside scales are taken as they lie.
        """
        if isinstance(op, SparseDot):
            return self._beside_sparse(op, b)
        along = {"a": 1, "b": 0}
        masked = [n for n, axis in along.items() if not self._zero(getattr(op, n), axis)]
        if isinstance(op, ScaledDot):
            step = tile(op.a).shape[1]
            if masked and not self.exact(step):
                raise TileError(f"pad: a step of {step} of codes beside scales ends within a tile",
                                op.loc, hint="a power of two")  # fmt: skip
            return {}
        if not masked and _bare(op.a, self.made) and _bare(op.b, self.made):
            masked = ["b"]
        return {n: self._without(getattr(op, n), along[n], 0, b) for n in masked}

    def _beside_sparse(self, op: SparseDot, b: Builder) -> dict[str, Any]:
        """The dense operand without what does not count: in steps of whole fours."""
        k = tile(op.b).shape[0]
        if isinstance(k, Sym) and (step := self._axis(k.text).tile) % 4:
            raise TileError(f"pad: a step of {step} columns of a 2:4 operand ends within four",
                            op.loc)  # fmt: skip
        return {} if self._zero(op.b, 0) else {"b": self._without(op.b, 0, 0, b)}

    def _without(self, v: Value, axis: int, neutral: float | int, b: Builder) -> Value:
        """A tile with a neutral number where an axis has elements that do not count."""
        e, new = tile(v).shape[axis], self.to[v]
        if self.exact(e):
            return new
        t = tile(new)
        counts = self.among(e, axis, t.shape, b)
        return b(arith.Where(counts, new, b(shape.Full(t.shape, neutral, t.dtype))))

    def _zero(self, v: Value, axis: int) -> bool:
        """Whether a tile is 0 wherever it lies outside of an axis' dimension."""
        op = self.made.get(v)
        if isinstance(op, Cast):
            return self._zero(op.a, axis)
        if isinstance(op, shape.Transpose):
            return self._zero(op.a, op.order[axis])
        if isinstance(op, Expand):
            return self._in_memory((op.rows, op.columns)[axis])
        return isinstance(op, memory.Load) and self._in_memory(index_of(op, axis))

    def _in_memory(self, index: Value) -> bool:
        """Whether an index leaves out just what lies outside of the memory."""
        if not isinstance(index.type, Span) or isinstance(self.made.get(index), memory.Nth):
            return False
        size = index.type.size
        return isinstance(size, int) or self.axes[str(size)].in_memory

    def _mask(self, op: memory.Write, b: Builder) -> Value | None:
        """Which elements are written, where its indices alone do not say."""
        value = tile(op.value)
        sizes = tile(self.to[op.value]).shape
        found = None if op.mask is None else self.to[op.mask]
        for axis, e in enumerate(value.shape):
            if self.exact(e) or self._in_memory(index_of(op, axis)):
                continue
            mask = self.among(e, axis, sizes, b)
            found = mask if found is None else b(arith.And(found, mask))
        return found

    def _reshaped(self, op: shape.Reshape, b: Builder) -> None:
        """Axes that are merged or split have nothing to leave out."""
        shapes = [tile(v).shape for v in (op.a, op.result)]
        for e in {e for s in shapes for e in s} if _flat(shapes) else ():
            if not self.exact(e):
                raise TileError(f"pad: {op.name} of an axis of {e}, which ends within a tile",
                                op.loc, hint="a power of two")  # fmt: skip
        self._add(op, b, {})

    def _shifted(self, a: Value, start: Extent, axis: int, size: int, b: Builder) -> Value:
        """What an axis holds from a place on."""
        if start == 0 and tile(a).shape[axis] == size:
            return a
        return b(machine.Shift(a, self.count(start, b), axis, size))

    def _joined(self, op: shape.Join, b: Builder) -> None:
        """Every part at its place, and of them the one that counts there."""
        size, start = self.size(tile(op.result).shape[op.axis]), tile(op.parts[0]).shape[op.axis]
        out = self._shifted(self.to[op.parts[0]], 0, op.axis, size, b)
        for part in op.parts[1:]:
            moved = self._shifted(self.to[part], 0 - start, op.axis, size, b)
            before = self.below(start, size, b)
            before = self._across(before, op.axis, tile(moved).shape, b)
            out = b(arith.Where(before, out, moved))
            start = start + tile(part).shape[op.axis]
        self.to[op.result] = out


def _sum(e: Extent) -> tuple[int, dict[str, int]]:
    """The constant and the factor of each name in an extent."""
    found = linear(e)
    if found is None:
        raise TileError(f"pad: an axis of {e} elements ends within a tile",
                        hint="a size that divides the dimension")  # fmt: skip
    return found


def _bare(v: Value, made: dict[Value, Op]) -> bool:
    """Whether the bits of 0, which copies leave outside of memory, are a code of something else."""
    op, t = made.get(v), tile(v).dtype
    if isinstance(op, shape.Transpose | Cast):
        return _bare(op.a, made)
    return isinstance(op, memory.Load) and t.kind == "code" and from_raw(t, np.zeros(1))[0] != 0


def _flat(shapes: list[tuple[Extent, ...]]) -> bool:
    """Whether axes are merged or split, not only put at 1."""
    return len({tuple(e for e in s if e != 1) for s in shapes}) > 1 and len(shapes) == 2


def _neutral(name: str, t: DType) -> float | int:
    """What changes no result of a reduction or scan."""
    if name.endswith("sum"):
        return 0
    if not t.is_float:
        return int(t.high if name.endswith("min") else t.low)
    most = float("inf") if t.infinite else float(t.high)
    return most if name.endswith("min") else -most


def _power(n: int) -> int:
    """The least power of two that is no less."""
    return 1 << max(n - 1, 0).bit_length()
