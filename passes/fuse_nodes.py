"""Whole-tensor ops as nodes with named axes: what an element is, by the indices that it has.

A node is a value at certain indices. Axes have names instead of places, so that broadcasts,
transposes and axes of one element are not there at all; and a value that is wanted at two tuples of
indices is two nodes. Indices that a reduction runs over are shared by reductions of one extent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilec.ir.core import Op, Trait, Value
from tilec.ir.dtype import DType, boolean, f32, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops import arith, memory, reduce, scan, shape, top
from tilec.ir.ops.cast import Cast
from tilec.ir.text import attribute
from tilec.ir.types import Memory, Span, Tile
from tilec.passes.fuse_elements import Index, Indices, Node, indices_of, merged
from tilec.passes.fuse_ranks import Ranks

REDUCTIONS = (reduce.Sum, reduce.Max, reduce.Min)


@dataclass
class Nodes:
    """The nodes of a function; equal ones are one."""

    made: Mapping[Value, Op]
    kept: Mapping[Value, Value]  # memory in which values lie
    same: Mapping[Value, Value] = field(default_factory=dict[Value, Value])  # other names of values
    writes: Mapping[Value, int] = field(default_factory=dict[Value, int])  # before what was loaded
    whole: set[Index] = field(default_factory=set[Index])  # what has to be in one tile
    single: set[Index] = field(default_factory=set[Index])  # what has to be one at a time
    as_written: bool = False  # rankings are of what the program says, not of what rises with it
    ranks: dict[Extent, tuple[Index, Index]] = field(
        default_factory=dict[Extent, tuple[Index, Index]]
    )  # the axes of what is best, by how many
    pool: dict[Extent, list[Index]] = field(default_factory=dict[Extent, list[Index]])
    seen: dict[object, Node] = field(default_factory=dict[object, Node])
    known: dict[tuple[Value, Indices], Node] = field(
        default_factory=dict[tuple[Value, Indices], Node]
    )  # what was asked for before

    def node(self, of: type[Op], args: Sequence[Node] = (), **fields: Any) -> Node:
        """A node, the one that was made before if it is equal."""
        axes, dtype = fields.pop("axes", None), fields.pop("dtype", None)
        axes = merged(args) if axes is None else axes
        dtype = args[0].dtype if dtype is None else dtype
        attributes = fields.get("attributes", ())
        op = fields.pop("op", None)
        writes = self.writes.get(op.result, 0) if isinstance(op, memory.Load) else 0
        text = tuple((n, attribute(v)) for n, v in attributes)
        key = (of, tuple(args), dtype, text, *(fields.get(n) for n in ("mem", "bound", "leaf")),
               fields.get("indices", ()), axes if not args else (), writes)  # fmt: skip
        if key not in self.seen:
            self.seen[key] = Node(of, tuple(args), axes, dtype, op=op, **fields)
        return self.seen[key]

    def constant(self, value: float | int, dtype: DType) -> Node:
        """A number."""
        return self.node(shape.Full, axes=(), dtype=dtype, attributes=(("value", value),))

    def running(self, extent: Extent, taken: Indices) -> Index:
        """An index for a reduction: the first of the extent that is not in use around it."""
        known = self.pool.setdefault(extent, [])
        used = {a for i in taken if i is not None for a in indices_of(i)}
        for index in known:
            if index not in used:
                return index
        known.append(Index(extent, f"r{len(known)}", running=True))
        return known[-1]

    def at(self, v: Value, idx: Indices, root: bool = False) -> Node:
        """A value at indices, one for each of its axes. Raises TileError for an op that can't be
        computed by tiles. A `root` is computed even if it is kept in memory."""
        v = self.same.get(v, v)
        if v in self.kept and not root:
            return self.loaded(self.kept[v], idx, self.made[v])
        if (v, idx) not in self.known:
            self.known[v, idx] = self.found(v, idx)
        return self.known[v, idx]

    def found(self, v: Value, idx: Indices) -> Node:
        """A value that is computed, at indices."""
        op = self.made.get(v)
        match op:
            case None:
                assert isinstance(v.type, Tile)
                return self.node(shape.Size, axes=(), dtype=v.type.dtype, leaf=v)
            case memory.Load():
                return self.load(op, idx)
            case reduce.Dot():
                return self.dot(op, idx)
            case reduce.Reduction() if isinstance(op, REDUCTIONS):
                return self.reduced(op, idx)
            case scan.Scan():
                return self.scanned(op, idx)
            case top.Ranking():
                return self.ranked(op, idx)
            case _ if not op.operands or isinstance(op.operands[0].type, Span):
                return self.told(op, idx)
            case _:
                return self.moved(op, idx)

    def told(self, op: Op, idx: Indices) -> Node:
        """What no value is computed from: a number, or that of a coordinate."""
        match op:
            case shape.Full():
                return self.constant(op.value, op.dtype)
            case shape.Iota():
                return self.coordinate(idx[0])
            case shape.Coordinates():
                return self.coordinate(self.place(op.span, idx[0], op))
            case shape.Start():
                return self.coordinate(self.place(op.span, None, op))
            case shape.Size():
                return self.node(shape.Size, axes=(), dtype=i32,
                                 attributes=(("dim", op.dim),))  # fmt: skip
            case _:
                raise TileError(f"{op.name} is not computed by tiles", op.loc)

    def moved(self, op: Op, idx: Indices) -> Node:
        """An op that only moves elements, or works on each."""
        match op:
            case shape.Broadcast():
                assert isinstance(op.a.type, Tile)
                own = op.a.type.shape
                tail = idx[len(idx) - len(own) :]
                return self.at(op.a, tuple(None if e == 1 else i
                                           for e, i in zip(own, tail, strict=True)))  # fmt: skip
            case shape.Transpose():
                place = {a: idx[i] for i, a in enumerate(op.order)}
                return self.at(op.a, tuple(place[i] for i in range(len(idx))))
            case shape.Reshape():
                return self.at(op.a, Places(self).reshaped(op, idx))
            case shape.Slice():
                found = list(idx)
                found[op.axis] = Places(self).moved(idx[op.axis], op.start)
                return self.at(op.a, tuple(found))
            case shape.Join():
                return self.joined(op, idx)
            case _ if Trait.ELEMENTWISE in op.traits:
                args = [self.at(x, idx) for x in op.operands]
                t = op.result.type
                assert isinstance(t, Tile)
                made = tuple(op.attributes.items())
                return self.node(type(op), args, dtype=t.dtype, attributes=made, op=op)
            case _:
                raise TileError(f"{op.name} is not computed by tiles", op.loc)

    def joined(self, op: shape.Join, idx: Indices) -> Node:
        """Tiles one after the other: each is read beyond its end, and of them one is taken."""
        at, places, out = self.coordinate(idx[op.axis]), Places(self), None
        stop: Extent = 0
        for part in op.parts:
            assert isinstance(part.type, Tile)
            found = list(idx)
            found[op.axis] = places.moved(idx[op.axis], 0 - stop)
            here = self.at(part, tuple(found))
            if out is None:
                out = here
            else:
                before = self.node(arith.Lt, (at, places.number(stop)), dtype=boolean)
                out = self.node(arith.Where, (before, out, here), dtype=here.dtype)
            stop = stop + part.type.shape[op.axis]
        assert out is not None
        return out

    def coordinate(self, index: Index | Node | None) -> Node:
        """The number of an index."""
        if index is None:
            return self.constant(0, i32)
        if isinstance(index, Node):
            return index
        return self.node(shape.Coordinates, axes=(index,), dtype=i32)

    def load(self, op: memory.Load, idx: Indices) -> Node:
        """Elements of memory."""
        left = list(idx)
        gathered: Indices | None = None
        found: list[Index | Node] = []
        for index in op.indices:
            if isinstance(index.type, Span):
                found.append(self.place(index, left.pop(0), op))
                continue
            assert isinstance(index.type, Tile)
            rank = index.type.rank
            if gathered is None and rank:
                gathered, left = tuple(left[:rank]), left[rank:]
            found.append(self.at(index, gathered or () if rank else ()))
        return self._load(op.mem, tuple(found), op)

    def place(self, span: Value, index: Index | Node | None, op: Op) -> Index | Node:
        """The place in memory that a place in a span is."""
        made = self.made.get(span)
        if not isinstance(made, memory.Whole):
            raise TileError(f"{op.name}: a span of a loop is not computed by tiles", op.loc)
        found = Places(self).moved(index, made.start or 0)
        return self.constant(0, i32) if found is None else found

    def loaded(self, mem: Value, idx: Indices, op: Op) -> Node:
        """Elements of memory of the function's own."""
        found = tuple(self.constant(0, i32) if i is None else i for i in idx)
        return self._load(mem, found, op)

    def _load(self, mem: Value, indices: tuple[Index | Node, ...], op: Op) -> Node:
        computed = {a for i in indices if isinstance(i, Node) for a in i.axes}
        assert isinstance(mem.type, Memory)
        indices = tuple(
            self.coordinate(i) if i in computed or (isinstance(i, Index) and i.dim != d) else i
            for i, d in zip(indices, mem.type.shape, strict=True)
        )
        axes = tuple(dict.fromkeys(a for i in indices for a in indices_of(i)))
        return self.node(memory.Load, axes=axes, dtype=mem.type.dtype, mem=mem, indices=indices,
                         op=op)  # fmt: skip

    def reduced(self, op: reduce.Reduction, idx: Indices) -> Node:
        """A reduction; a sum of products of two operands is a product of matrices."""
        assert isinstance(op.a.type, Tile)
        extent = op.a.type.shape[op.axis]
        bound = None if extent == 1 else self.running(extent, idx)
        inner = self.at(op.a, (*idx[: op.axis], bound, *idx[op.axis :]))
        if bound is None:
            return inner
        if isinstance(op, reduce.Sum) and (found := self.contraction(inner, bound)):
            return self.product(*found, bound, op)
        axes = tuple(a for a in inner.axes if a is not bound)
        if bound not in inner.axes:  # of equal elements: every reduction but the sum is one of them
            return inner if not isinstance(op, reduce.Sum) else self.repeated(inner, bound)
        return self.node(type(op), (inner,), axes=axes, dtype=inner.dtype, bound=bound, op=op)

    def repeated(self, inner: Node, bound: Index) -> Node:
        """A sum of equal elements."""
        size = self.node(shape.Size, axes=(), dtype=i32, attributes=(("dim", bound.dim),))
        return self.node(arith.Mul, (inner, self.cast(size, inner.dtype)))

    def cast(self, node: Node, dtype: DType) -> Node:
        """A node in another dtype."""
        if node.dtype == dtype:
            return node
        return self.node(Cast, (node,), dtype=dtype, attributes=(("dtype", dtype),))

    def contraction(self, inner: Node, bound: Index) -> tuple[Node, Node] | None:
        """The operands of which a sum is a product of matrices."""
        if inner.of is not arith.Mul or not inner.dtype.is_float:
            return None
        a, b = (_narrow(n) for n in inner.args)
        own = [set(a.axes) - set(b.axes), set(b.axes) - set(a.axes)]
        if bound not in a.axes or bound not in b.axes or not all(own):
            return None
        return a, b

    def dot(self, op: reduce.Dot, idx: Indices) -> Node:
        """A product of matrices, and what it is added to."""
        assert isinstance(op.a.type, Tile)
        extent = op.a.type.shape[-1]
        bound = self.running(extent, idx) if extent != 1 else None
        *lead, row, column = idx
        a, b = self.at(op.a, (*lead, row, bound)), self.at(op.b, (*lead, bound, column))
        t = op.result.type
        assert isinstance(t, Tile)
        if op.scale is not None or op.row_scale is not None:
            raise TileError("dot: scales beside a product are not computed by tiles", op.loc)
        if bound is None:
            found = self.node(arith.Mul, (self.cast(a, t.dtype), self.cast(b, t.dtype)))
        else:
            found = self.product(a, b, bound, op)
        acc = self.at(op.acc, idx)
        zero = acc.of is shape.Full and dict(acc.attributes)["value"] == 0
        return found if zero else self.node(arith.Add, (acc, found))

    def product(self, a: Node, b: Node, bound: Index, op: Op) -> Node:
        """The sum of products along an index; what both operands have beside it, and what is more
        than one axis of a matrix, is one at a time."""
        shared = (set(a.axes) & set(b.axes)) - {bound}
        rows, columns = ([x for x in n.axes if x not in shared and x is not bound] for n in (a, b))
        self.single |= shared | set(rows[:-1]) | set(columns[:-1])
        axes = tuple(dict.fromkeys(x for x in (*a.axes, *b.axes) if x is not bound))
        dtype = f32 if isinstance(op, reduce.Sum) else None
        dtype = op.result.type.dtype if isinstance(op.result.type, Tile) else dtype
        return self.node(reduce.Dot, (a, b), axes=axes, dtype=dtype, bound=bound, op=op)

    def scanned(self, op: scan.Scan, idx: Indices) -> Node:
        """A scan: its axis is in one tile."""
        index = idx[op.axis]
        inner = self.at(op.a, idx)
        if index is None:
            return inner
        if isinstance(index, Node):
            raise TileError(f"{op.name}: a part of a scan is not computed by tiles", op.loc)
        self.whole.add(index)
        inner = inner if index in inner.axes else self.node(
            arith.Add, (inner, self.cast(self.node(arith.Mul, (self.coordinate(index),
                        self.constant(0, i32))), inner.dtype)))  # fmt: skip
        return self.node(type(op), (inner,), attributes=(("reverse", op.reverse),),
                         bound=index, op=op)  # fmt: skip

    def ranked(self, op: top.Ranking, idx: Indices) -> Node:
        """An element of a ranking: its row is one at a time."""
        assert isinstance(op.a.type, Tile)
        *rows, at = idx
        bound = self.running(op.a.type.shape[-1], idx)
        return Ranks(self).ranked(op, self.at(op.a, (*rows, bound)), bound, at)


