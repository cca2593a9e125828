"""Products with sums: of x and w = a + b + ..., a product with each part, added one to another."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from tilec.ir.composed import LowRank, Outliers, Permuted, Plus
from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import f32
from tilec.ir.errors import Loc, TileError
from tilec.ir.extent import Sym
from tilec.ir.format import Dense
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Shape, Span, Tile
from tilec.passes.parts import as_f32, parameters, scattered, thin_product, tile

MANY = 16  # rows of x from which vectors run along them


@dataclass(frozen=True)
class _Source:
    """A first operand that is read from memory, and then cast or not."""

    load: memory.Load
    cast: Cast | None

    @property
    def result(self) -> Value:
        """The operand as it was."""
        return self.load.result if self.cast is None else self.cast.result

    @property
    def key(self) -> tuple[Value, ...]:
        """Equal for operands with the same elements."""
        return (self.load.mem, *([] if self.cast is None else [self.cast.result]))

    def again(self, indices: tuple[Value, ...], b: Builder) -> Value:
        """The same elements at other places."""
        value = b(memory.Load(self.load.mem, indices))
        if self.cast is None:
            return value
        return b(Cast(value, self.cast.dtype, self.cast.rounding, self.cast.saturate))


@dataclass(frozen=True)
class _Linear:
    """A loop that does nothing with an accumulator but to add x[m, k] @ w[n, k].T to it."""

    source: _Source
    weight: memory.Load


class Sums:
    """The rewriting of one function; `scratch` are new parameters, memory between its grids."""

    def __init__(self, func: Func, sums: list[Value]) -> None:
        self.func = func
        self.parameters = {p: parameters(p) for p in sums}
        self.made: dict[Value, Op] = {v: o for o in func.walk() for v in o.results}
        self.users: dict[Value, list[Op | None]] = defaultdict(list)
        for op in func.walk():
            for v in op.operands:
                self.users[v].append(op)
            for v in (r for block in op.blocks for r in block.results):
                self.users[v].append(None)
        self.to: dict[Value, Value] = {}
        self.linear: dict[Op, _Linear] = {}
        self.before: list[Op] = []
        self.scratch: list[Value] = []
        self.kept: dict[tuple[Value, ...], Value] = {}  # what scratch holds
        self.loc: Loc | None = None
        self.remarks: list[Remark] = []

    def body(self) -> Block:
        """The function's body without sums."""
        ops: list[Op] = []
        for op in self.func.body.ops:
            b = Builder()
            self._op(op, b)
            ops += [*self.before, *b.ops]
            self.before = []
        return Block((), tuple(ops))

    def _block(self, block: Block) -> Block:
        b = Builder()
        for op in block.ops:
            self._op(op, b)
        return Block(block.params, tuple(b.ops), tuple(self.to.get(v, v) for v in block.results))

    def _op(self, op: Op, b: Builder) -> None:
        b.loc = self.loc = op.loc
        match op:
            case memory.Load() | shape.Transpose() if self._only_multiplied(op):
                pass
            case memory.Load() if op.mem in self.parameters:
                self.to[op.result] = self._values(op, b)
            case reduce.Dot() if self._weight(op) is not None:
                self.to[op.result] = self._product(op, b)
            case control.For():
                self._loop(op, b)
            case _:
                inner: dict[str, Any] = {n: getattr(op, n) for n in op.fields("block")}
                inner = {n: v and self._block(v) for n, v in inner.items()}
                self._copied(op, inner, b)

    def _copied(self, op: Op, changed: dict[str, Any], b: Builder) -> None:
        new = b.add(op.rebuilt(self.to, **changed))
        self.to.update(zip(op.results, new.results, strict=True))

    def _only_multiplied(self, op: memory.Load | shape.Transpose) -> bool:
        """Whether all that becomes of a sum's elements is products, which need only its parts."""
        load = self.made.get(op.a) if isinstance(op, shape.Transpose) else op
        if not isinstance(load, memory.Load) or load.mem not in self.parameters:
            return False
        if isinstance(op, shape.Transpose):
            dots = [u for u in self.users[op.result] if isinstance(u, reduce.Dot)]
            every = len(dots) == len(self.users[op.result])
            return every and all(self._weight(u) is load and u.a is not op.result for u in dots)
        turned = [u for u in self.users[op.result] if isinstance(u, shape.Transpose)]
        every = len(turned) == len(self.users[op.result])
        return every and all(map(self._only_multiplied, turned))

    def _weight(self, op: reduce.Dot) -> memory.Load | None:
        """The load of a sum that a product takes transposed."""
        turned = self.made.get(op.b)
        load = self.made.get(turned.a) if isinstance(turned, shape.Transpose) else None
        if not isinstance(load, memory.Load) or load.mem not in self.parameters:
            return None
        return load if all(isinstance(i.type, Span) for i in load.indices) else None

    # -- a loop that only adds --

    def _loop(self, op: control.For, b: Builder) -> None:
        found = {i: self._added(op, i) for i in range(len(op.init))}
        linear = {i: f for i, f in found.items() if f is not None}
        self._copied(op, {"body": self._block(op.body)}, b)
        for i, one in linear.items():
            acc = self.to[op.results[i]]
            for format, mems in zip(*self._of(one.weight), strict=True):
                acc = self._behind(one, format, mems, acc, b)
            self.to[op.results[i]] = acc

    def _of(self, load: memory.Load) -> tuple[tuple[Any, ...], tuple[tuple[Value, ...], ...]]:
        """The formats of a weight's parts, and the parameters of each."""
        found = self.parameters[load.mem]
        formats = found.format.parts if isinstance(found.format, Plus) else (found.format,)
        return formats, found.values

    def _added(self, op: control.For, i: int) -> _Linear | None:
        """What a loop adds to its i-th value, if that is all it does with it."""
        dot, carried, k = (
            self.made.get(op.body.results[i]),
            op.body.params[i + 1],
            op.body.params[0],
        )
        if not isinstance(dot, reduce.Dot) or dot.acc is not carried or dot.scale is not None:
            return None
        weight, source = self._weight(dot), self._source(dot.a)
        uses = [v for o in op.body.walk() for v in o.operands]
        once = uses.count(carried) == 1 and dot.result not in uses
        if weight is None or source is None or not once or op.stop or op.first:
            return None
        inside = {v for o in op.body.walk() for v in o.results} | {*op.body.params}
        outer = (source.load.indices[0], weight.indices[0])
        if source.load.indices[1] is not k or weight.indices[1] is not k or inside & {*outer}:
            return None
        self.linear[dot] = _Linear(source, weight)
        return self.linear[dot]

    def _source(self, a: Value) -> _Source | None:
        op, cast = self.made.get(a), None
        if isinstance(op, Cast) and op.random is None:
            op, cast = self.made.get(op.a), op
        plain = isinstance(op, memory.Load) and op.mem not in self.parameters
        if not plain or not isinstance(op, memory.Load) or len(op.indices) != 2:
            return None
        spans = all(isinstance(i.type, Span) for i in op.indices)
        return _Source(op, cast) if spans and op.mem in self.func.params else None

    def _behind(self, one: _Linear, format: object, mems: tuple[Value, ...], acc: Value,
                b: Builder) -> Value:  # fmt: skip
        """The accumulator with what a part adds after the loop."""
        m, n = one.source.load.indices[0], one.weight.indices[0]
        match format:
            case LowRank(rank=rank):
                thin = self._thin(one.source, mems[1], rank)
                t = b(memory.Load(thin, (m, b(memory.Whole(rank)))))
                left = as_f32(b, b(memory.Load(mems[0], (n, b(memory.Whole(rank))))))
                return b(reduce.Dot(t, b(shape.Transpose(left, (1, 0))), acc))
            case Outliers(count=count):
                whole = b(memory.Whole(count))
                place = b(memory.Load(mems[0], (n, whole)))
                element = as_f32(b, b(memory.Load(mems[1], (n, whole))))
                return b(arith.Add(acc, self._picked(one.source, m, place, element, b)))
            case _:
                return acc

    def _picked(self, source: _Source, m: Value, place: Value, element: Value,
                b: Builder) -> Value:  # fmt: skip
        """out[m, n] = sum_j x[m, place[n, j]] * element[n, j]."""
        n, count = tile(place).shape
        assert isinstance(source.load.mem.type, Memory)
        rows = source.load.mem.type.shape[0]
        if isinstance(rows, int) and rows >= MANY:  # vectors along m, from x turned once
            x = as_f32(b, b(memory.Load(self._turned(source), (place, m))))
            weight = b(shape.Broadcast(b(shape.Reshape(element, (n, count, 1))), tile(x).shape))
            return b(shape.Transpose(b(reduce.Sum(b(arith.Mul(x, weight)), 1)), (1, 0)))
        x = as_f32(b, source.again((m, place), b))
        weight = b(shape.Broadcast(b(shape.Reshape(element, (1, n, count))), tile(x).shape))
        return b(reduce.Sum(b(arith.Mul(x, weight)), 2))

    def _ordered(self, one: _Linear, mems: tuple[Value, ...], indices: tuple[Value, ...],
                 b: Builder) -> tuple[Value, Value]:  # fmt: skip
        """Both operands in the order of the permuted weight's columns."""
        m, k = (self.to.get(i, i) for i in one.source.load.indices)
        a = b(memory.Load(self._reordered(one.source, mems[0]), (m, k)))
        return a, b(memory.Load(mems[2], indices))

    def _reordered(self, source: _Source, order: Value) -> Value:
        """Memory that holds the columns of x in an order, which a grid of its own fills first."""
        key = (*source.key, order)
        if key in self.kept:
            return self.kept[key]
        (rows, depth), sizes, hint = self._fresh(source, "ordered")
        ordered = Value(Memory((rows, depth), Dense(tile(source.result).dtype)), hint)
        m, k = Value(Span(rows, sizes[0])), Value(Span(depth, sizes[1]))
        b = Builder(loc=source.load.loc)
        columns = b(memory.Load(order, (k,)))
        b.add(memory.Store(ordered, (m, k), source.again((m, columns), b)))
        self._filled(ordered, (rows, depth), tuple(sizes), Block((m, k), tuple(b.ops)))
        self.kept[key] = ordered
        return ordered

    def _turned(self, source: _Source) -> Value:
        """Memory that holds x.T, which a grid of its own fills first."""
        if source.key in self.kept:
            return self.kept[source.key]
        (rows, depth), sizes, hint = self._fresh(source, "turned")
        turned = Value(Memory((depth, rows), Dense(tile(source.result).dtype)), hint)
        m, k = Value(Span(rows, sizes[0])), Value(Span(depth, sizes[1]))
        b = Builder(loc=source.load.loc)
        b.add(memory.Store(turned, (k, m), b(shape.Transpose(source.again((m, k), b), (1, 0)))))
        self._filled(turned, (depth, rows), (sizes[1], sizes[0]), Block((k, m), tuple(b.ops)))
        self.kept[source.key] = turned
        return turned

    def _fresh(self, source: _Source, what: str) -> tuple[Shape, list[Sym], str]:
        """The shape of an operand, size symbols for a grid over it, and a name."""
        assert isinstance(source.load.mem.type, Memory)
        owner = next(iter(self.parameters)).hint
        number = len(self.kept)
        sizes = [Sym(f"{s}_{owner.replace('.', '_')}{number}") for s in ("m", "k")]
        return source.load.mem.type.shape, sizes, f"{owner}.{what}{number}"

    def _filled(self, mem: Value, dims: Shape, sizes: tuple[Sym, ...], body: Block) -> None:
        """A grid that fills memory of the kernel's own before the present one."""
        grid = control.Grid(dims, sizes, (None,) * len(dims), body)
        self.before.append(grid.placed(self.loc))
        self.scratch.append(mem)

    def _thin(self, source: _Source, right: Value, rank: int) -> Value:
        """Memory that holds x @ right.T, which a grid of its own fills first."""
        key = (*source.key, right)
        if key in self.kept:
            return self.kept[key]
        (rows, depth), sizes, hint = self._fresh(source, "thin")
        thin = Value(Memory((rows, rank), Dense(f32)), hint)
        m, k = Value(Span(rows, sizes[0])), Value(Span(depth, sizes[1]))
        acc, b = Value(Tile((sizes[0], rank), f32)), Builder(loc=source.load.loc)
        factor = b(memory.Load(right, (b(memory.Whole(rank)), k)))
        dot = b(reduce.Dot(source.again((m, k), b), b(shape.Transpose(factor, (1, 0))), acc))
        body, b = Block((k, acc), tuple(b.ops), (dot,)), Builder(loc=source.load.loc)
        zeros = b(shape.Full((sizes[0], rank), 0.0, f32))
        loop = b.add(control.For(depth, sizes[1], None, (zeros,), body))
        b.add(memory.Store(thin, (m, b(memory.Whole(rank))), loop.results[0]))
        self._filled(thin, (rows,), (sizes[0],), Block((m,), tuple(b.ops)))
        self.kept[key] = thin
        return thin

    # -- a product, and the values of elements --

    def _product(self, op: reduce.Dot, b: Builder) -> Value:
        """The sum of the products with the parts that are not added behind the loop."""
        weight = self._weight(op)
        assert weight is not None
        acc, a = (self.to.get(v, v) for v in (op.acc, op.a))
        indices = tuple(self.to.get(i, i) for i in weight.indices)
        moved = op in self.linear
        for format, mems in zip(*self._of(weight), strict=True):
            if isinstance(format, LowRank | Outliers) and moved:
                continue
            if isinstance(format, LowRank):
                acc = thin_product(format, mems, a, indices, acc, b)
                continue
            if isinstance(format, Permuted) and moved:
                a, values = self._ordered(self.linear[op], mems, indices, b)
            else:
                values = self._part(format, mems, indices, b)
            acc = b(reduce.Dot(a, b(shape.Transpose(values, (1, 0))), acc))
        if not moved:
            what = f"`{weight.mem.hint}`: every part of the sum is multiplied in the loop"
            missing = "a loop that only adds x[m, k] @ w[n, k].T, x a parameter"
            self.remarks.append(Remark("compose", what, op.loc, missing))
        return acc

    def _values(self, load: memory.Load, b: Builder) -> Value:
        """The elements of a sum, each part rounded as it is added."""
        indices = tuple(self.to.get(i, i) for i in load.indices)
        out: Value | None = None
        for format, mems in zip(*self._of(load), strict=True):
            value = self._part(format, mems, indices, b)
            out = value if out is None else b(arith.Add(out, value))
        assert out is not None
        return out

    def _part(self, format: object, mems: tuple[Value, ...], indices: tuple[Value, ...],
              b: Builder) -> Value:  # fmt: skip
        n, k = indices
        if not isinstance(format, LowRank | Outliers | Permuted):
            return b(memory.Load(mems[0], indices))
        if isinstance(format, Permuted) and (isinstance(n.type, Span) or not tile(n).shape):
            return b(memory.Load(mems[2], (n, b(memory.Load(mems[1], (k,))))))
        if isinstance(format, Permuted) or not isinstance(n.type, Span) or _rank(k) != 1:
            raise TileError(f"{format} is read by tiles of rows and columns, not by index",
                            b.loc, hint="dequantize it first")  # fmt: skip
        if isinstance(format, LowRank):
            rank = b(memory.Whole(format.rank))
            left = as_f32(b, b(memory.Load(mems[0], (n, rank))))
            right = as_f32(b, b(memory.Load(mems[1], (rank, k))))
            zeros = b(shape.Full((n.type.size, tile(right).shape[1]), 0.0, f32))
            return b(reduce.Dot(left, right, zeros))
        return scattered(format, mems, n, k, b)


def _rank(index: Value) -> int:
    """How many axes an index gives."""
    return 1 if isinstance(index.type, Span) else tile(index).rank
