"""Reductions that depend on each other, in one loop: sums that are rescaled while it runs.

A sum over an index of terms that depend on other reductions over the same index would take a pass
of its own over what it reads (the passes are counted as in FuseMax: Nayak and others, 2024). It
takes part in the loop of those others where a term is a product of

* what does not depend on them: this is summed;
* what depends on them alone: by that the sum is multiplied behind the loop;
* exp(u - t), t made of a maximum: the sum so far is multiplied by exp(old t - new t), as in the
  online softmax (Milakov and Gimelshein, 2018);

where it is the square of u less the mean of u (Chan, Golub and LeVeque, 1983), or a product with u
less a mean: the mean is that of what there was so far, and where it moves the sum so far moves by
as much times the sum of the other factors. A summand beside such a product is summed by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tilec.ir.core import Op
from tilec.ir.dtype import DType, boolean
from tilec.ir.format import Dense
from tilec.ir.ops import arith, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.passes.fuse_elements import Index, Node
from tilec.passes.fuse_nodes import Nodes

EXPONENTIALS = (arith.Exp, arith.Exp2)
FEW = 64  # columns of a product


@dataclass(frozen=True)
class Anchor:
    """An exponential in a term: its class, and what is taken from the exponent."""

    of: type[Op]
    taken: Node


@dataclass(frozen=True)
class Term:
    """A term of a sum: what is summed (None: 1), anchors, and factors that move behind the loop,
    each with whether the sum is divided by it. A core may have a `mean` taken from something, which
    `others` are multiplied by; `beside` is added to all that."""

    core: Node | None
    anchors: tuple[Anchor, ...] = ()
    factors: tuple[tuple[Node, bool], ...] = ()
    mean: Node | None = None
    others: Node | None = None
    beside: Node | None = None

    @property
    def plain(self) -> bool:
        """Whether it is what is summed, and factors."""
        return self.mean is None and self.beside is None

    def changed(self, make: Callable[[Node], Node], one: Node) -> Term:
        """The term with a function of what is summed, which is linear; `one` is 1."""
        parts = (self.core or one, self.mean and (self.others or one), self.beside)
        core, others, beside = (n and make(n) for n in parts)
        return Term(core, self.anchors, self.factors, self.mean, others, beside)


@dataclass(frozen=True)
class Plan:
    """How a reduction takes part in a loop: its operands there (for a product two), anchors,
    factors; `mean` of a sum of squared distances from the mean: what is summed for that. Of a sum
    of distances from the mean `centre`, `others` is the sum of what they are multiplied by;
    `beside` is a sum that is added."""

    node: Node
    operands: tuple[Node, ...]
    anchors: tuple[Anchor, ...] = ()
    factors: tuple[tuple[Node, bool], ...] = ()
    mean: Node | None = None
    centre: Node | None = None
    others: Node | None = None
    beside: Node | None = None

    @property
    def needs(self) -> list[Node]:
        """The sums that it needs in the same loop."""
        return [n for n in (self.others, self.beside) if n is not None]


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
        factors = tuple(f for t in found for f in t.factors)
        special = [i for i, t in enumerate(found) if not t.plain]
        if not special:
            return Plan(node, operands, anchors, factors)
        (at, *more), t = special, found[special[0]]
        if more or any(f.anchors or f.factors for i, f in enumerate(found) if i != at):
            return "both operands depend on reductions over the same elements"
        one = t.mean and self.nodes.constant(1, t.mean.dtype)
        parts = [n and self.companion(node, operands, at, n) for n in (t.others or one, t.beside)]
        if any(n and not few(n, node) for n in parts):
            return "sums of the other operand would be taken beside the product"
        return Plan(node, operands, anchors, factors, None, t.mean, *parts)

    def companion(self, node: Node, operands: Sequence[Node], at: int, own: Node) -> Node:
        """The sum as `node` is, of `own` in the place of an operand."""
        make, bound = self.nodes.node, self.bound
        if bound not in own.axes:
            own = make(arith.Mul, (own, self.ones(own)))
        rest = [n for i, n in enumerate(operands) if i != at]
        if rest and not set(own.axes) <= set(rest[0].axes):
            both = (own, rest[0]) if at == 0 else (rest[0], own)
            axes = tuple(dict.fromkeys(a for n in both for a in n.axes if a is not bound))
            return make(reduce.Dot, both, axes=axes, dtype=node.dtype, bound=bound, op=node.op)
        for n in rest:
            own = make(arith.Mul, [self.nodes.cast(x, node.dtype) for x in (own, n)])
        axes = tuple(a for a in own.axes if a is not bound)
        return make(reduce.Sum, (own,), axes=axes, bound=bound, op=node.op)

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
            case arith.Add | arith.Sub:
                return self.sum(node)
            case arith.Neg:
                return self.within(node, lambda core: self.nodes.node(arith.Neg, (core,)))
            case c if c is Cast:
                return self.rounded(node)
            case arith.Where:
                return self.selected(node)
            case _:
                return self.no_product(node)

    def no_product(self, node: Node) -> str:
        """Why a term is none."""
        return f"{node.of.name} of a reduction over the same elements is no product"

    def within(self, node: Node, make: Callable[[Node], Node]) -> Term | str:
        """A term whose core is changed."""
        found = self.term(node.args[0])
        one = self.nodes.constant(1, node.args[0].dtype)
        return found if isinstance(found, str) else found.changed(make, one)

    def sum(self, node: Node) -> Term | str:
        """u less a mean, or a term and what depends on no reduction."""
        a, b = node.args
        if node.of is arith.Sub and not self.dependent(a) and self.total(b):
            return Term(node, mean=b)
        if node.of is arith.Add and self.dependent(b):
            a, b = b, a
        found = self.no_product(node) if self.dependent(b) else self.term(a)
        if isinstance(found, str):
            return found
        if found.mean is None or found.beside is not None:
            return self.no_product(node)
        return replace(found, beside=b if node.of is arith.Add else negative(b, self.nodes))

    def total(self, mean: Node) -> Node | None:
        """What a mean over the index is made of, if a node is one."""
        if mean.of is not arith.Div or mean.args[0].of is not reduce.Sum:
            return None
        sums, count = mean.args
        here = sums in self.inside and sums.bound is self.bound and counts(count, self.bound)
        return sums if here and not self.dependent(sums.args[0]) else None

    def product(self, node: Node) -> Term | str:
        """a * b."""
        a, b = (self.term(x) for x in node.args)
        if isinstance(a, str) or isinstance(b, str):
            return a if isinstance(a, str) else b
        if not b.plain:
            a, b = b, a
        if not a.plain and not (b.plain and not b.anchors):
            return self.no_product(node)
        if a.beside is not None and b.factors:
            return "what is added to a product of a reduction is multiplied by another one"
        anchors, factors = a.anchors + b.anchors, a.factors + b.factors
        if a.core is None or b.core is None:
            return replace(a, core=a.core or b.core, anchors=anchors, factors=factors)
        by, one = b.core, self.nodes.constant(1, node.dtype)
        made = a.changed(lambda n: by if n is one else self.nodes.node(arith.Mul, (n, by)), one)
        return replace(made, anchors=anchors, factors=factors)

    def quotient(self, node: Node) -> Term | str:
        """a / b."""
        above, below = self.term(node.args[0]), node.args[1]
        if isinstance(above, str):
            return above
        if not self.dependent(below):
            one = self.nodes.constant(1, node.dtype)
            return above.changed(lambda n: self.nodes.node(arith.Div, (n, below)), one)
        if self.bound in below.axes or above.beside is not None:
            return "a divisor depends on the element and on a reduction over the same elements"
        return replace(above, factors=(*above.factors, (below, True)))

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
        found, one = self.term(a), self.nodes.constant(1, a.dtype)
        if isinstance(found, str):
            return found
        return found.changed(
            lambda n: self.nodes.node(arith.Where, (c, n, b), dtype=node.dtype), one)  # fmt: skip

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
        total = None if self.dependent(u) else self.total(mean)
        return Plan(node, (u,), mean=total) if total and total.args == (u,) else None


def few(sums: Node, node: Node) -> bool:
    """Whether sums beside a product take less time than the statistics by themselves: measured on
    a CPU, they do for the columns of a router, and not for those of a layer."""
    if node.of is not reduce.Dot:
        return True
    packed = any(n.mem and not isinstance(n.mem.type.format, Dense) for n in loads(sums))  # type: ignore[union-attr]
    sizes = [a.dim for a in sums.axes]
    return not packed and sums.of is reduce.Sum and all(
        isinstance(e, int) and e <= FEW for e in sizes)  # fmt: skip


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
