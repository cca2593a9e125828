"""Reductions become loops: those over one index that may run together are one loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tilec.ir.core import Block, Builder, Value
from tilec.ir.dtype import DType, f32, i32
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import arith, control, reduce, shape, top
from tilec.ir.types import Span, Tile
from tilec.passes.cascade import Cascade, Plan, reductions, replaced, safe, wider
from tilec.passes.fuse_elements import Index, Node
from tilec.passes.fuse_tiles import Axes, Scope, Tiles
from tilec.passes.fuse_top import TILE

WIDE = 256  # elements of an axis of which a tile has all, and a usual step of a loop fits beside
NARROW = 32  # the step of a loop where such an axis has more
COMBINE = {reduce.Sum: arith.Add, reduce.Max: arith.Maximum, reduce.Min: arith.Minimum}


@dataclass(frozen=True)
class Bounds:
    """The part of a loop that is not skipped: where it stops, the tile that it begins with."""

    stop: Value | None = None
    first: Value | None = None
    tile: int | None = None


@dataclass
class Cluster:
    """Reductions over one index that one loop computes."""

    bound: Index
    plans: list[Plan] = field(default_factory=list[Plan])

    @property
    def nodes(self) -> frozenset[Node]:
        return frozenset(p.node for p in self.plans)


@dataclass(frozen=True)
class Centre:
    """Sums as they would be with another mean, and what stands for that mean."""

    sums: Node
    known: dict[Node, Node]


Skipped = Callable[["Loops", Cluster, Builder], Bounds]
Bounding = Callable[[Plan, Index], frozenset[Node]]  # comparisons without which nothing is changed
Fresh = Callable[[str], Sym]


def whole(loops: Loops, cluster: Cluster, b: Builder) -> Bounds:
    """A loop that skips nothing."""
    del loops, cluster, b
    return Bounds()


def nowhere(plan: Plan, index: Index) -> frozenset[Node]:
    """No comparison bounds a loop."""
    del plan, index
    return frozenset()


@dataclass
class Loops(Tiles):
    """Writes nodes, and loops for their reductions. `reasons` is why some are in a loop of their
    own."""

    fresh: Fresh = Sym
    skipped: Skipped = whole
    bounding: Bounding = nowhere
    reasons: list[tuple[Node, str]] = field(default_factory=list[tuple[Node, str]])
    loops: int = 0

    def prepare(self, targets: Sequence[Node]) -> None:
        """Compute every reduction that `targets` need and that can run now."""
        for depth, cluster in self.clusters(self.pending(targets)):
            open_ = self.scopes
            self.scopes = open_[: depth + 1]
            self.loop(cluster)
            self.scopes = open_

    def can_run(self, nodes: Iterable[Node]) -> bool:
        """Whether everything that nodes need is known."""
        return all(all(map(self.bound, n.axes)) and not self.pending([n]) for n in nodes)

    def clusters(self, pending: Sequence[Node]) -> list[tuple[int, Cluster]]:
        """Reductions by the loops that compute them, in order."""
        out: list[tuple[int, Cluster]] = []
        for n in pending:
            assert n.bound is not None
            depth, inner = self.depth(n), set(reductions(n)) - {n}
            at = max((i for i, (_, c) in enumerate(out) if inner & c.nodes), default=-1)
            fits = [i for i, (d, c) in enumerate(out) if c.bound is n.bound and d == depth]
            plan: Plan | str | None = None
            for i in (i for i in fits if i >= at):
                plan = Cascade(self.nodes, n.bound, out[i][1].nodes).plan(n)
                if isinstance(plan, Plan) and self.elsewhere(plan, out[i][1]):
                    plan = "its mask bounds a loop elsewhere"
                if isinstance(plan, Plan):
                    known = out[i][1].nodes
                    out[i][1].plans += [Plan(x, x.args) for x in plan.needs if x not in known]
                    out[i][1].plans.append(plan)
                    break
                self.reasons.append((n, plan))
            if not isinstance(plan, Plan):
                out.append((depth, Cluster(n.bound, [Plan(n, n.args)])))
        return out

    def elsewhere(self, plan: Plan, cluster: Cluster) -> bool:
        """Whether a loop would skip nothing for two reductions, and would for each by itself."""
        own, *others = [self.bounding(p, cluster.bound) for p in (plan, *cluster.plans)]
        before = others[0].intersection(*others)
        return bool(own and before) and not own & before

    def loop(self, cluster: Cluster) -> None:
        """The loop of a cluster, and its results."""
        outer, index, b = self.scopes[-1], cluster.bound, self.scopes[-1].builder
        size = self.sizes.setdefault(index, self.fresh("k"))
        b.loc = next((p.node.op.loc for p in cluster.plans if p.node.op), b.loc)
        init = tuple(self.start(p, b) for p in cluster.plans)
        limits = self.skipped(self, cluster, b)
        span = Value(Span(index.dim, size), str(size))
        carried = tuple(Value(v.type) for v in init)
        inner = Scope(Builder(loc=b.loc), {index: span})
        self.scopes = [*self.scopes, inner]
        results = self.step(cluster, carried, inner)
        self.scopes = self.scopes[:-1]
        body = Block((span, *carried), tuple(inner.builder.ops), results)
        tile = 1 if index in self.nodes.single else limits.tile or (
            NARROW if self.wide(cluster) else _ranking_tile(cluster))  # fmt: skip
        loop = control.For(index.dim, size, tile, init, body, limits.stop, limits.first)
        done = b.add(loop).results
        self.loops += 1
        del self.sizes[index]
        finals: dict[Node, Node] = {}
        for p, v in zip(cluster.plans, done, strict=True):
            sums = self.leaf(p.node, v, outer)
            finals[p.node] = self.scaled(p, sums, finals)
            outer.values[p.node] = self.stretched(
                self.value(finals[p.node]), self.shown(finals[p.node].axes),
                self.shown(p.node.axes), b)  # fmt: skip

    def wide(self, cluster: Cluster) -> bool:
        """Whether a product of a loop has all of a wide axis, of which few rows are held."""
        axes = {a for p in cluster.plans if p.node.of is reduce.Dot
                for n in (p.node, *p.node.args) for a in n.axes}  # fmt: skip
        return any(isinstance(a.dim, int) and a.dim > WIDE for a in axes if self.is_whole(a))

    def step(self, cluster: Cluster, carried: Sequence[Value], scope: Scope) -> tuple[Value, ...]:
        """The body of a loop: what is carried on."""
        old: dict[Node, Node] = {}
        new: dict[Node, Node] = {}
        raw: dict[Node, Node] = {}
        results: list[Value] = []
        alone = [x for p in cluster.plans for x in p.operands if cluster.nodes.isdisjoint(x.walk())]
        self.prepare(alone)  # together: loops inside of this one may be one
        for p, v in zip(cluster.plans, carried, strict=True):
            before = self.leaf(p.node, v, scope)
            now = self.centre(p, before, raw, new, scope)
            operands = [replaced(x, new | now.known, self.nodes, {}) for x in p.operands]
            raw[p.node] = before
            found = self.about_mean(p, before, operands[0], raw, new, scope) if p.mean else (
                self.added(p, now.sums, operands, old, new, scope))  # fmt: skip
            results.append(found)
            old[p.node] = self.scaled(p, before, old)
            after = self.leaf(p.node, found, scope)
            new[p.node] = self.scaled(p, after, new)
        return tuple(results)

    def added(self, p: Plan, before: Node, operands: Sequence[Node], old: dict[Node, Node],
              new: dict[Node, Node], scope: Scope) -> Value:  # fmt: skip
        """What is carried and this step's part of it."""
        b, axes = scope.builder, self.shown(p.node.axes)
        acc = before
        for anchor in p.anchors:
            then = replaced(anchor.taken, old, self.nodes, {})
            now = safe(replaced(anchor.taken, new, self.nodes, {}), self.nodes)
            power = self.nodes.node(arith.Sub, (then, now))
            factor = self.nodes.cast(self.nodes.node(anchor.of, (power,)), acc.dtype)
            acc = self.nodes.node(arith.Mul, (acc, factor), axes=p.node.axes)
        self.prepare(operands)
        start = self.spread(acc, axes, b)
        if p.node.of is reduce.Dot:
            return self.dot(p.node, operands, start, b)
        if p.node.of is top.Top:
            return self.ranked(p.node, operands[0], start, b)
        operand = self.nodes.cast(operands[0], before.dtype)
        part = self.reduced(p.node, operand, b)
        return b(COMBINE[p.node.of](start, part))  # type: ignore[index]

    def about_mean(self, p: Plan, before: Node, u: Node, raw: dict[Node, Node],
                   new: dict[Node, Node], scope: Scope) -> Value:  # fmt: skip
        """The sum of squared distances from the mean of what there was so far: those of the step,
        and n (old mean - new mean)**2 for the n before."""
        b, make = scope.builder, self.nodes.node
        assert p.mean is not None
        at, then, now = self.means(p.mean, raw, new, scope)
        far = make(arith.Sub, (self.nodes.cast(u, before.dtype), now))
        part = self.reduced(p.node, make(arith.Mul, (far, far)), b)
        moved = make(arith.Sub, (then, now))
        again = make(arith.Mul, (at, make(arith.Mul, (moved, moved))), axes=p.node.axes)
        axes = self.shown(p.node.axes)
        so_far = b(arith.Add(self.value(before), self.spread(again, axes, b)))
        return b(arith.Add(so_far, part))

    def means(self, total: Node, raw: dict[Node, Node], new: dict[Node, Node], scope: Scope
              ) -> tuple[Node, Node, Node]:  # fmt: skip
        """How many elements there were before a step, their mean (or 0), and the mean with those
        of the step."""
        b, make = scope.builder, self.nodes.node
        assert total.bound is not None
        dtype = raw[total].dtype
        size = b(shape.Size(self.sizes[total.bound]))
        at = self.leaf(None, b(shape.Start(scope.spans[total.bound])), scope)
        end = self.leaf(None, b(arith.Add(self.value(at), size)), scope)
        one = self.nodes.constant(1, i32)
        n, whole_ = (self.nodes.cast(make(arith.Maximum, (x, one)), dtype) for x in (at, end))
        then, now = (make(arith.Div, (self.nodes.cast(s, dtype), c))
                     for s, c in ((raw[total], n), (new[total], whole_)))  # fmt: skip
        return self.nodes.cast(at, dtype), then, now

    def centre(self, p: Plan, before: Node, raw: dict[Node, Node], new: dict[Node, Node],
               scope: Scope) -> Centre:  # fmt: skip
        """What a sum of distances from a mean is, if they are taken from the mean of a step."""
        if p.centre is None:
            return Centre(before, {})
        make, mean = self.nodes.node, p.centre
        assert p.others is not None
        _, then, now = self.means(mean.args[0], raw, new, scope)
        then, now = (self.nodes.cast(x, mean.dtype) for x in (then, now))
        moved = self.nodes.cast(make(arith.Sub, (then, now)), before.dtype)
        by = make(arith.Mul, (moved, raw[p.others]))
        return Centre(make(arith.Add, (before, by), axes=p.node.axes), {mean: now})

    def leaf(self, node: Node | None, v: Value, scope: Scope) -> Node:
        """A node whose value is known: what stands for a reduction, or a number."""
        axes: Axes = node.axes if node else ()
        assert isinstance(v.type, Tile)
        made = self.nodes.node(shape.Size, axes=tuple(axes), dtype=v.type.dtype, leaf=v)
        scope.values[made] = v
        return made

    def scaled(self, p: Plan, sums: Node, known: dict[Node, Node]) -> Node:
        """A reduction from what is carried for it."""
        for factor, divides in p.factors:
            by = self.nodes.cast(replaced(factor, known, self.nodes, {}), sums.dtype)
            of = arith.Div if divides else arith.Mul
            sums = self.nodes.node(of, (sums, by), axes=p.node.axes)
        if p.beside is not None:
            more = self.nodes.cast(known[p.beside], sums.dtype)
            sums = self.nodes.node(arith.Add, (sums, more), axes=p.node.axes)
        return self.nodes.cast(sums, p.node.dtype)

    def start(self, p: Plan, b: Builder) -> Value:
        """What a loop carries first."""
        if p.node.of is top.Top:
            return self.best(p.node, b)
        dtype = f32 if wider(p.node.dtype) and p.node.of is reduce.Sum else p.node.dtype
        neutral: dict[object, float | int] = {reduce.Max: least(dtype), reduce.Min: most(dtype)}
        value = neutral.get(p.node.of, 0)
        extents: tuple[Extent, ...] = self.extents(self.shown(p.node.axes))
        return b(shape.Full(extents, value, dtype))


def _ranking_tile(cluster: Cluster) -> int | None:
    """The step of a loop with a ranking, in most of which nothing is among the best."""
    return TILE if any(p.node.of is top.Top for p in cluster.plans) else None


def least(t: DType) -> float | int:
    """What changes no maximum."""
    return -math.inf if t.is_float and t.infinite else (float(t.low) if t.is_float else int(t.low))


def most(t: DType) -> float | int:
    """What changes no minimum."""
    return math.inf if t.is_float and t.infinite else (float(t.high) if t.is_float else int(t.high))
