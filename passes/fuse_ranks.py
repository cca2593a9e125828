"""The largest elements of rows as nodes: keys that a loop keeps, sorted, and what they stand for.

A function that is larger for larger elements changes no order. Of softmax(x) the largest are where
those of x are, so that they are found in the loop of its maximum and sum; the function is computed
of them alone. Elements that it makes equal by rounding are in the order that they had before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tilec.ir.core import Op
from tilec.ir.dtype import DType, boolean, f32, i32, i64
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops import arith, reduce, shape, top
from tilec.ir.ops.cast import Bitcast, Cast
from tilec.passes.fuse_elements import Index, Node, indices_of
from tilec.passes.fuse_top import BITS, HALF, MAGNITUDE, NONE, PLACES, shift

EXPONENTIALS = (arith.Exp, arith.Exp2)
Made = Callable[[Node], Node]


class Maker(Protocol):
    """What makes nodes."""

    @property
    def as_written(self) -> bool: ...
    @property
    def whole(self) -> set[Index]: ...
    @property
    def single(self) -> set[Index]: ...
    @property
    def ranks(self) -> dict[Extent, tuple[Index, Index]]: ...
    def node(self, of: type[Op], args: Sequence[Node] = (), **fields: Any) -> Node:
        """A node."""
        ...

    def constant(self, value: float | int, dtype: DType) -> Node:
        """A number."""
        ...

    def cast(self, node: Node, dtype: DType) -> Node:
        """A node in another dtype."""
        ...

    def coordinate(self, index: Index | Node | None) -> Node:
        """The number of an index."""
        ...


@dataclass(frozen=True)
class Ranks:
    """Writes what a ranking is."""

    nodes: Maker

    def ranked(self, op: top.Ranking, operand: Node, bound: Index, at: Index | Node | None) -> Node:
        """An element of a ranking of `operand` along `bound`: that at a place of the result."""
        nodes = self.nodes
        plain = nodes.as_written
        core, made = (operand, _same) if plain else self.inside(operand, bound)
        if core.dtype.bits > BITS:
            raise TileError(f"{op.name} of {core.dtype} is not computed by tiles", op.loc)
        rows = tuple(a for a in core.axes if a is not bound)
        nodes.single.update(rows)
        nodes.whole.update(indices_of(at) if at is not None else ())
        key = self.sorted(op, self.keys(op, core, rows, bound), rows, at)
        return self.place(key) if isinstance(op, top.Argtop) else made(self.value(key, core.dtype))

    def keys(self, op: top.Ranking, core: Node, rows: tuple[Index, ...], bound: Index) -> Node:
        """The keys of the best, in no order."""
        axis, _ = self.axes(op.count)
        attributes = (("count", op.count),)
        return self.nodes.node(top.Top, (core,), axes=(*rows, axis), dtype=i64, bound=bound, op=op,
                               attributes=attributes)  # fmt: skip

    def axes(self, count: Extent) -> tuple[Index, Index]:
        """The axis of keys, and another one with which they are compared."""
        both = (Index(count, "k", running=True), Index(count, "k", running=True))
        found = self.nodes.ranks.setdefault(count, both)
        self.nodes.whole.update(found)
        return found

    def sorted(self, op: top.Ranking, keys: Node, rows: tuple[Index, ...],
               at: Index | Node | None) -> Node:  # fmt: skip
        """The key that is larger than all but so many."""
        make, (axis, other) = self.nodes.node, self.axes(op.count)
        again = make(shape.Reshape, (keys,), axes=(*rows, other))
        larger = self.nodes.cast(make(arith.Lt, (keys, again), dtype=boolean), i32)
        before = make(reduce.Sum, (larger,), axes=(*rows, axis), bound=other, op=op)
        here = make(arith.Eq, (before, self.nodes.coordinate(at)), dtype=boolean)
        one = make(arith.Where, (here, keys, self.nodes.constant(NONE, i64)), dtype=i64)
        axes = tuple(a for a in one.axes if a is not axis)
        return make(reduce.Max, (one,), axes=axes, bound=axis, op=op)

    def value(self, key: Node, dtype: DType) -> Node:
        """The element that a key stands for."""
        make, number = self.nodes.node, self.nodes.constant
        high = make(arith.Shr, (key, number(BITS, i64)))
        if not dtype.is_float:
            high = make(arith.Add, (high, number(shift(dtype), i64)))
            return self.nodes.cast(high, dtype)
        order = self.nodes.cast(high, i32)
        sign = make(arith.Shr, (order, number(BITS - 1, i32)))
        bits = make(arith.Xor, (order, make(arith.And, (sign, number(MAGNITUDE, i32)))))
        made = make(Bitcast, (bits,), dtype=f32, attributes=(("dtype", f32),))
        return self.nodes.cast(made, dtype)

    def place(self, key: Node) -> Node:
        """The place that a key stands for, -1 for that of no element."""
        make, number = self.nodes.node, self.nodes.constant
        low = make(arith.And, (key, number(PLACES, i64)))
        none = make(arith.Lt, (low, number(HALF, i64)), dtype=boolean)
        there = self.nodes.cast(make(arith.Sub, (number(PLACES, i64), low)), i32)
        return make(arith.Where, (none, number(-1, i32), there), dtype=i32)

    def inside(self, node: Node, bound: Index) -> tuple[Node, Made]:
        """What a node is a rising function of, along an index, and how it is made of that."""
        found = self.argument(node, bound)
        if found is None:
            return node, _same
        at, args = found, list(node.args)
        core, made = self.inside(args[at], bound)

        def outer(n: Node) -> Node:
            new = [*args[:at], made(n), *args[at + 1 :]]
            return self.nodes.node(node.of, new, dtype=node.dtype, attributes=node.attributes,
                                   op=node.op)  # fmt: skip

        return core, outer

    def argument(self, node: Node, bound: Index) -> int | None:
        """Which argument a node rises with, the others being the same along an index."""
        along = [i for i, a in enumerate(node.args) if bound in a.axes]
        if len(along) != 1:
            return None
        (at,) = along
        inner, others = node.args[at], [a for i, a in enumerate(node.args) if i != at]
        if not inner.dtype.is_float or inner.dtype.bits > BITS or not node.dtype.is_float:
            return None
        rises = node.of in (*EXPONENTIALS, Cast, arith.Add) or (node.of is arith.Sub and at == 0)
        scales = node.of is arith.Mul or (node.of is arith.Div and at == 0)
        return at if rises or (scales and all(map(positive, others))) else None


def _same(node: Node) -> Node:
    return node


def positive(node: Node) -> bool:
    """Whether a number is known to be above 0."""
    if node.of is shape.Full:
        return float(dict(node.attributes)["value"]) > 0
    if node.of in (reduce.Sum, reduce.Max, Cast, arith.Mul, arith.Div, arith.Add):
        return all(map(positive, node.args))
    return node.of in EXPONENTIALS
