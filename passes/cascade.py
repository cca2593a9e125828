"""Reductions that depend on each other, in one loop: sums that are rescaled while it runs.

A sum over an index of terms that depend on other reductions over the same index would take a pass
of its own over what it reads (the passes are counted as in FuseMax: Nayak and others, 2024). It
takes part in the loop of those others where a term is a product of

* what does not depend on them: this is summed;
* what depends on them alone: by that the sum is multiplied behind the loop;
* exp(u - t), t made of a maximum: the sum so far is multiplied by exp(old t - new t), as in the
  online softmax (Milakov and Gimelshein, 2018);

or where it is the square of u less the mean of u (Chan, Golub and LeVeque, 1983).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tilec.ir.core import Op
from tilec.ir.dtype import DType, boolean
from tilec.ir.ops import arith, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.passes.fuse_elements import Index, Node
from tilec.passes.fuse_nodes import Nodes

EXPONENTIALS = (arith.Exp, arith.Exp2)


@dataclass(frozen=True)
class Anchor:
    """An exponential in a term: its class, and what is taken from the exponent."""

    of: type[Op]
    taken: Node


@dataclass(frozen=True)
class Term:
    """A term of a sum: what is summed (None: 1), anchors, and factors that move behind the loop,
    each with whether the sum is divided by it."""

    core: Node | None
    anchors: tuple[Anchor, ...] = ()
    factors: tuple[tuple[Node, bool], ...] = ()


@dataclass(frozen=True)
class Plan:
    """How a reduction takes part in a loop: its operands there (for a product two), anchors,
    factors; `mean` of a sum of squared distances from the mean: what is summed for that."""

    node: Node
    operands: tuple[Node, ...]
    anchors: tuple[Anchor, ...] = ()
    factors: tuple[tuple[Node, bool], ...] = ()
    mean: Node | None = None


@dataclass
class Cascade:
    """What is asked about terms that depend on reductions over one index."""

    nodes: Nodes
    bound: Index
    inside: frozenset[Node]  # the reductions of the loop so far
    depends: dict[Node, bool] = field(default_factory=dict[Node, bool])

    def plan(self, node: Node) -> Plan | str:
        """How a reduction takes part in the loop, or why it can't."""
        if not any(map(self.dependent, node.args)):
            return Plan(node, node.args)
        if node.of not in (reduce.Sum, reduce.Dot):
            return f"a {node.of.name} depends on a reduction over the same elements"
        if found := self.squares(node):
            return found
        terms = [self.term(a) for a in node.args]
        for t in terms:
            if isinstance(t, str):
                return t
        found = [t for t in terms if isinstance(t, Term)]
        operands = tuple(
            self.ones(a) if t.core is None else t.core
            for t, a in zip(found, node.args, strict=True)
        )
        anchors = tuple(a for t in found for a in t.anchors)
        return Plan(node, operands, anchors, tuple(f for t in found for f in t.factors))

    def ones(self, like: Node) -> Node:
        """A sum of ones counts: of the shape that the loop gives it."""
        here = self.nodes.cast(self.nodes.coordinate(self.bound), like.dtype)
        zero = self.nodes.constant(0, like.dtype)
        return self.nodes.node(arith.Add, (self.nodes.node(arith.Mul, (here, zero)),
                                           self.nodes.constant(1, like.dtype)))  # fmt: skip

    def dependent(self, node: Node) -> bool:
        """Whether a node depends on a reduction of the loop."""
        if node not in self.depends:
            below = any(map(self.dependent, node.below()))
            self.depends[node] = node in self.inside or below
        return self.depends[node]

    def term(self, node: Node) -> Term | str:
        """A term as a product."""
        if not self.dependent(node):
            return Term(node)
        if self.bound not in node.axes:
            return Term(None, (), ((node, False),))
        if node.of in EXPONENTIALS:
            return self.exponential(node)
        match node.of:
            case arith.Mul:
                return self.product(node)
            case arith.Div:
                return self.quotient(node)
            case arith.Neg:
                return self.within(node, lambda core: self.nodes.node(arith.Neg, (core,)))
            case c if c is Cast:
                return self.rounded(node)
            case arith.Where:
                return self.selected(node)
            case _:
                return f"{node.of.name} of a reduction over the same elements is no product"

    def within(self, node: Node, make: Callable[[Node], Node]) -> Term | str:
        """A term whose core is changed."""
        found = self.term(node.args[0])
        if isinstance(found, str):
            return found
        core = self.nodes.constant(1, node.args[0].dtype) if found.core is None else found.core
        return Term(make(core), found.anchors, found.factors)

    def product(self, node: Node) -> Term | str:
        """a * b."""
        a, b = (self.term(x) for x in node.args)
        if isinstance(a, str) or isinstance(b, str):
            return a if isinstance(a, str) else b
        cores = [t.core for t in (a, b) if t.core is not None]
        core = cores[0] if len(cores) == 1 else (
            self.nodes.node(arith.Mul, cores) if cores else None)  # fmt: skip
        return Term(core, a.anchors + b.anchors, a.factors + b.factors)

    def quotient(self, node: Node) -> Term | str:
        """a / b."""
        above, below = self.term(node.args[0]), node.args[1]
        if isinstance(above, str):
            return above
        if not self.dependent(below):
            core = above.core or self.nodes.constant(1, node.dtype)
            return Term(self.nodes.node(arith.Div, (core, below)), above.anchors, above.factors)
        if self.bound in below.axes:
            return "a divisor depends on the element and on a reduction over the same elements"
        return Term(above.core, above.anchors, (*above.factors, (below, True)))

    def rounded(self, node: Node) -> Term | str:
        """a in another float."""
        if not node.dtype.is_float or node.dtype.bits < 16:
            return f"rounding to {node.dtype} does not let a factor pass"
        return self.within(node, lambda core: self.nodes.cast(core, node.dtype))

    def selected(self, node: Node) -> Term | str:
        """a where c, else 0."""
        c, a, b = node.args
        if self.dependent(c) or constant(b) != 0:
            return "a choice depends on a reduction over the same elements"
        found = self.term(a)
        if isinstance(found, str):
            return found
        core = found.core or self.nodes.constant(1, a.dtype)
        return Term(self.nodes.node(arith.Where, (c, core, b), dtype=node.dtype),
                    found.anchors, found.factors)  # fmt: skip

    def exponential(self, node: Node) -> Term | str:
        """exp(u - t)."""
        split = self.difference(node.args[0])
        if isinstance(split, str):
            return split
        taken = split[1]
        assert taken is not None
        if not any(n.of is reduce.Max and n in self.inside for n in taken.walk()):
            return f"no maximum is taken from the exponent of {node.of.name}"
        core = self.nodes.node(node.of, (self.nodes.node(
            arith.Sub, (split[0] or self.nodes.constant(0, taken.dtype),
                        safe(taken, self.nodes))),))  # fmt: skip
        return Term(core, (Anchor(node.of, taken),))

    def difference(self, node: Node) -> tuple[Node | None, Node | None] | str:
        """u and t of u - t: u does not depend on the reductions, t not on the element."""
        make = self.nodes.node
        if not self.dependent(node):
            return node, None
        if self.bound not in node.axes:
            return None, negative(node, self.nodes)
        if node.of in (arith.Add, arith.Sub):
            a, b = (self.difference(x) for x in node.args)
            if isinstance(a, str) or isinstance(b, str):
                return a if isinstance(a, str) else b
            return self.joined(node.of, a[0], b[0]), self.joined(node.of, a[1], b[1])
        if node.of in (arith.Mul, arith.Div):
            scaled, by = node.args
            if node.of is arith.Mul and self.dependent(by):
                scaled, by = by, scaled
            inner = self.difference(scaled)
            if isinstance(inner, str) or self.dependent(by) or self.bound in by.axes:
                return "an exponent is no difference of an element and a reduction"
            u, t = (n and make(node.of, (n, by)) for n in inner)
            return u, t
        return f"an exponent is a {node.of.name} of a reduction over the same elements"

    def joined(self, of: type[Op], a: Node | None, b: Node | None) -> Node | None:
        """a + b or a - b, where either may be absent."""
        if b is None:
            return a
        if a is None:
            return b if of is arith.Add else negative(b, self.nodes)
        return self.nodes.node(of, (a, b))

    def squares(self, node: Node) -> Plan | None:
        """The sum of (u - sum(u) / n)**2, n being how many there are."""
        if node.of is not reduce.Sum or node.args[0].of is not arith.Mul:
            return None
        a, b = node.args[0].args
        if a is not b or a.of is not arith.Sub:
            return None
        u, mean = a.args
        if self.dependent(u) or mean.of is not arith.Div:
            return None
        total, count = mean.args
        if total.of is not reduce.Sum or total.args != (u,) or total.bound is not self.bound:
            return None
        if total not in self.inside or not counts(count, self.bound):
            return None
        return Plan(node, (u,), mean=total)


