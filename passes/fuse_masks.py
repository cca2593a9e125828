"""Tiles of a loop in which a mask holds nowhere: where it may stop, and where begin.

A reduction is not changed by elements that are nothing to it: 0 to a sum, -inf to a maximum. Where
all reductions of a loop have only such elements unless a comparison of the loop's index holds, the
comparison bounds the loop. What lies beside a mask is taken to be finite, as by sparsify.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tilec.ir.core import Builder, Value
from tilec.ir.dtype import i32
from tilec.ir.ops import arith, reduce, shape, top
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Tile
from tilec.passes.cascade import Plan, constant
from tilec.passes.fuse_elements import Index, Node
from tilec.passes.fuse_loops import NARROW, Bounds, Cluster, Loops

STEP = 64  # of a loop that does not begin with its first tile
Terms = Mapping[Node, int]  # a sum of nodes, each so many times


def skipped(loops: Loops, cluster: Cluster, b: Builder) -> Bounds:
    """The part of a loop that may change something."""
    if any(p.mean or p.centre for p in cluster.plans):
        return Bounds()
    found = [_of_plan(p) for p in cluster.plans]
    limits = [x for m in sorted(found[0].intersection(*found), key=_place(found))
              if (x := _limit(m, cluster.bound)) and loops.can_run(x.terms)]  # fmt: skip
    ends = [_extreme(loops, x, b) for x in limits if x.last]
    starts = [_extreme(loops, x, b) for x in limits if not x.last]
    stop = _together(ends, arith.Minimum, b)
    first = _together(starts, arith.Maximum, b)
    if first is None:
        return Bounds(stop)
    size = NARROW if loops.wide(cluster) else STEP
    step = b(shape.Full((), size, i32))
    return Bounds(stop, b(arith.FloorDiv(first, step)), size)


def bounding(plan: Plan, index: Index) -> frozenset[Node]:
    """The comparisons that bound a loop over an index for one reduction."""
    none = plan.mean or plan.centre
    return frozenset(m for m in _of_plan(plan) if _limit(m, index)) if not none else frozenset()


def _place(found: list[set[Node]]) -> Callable[[Node], int]:
    order = list(dict.fromkeys(n for s in found for n in s))
    return order.index


def _together(values: list[Value], of: type[arith.Binary], b: Builder) -> Value | None:
    out: Value | None = None
    for v in values:
        out = v if out is None else b(of(out, v))
    return out


def _of_plan(p: Plan) -> set[Node]:
    """The comparisons without which an element is nothing to a reduction."""
    if p.node.of is reduce.Max:
        return masks(p.operands[0], -math.inf)
    if p.node.of is top.Top:
        return set()  # even the least element may be among them
    if p.node.of is reduce.Min:
        return masks(p.operands[0], math.inf)
    return {m for x in p.operands for m in masks(x, 0.0)}


Known = dict[tuple[Node, float], set[Node]]  # what was found of nodes that are used twice


def masks(node: Node, nothing: float, known: Known | None = None) -> set[Node]:
    """The comparisons that hold wherever a node is not `nothing`."""
    known = {} if known is None else known
    if (node, nothing) not in known:
        known[node, nothing] = _masks(node, nothing, known)
    return known[node, nothing]


def _masks(node: Node, nothing: float, known: Known) -> set[Node]:
    if node.of is arith.Where:
        c, a, b = node.args
        if constant(b) == nothing:
            return conjuncts(c) | masks(a, nothing, known)
        return masks(a, nothing, known) & masks(b, nothing, known)
    if nothing == 0.0:
        return _zero(node, known)
    args = node.args
    if node.of is arith.Add:
        return masks(args[0], nothing, known) | masks(args[1], nothing, known)
    positive = len(args) == 2 and (constant(args[1]) or 0) > 0
    if node.of is arith.Sub or (node.of in (arith.Mul, arith.Div) and positive):
        return masks(args[0], nothing, known)
    same = node.of is Cast and node.dtype.is_float
    return masks(args[0], nothing, known) if same else set()


def _zero(node: Node, known: Known) -> set[Node]:
    if node.of is arith.Mul:
        return masks(node.args[0], 0.0, known) | masks(node.args[1], 0.0, known)
    if node.of in (arith.Exp, arith.Exp2):
        return masks(node.args[0], -math.inf, known)
    same = node.of in (arith.Div, arith.Neg, Cast)
    return masks(node.args[0], 0.0, known) if same else set()


def conjuncts(node: Node) -> set[Node]:
    """The comparisons that hold where a mask does."""
    if node.of is arith.And:
        return conjuncts(node.args[0]) | conjuncts(node.args[1])
    return {node} if node.of in (arith.Lt, arith.Le) else set()


@dataclass(frozen=True)
class Limit:
    """The index is below (`last`) the greatest of `terms` + `more`, or at least the least of it."""

    terms: Terms
    more: int
    last: bool


def _limit(mask: Node, index: Index) -> Limit | None:
    """What a comparison says of an index."""
    left, right = (linear(a) for a in mask.args)
    if left is None or right is None:
        return None
    terms = dict(right)
    for n, by in left.items():
        terms[n] = terms.get(n, 0) - by
    own = [n for n in terms if n.of is shape.Coordinates and n.axes == (index,)]
    if len(own) != 1 or any(index in n.axes for n in terms if n is not own[0]):
        return None
    by = terms.pop(own[0])
    closed = mask.of is arith.Le
    terms = {n: times for n, times in terms.items() if times}
    if by == -1:  # index < or <= the rest
        return Limit(terms, int(closed), True)
    if by == 1:  # the rest negated < or <= index
        return Limit({n: -times for n, times in terms.items()}, int(not closed), False)
    return None


def linear(node: Node) -> dict[Node, int] | None:
    """A whole number as a sum of nodes; None where it is no number of 32 bits."""
    if node.dtype != i32:
        return None
    if node.of in (arith.Add, arith.Sub):
        a, b = (linear(x) for x in node.args)
        if a is None or b is None:
            return None
        sign = 1 if node.of is arith.Add else -1
        return a | {n: a.get(n, 0) + sign * by for n, by in b.items()}
    return {node: 1}


def _extreme(loops: Loops, limit: Limit, b: Builder) -> Value:
    """The greatest of a sum over a tile, or the least, and what is added."""
    out = b(shape.Full((), limit.more, i32))
    for n, by in limit.terms.items():
        v = _end(loops, n, (by > 0) == limit.last, b)
        out = b(arith.Add(out, b(arith.Mul(v, b(shape.Full((), by, i32))))))
    return out


def _end(loops: Loops, node: Node, greatest: bool, b: Builder) -> Value:
    """The greatest element of a tile, or the least."""
    shown = loops.shown(node.axes)
    if node.of is shape.Coordinates and shown:
        (index,) = shown
        start = b(shape.Start(loops.span(index, b)))
        if not greatest:
            return start
        size = b(shape.Size(loops.extents([index])[0]))
        return b(arith.Sub(b(arith.Add(start, size)), b(shape.Full((), 1, i32))))
    v = loops.value(node)
    while isinstance(v.type, Tile) and v.type.rank:
        v = b((reduce.Max if greatest else reduce.Min)(v, 0))
    return v