def _narrow(node: Node) -> Node:
    """An operand of a product before it was made wider: products of such are exact in f32."""
    if node.of is Cast and node.dtype == f32 and node.args[0].dtype.is_float \
            and 8 < node.args[0].dtype.bits <= 16:  # fmt: skip
        return node.args[0]
    return node


@dataclass(frozen=True)
class Places:
    """Places that are computed from indices: of parts, and of axes that are split or joined."""

    nodes: Nodes

    def number(self, n: Extent) -> Node:
        """An extent as a number."""
        if isinstance(n, int):
            return self.nodes.constant(n, i32)
        return self.nodes.node(shape.Size, axes=(), dtype=i32, attributes=(("dim", n),))

    def moved(self, index: Index | Node | None, by: Extent) -> Index | Node | None:
        """The place so many elements behind one."""
        if by == 0:
            return index
        if index is None:
            return self.number(by)
        return self.nodes.node(arith.Add, (self.nodes.coordinate(index), self.number(by)))

    def reshaped(self, op: shape.Reshape, idx: Indices) -> Indices:
        """Where an element lies in what is reshaped."""
        assert isinstance(op.a.type, Tile)
        own = [e for e in op.a.type.shape if e != 1]
        kept = [(e, i) for e, i in zip(op.shape, idx, strict=True) if e != 1]
        found: list[Index | Node | None] = []
        while own or kept:
            count = _run([e for e, _ in kept], own)
            if count is None:
                raise TileError(f"reshape: {op.a.type} to axes of other extents is not computed by "
                                "tiles", op.loc)  # fmt: skip
            mine, theirs = count
            found += self.within(kept[:mine], own[:theirs])
            kept, own = kept[mine:], own[theirs:]
        return tuple(None if e == 1 else found.pop(0) for e in op.a.type.shape)

    def within(self, from_: list[tuple[Extent, Index | Node | None]], to: list[Extent]
               ) -> list[Index | Node | None]:  # fmt: skip
        """The places along axes that have as many elements together as others."""
        if len(from_) == len(to) == 1:
            return [from_[0][1]]
        node, flat = self.nodes.node, self.nodes.coordinate(from_[0][1])
        for e, i in from_[1:]:
            flat = node(arith.Add, (node(arith.Mul, (flat, self.number(e))),
                                    self.nodes.coordinate(i)))  # fmt: skip
        out: list[Index | Node | None] = []
        for at, e in reversed(list(enumerate(to))):
            out.insert(0, node(arith.Mod, (flat, self.number(e))) if at else flat)
            flat = node(arith.FloorDiv, (flat, self.number(e)))
        return out


def _run(a: list[Extent], b: list[Extent]) -> tuple[int, int] | None:
    """How many axes of each have as many elements together: the fewest."""
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            if _product(a[:i]) == _product(b[:j]):
                return i, j
    return None


def _product(extents: list[Extent]) -> Extent:
    out: Extent = 1
    for e in extents:
        out = e * out
    return out