def counts(node: Node, bound: Index) -> bool:
    """Whether a number is how many elements an index has."""
    if node.of is Cast:
        return counts(node.args[0], bound)
    if node.of is shape.Size and node.leaf is None:
        return dict(node.attributes)["dim"] == bound.dim
    value = constant(node)
    return isinstance(bound.dim, int) and value == bound.dim


def constant(node: Node) -> float | None:
    """The number that a node is."""
    if node.of is Cast and node.dtype.is_float:
        return constant(node.args[0])
    return float(dict(node.attributes)["value"]) if node.of is shape.Full else None


def replaced(node: Node, to: Mapping[Node, Node], nodes: Nodes, seen: dict[Node, Node]) -> Node:
    """A node made of other nodes."""
    if node in to:
        return to[node]
    if node not in seen:
        args = tuple(replaced(a, to, nodes, seen) for a in node.args)
        at = tuple(replaced(i, to, nodes, seen) if isinstance(i, Node) else i for i in node.indices)
        same = args == node.args and at == node.indices
        seen[node] = node if same else nodes.node(
            node.of, args, axes=node.axes, dtype=node.dtype, attributes=node.attributes,
            mem=node.mem, indices=at, bound=node.bound, op=node.op)  # fmt: skip
    return seen[node]


def negative(node: Node, nodes: Nodes) -> Node:
    """-a."""
    return node.args[0] if node.of is arith.Neg else nodes.node(arith.Neg, (node,))


def safe(node: Node, nodes: Nodes) -> Node:
    """A node with 0 for -inf: exp(u - it) is 0 then, where every u so far is -inf."""
    least = nodes.constant(-math.inf, node.dtype)
    none = nodes.node(arith.Eq, (node, least), dtype=boolean)
    zero = nodes.constant(0, node.dtype)
    return nodes.node(arith.Where, (none, zero, node), axes=node.axes, dtype=node.dtype)


def reductions(node: Node) -> list[Node]:
    """The reductions over an index that a node is made of, operands first."""
    return [n for n in node.walk() if n.bound is not None and n.bound not in n.axes]


def product_of(node: Node) -> bool:
    """Whether a node is a product of matrices."""
    return node.of is reduce.Dot


def loads(node: Node) -> list[Node]:
    """The loads that a node is made of."""
    return [n for n in node.walk() if n.of is memory.Load]


def wider(dtype: DType) -> bool:
    """Whether sums of a dtype are carried in f32: they would be rounded in every step."""
    return dtype.is_float and dtype.bits < 32
