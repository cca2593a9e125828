"""Nodes become ops on tiles: what is computed where, in a grid and the loops inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tilec.ir.core import Builder, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops import memory, reduce, scan, shape, top
from tilec.ir.types import Tile
from tilec.passes.cascade import reductions
from tilec.passes.fuse_elements import Index, Node
from tilec.passes.fuse_nodes import Nodes
from tilec.passes.fuse_top import merged, start

Axes = Sequence[Index]


@dataclass
class Scope:
    """A block that is being written: what its spans are, and which nodes have values in it."""

    builder: Builder
    spans: dict[Index, Value] = field(default_factory=dict[Index, Value])
    values: dict[Node, Value] = field(default_factory=dict[Node, Value])


@dataclass
class Tiles:
    """Writes nodes as ops, each in the outermost block in which what it needs is known."""

    nodes: Nodes
    scopes: list[Scope]
    sizes: dict[Index, Extent] = field(default_factory=dict[Index, Extent])

    # -- where --

    def is_whole(self, index: Index) -> bool:
        """Whether a tile has all of an index."""
        return index in self.nodes.whole

    def shown(self, axes: Axes) -> list[Index]:
        """The axes that a tile has: not those that are one at a time."""
        return [a for a in axes if a not in self.nodes.single]

    def depth(self, node: Node) -> int:
        """The number of the outermost scope in which a node can be computed."""
        deepest, seen, waiting = 0, set[Node](), [node]
        while waiting:  # each node once: many ways may lead to it
            n = waiting.pop()
            at = self.known(n)
            if at is not None:
                deepest = max(deepest, at)
            elif n not in seen:
                seen.add(n)
                deepest = max(deepest, 0, *(self.index_depth(a) for a in n.axes if self.bound(a)))
                waiting += n.below()
        return deepest

    def index_depth(self, index: Index) -> int:
        """The number of the scope in which an index is known."""
        if self.is_whole(index):
            return 0
        for i, scope in enumerate(self.scopes):
            if index in scope.spans:
                return i
        raise TileError(f"fuse: the index {index} is not known here")

    def known(self, node: Node) -> int | None:
        """The number of the scope that has a node's value."""
        return next((i for i, s in enumerate(self.scopes) if node in s.values), None)

    def bound(self, index: Index) -> bool:
        """Whether an index is known in the scopes that are open."""
        return self.is_whole(index) or any(index in s.spans for s in self.scopes)

    def pending(self, targets: Sequence[Node]) -> list[Node]:
        """The reductions by loops that can run now and that nodes need, operands first."""
        found: dict[Node, None] = {}
        for target in targets:
            for n in reductions(target):
                looped = n.bound is not None and not self.is_whole(n.bound)
                if looped and self.known(n) is None and all(map(self.bound, n.axes)):
                    found[n] = None
        return list(found)

    # -- values --

    def value(self, node: Node) -> Value:
        """A node's tile, with the axes that are shown of its own."""
        at = self.known(node)
        if at is not None:
            return self.scopes[at].values[node]
        at = self.depth(node)
        scope, open_ = self.scopes[at], self.scopes
        self.scopes = open_[: at + 1]
        scope.builder.loc = node.op.loc if node.op else scope.builder.loc
        made = self.made(node, scope.builder)
        self.scopes = open_
        scope.values[node] = made
        return made

    def made(self, node: Node, b: Builder) -> Value:
        """The ops of a node."""
        match node.of:
            case c if c is shape.Full:
                return b(shape.Full((), dict(node.attributes)["value"], node.dtype))
            case c if c is shape.Size:
                return node.leaf or b(shape.Size(dict(node.attributes)["dim"]))
            case c if c is shape.Coordinates:
                return self.coordinate(node.axes[0], b)
            case c if c is memory.Load:
                return self.loaded(node, b)
            case c if c is reduce.Dot:
                zero = Tile(self.extents(self.shown(node.axes)), node.dtype)
                return self.dot(node, node.args, b(shape.Full(zero.shape, 0, zero.dtype)), b)
            case c if c is shape.Reshape:  # an axis by another name
                return self.value(node.args[0])
            case c if Trait.ELEMENTWISE in c.traits:
                return self.each(node, b)
            case _:
                return self.along(node, b)

    def along(self, node: Node, b: Builder) -> Value:
        """The ops of a node that is made of more than one element."""
        match node.of:
            case c if c is top.Top:
                return self.ranked(node, node.args[0], self.best(node, b), b)
            case c if issubclass(c, reduce.Reduction):
                return self.reduced(node, node.args[0], b)
            case c if issubclass(c, scan.Scan):
                return self.scanned(node, b)
            case _:
                raise TileError(f"fuse: {node.of.name} has no tiles")

    def each(self, node: Node, b: Builder) -> Value:
        """An op on each element."""
        axes = self.shown(node.axes)
        names = node.of.fields("operand")[: len(node.args)]
        args = {n: self.spread(a, axes, b) for n, a in zip(names, node.args, strict=True)}
        return b(node.of(**args, **dict(node.attributes)))

    def coordinate(self, index: Index, b: Builder) -> Value:
        """The numbers of an index: i32[size], or one."""
        span = self.span(index, b)
        if index in self.nodes.single:
            return b(shape.Start(span))
        return b(shape.Coordinates(span))

    def span(self, index: Index, b: Builder) -> Value:
        """The span of an index."""
        for scope in self.scopes:
            if index in scope.spans:
                return scope.spans[index]
        self.scopes[0].spans[index] = self.scopes[0].builder(memory.Whole(index.dim))
        return self.scopes[0].spans[index]

    def place(self, index: Index | Node, shared: Axes, b: Builder) -> Value:
        """What picks an index in memory."""
        if isinstance(index, Node):
            return self.spread(index, shared if self.shown(index.axes) else [], b)
        span = self.span(index, b)
        return b(shape.Start(span)) if index in self.nodes.single else span

    def loaded(self, node: Node, b: Builder) -> Value:
        """A tile of memory, with its axes in the order of the node's."""
        assert node.mem is not None
        gathered = [i for i in node.indices if isinstance(i, Node)]
        shared = self.shown(list(dict.fromkeys(a for i in gathered for a in i.axes)))
        places = tuple(self.place(i, shared, b) for i in node.indices)
        found: list[Index] = []
        for i in node.indices:
            axes = [i] if isinstance(i, Index) else shared if self.shown(i.axes) else []
            found += [a for a in self.shown(axes) if a not in found]
        tile = b(memory.Load(node.mem, places))
        return self.turned(tile, found, self.shown(node.axes), b)

    def turned(self, v: Value, own: Axes, axes: Axes, b: Builder) -> Value:
        """A tile with its axes in another order."""
        if list(own) == list(axes):
            return v
        return b(shape.Transpose(v, tuple(list(own).index(a) for a in axes)))

    def extents(self, axes: Axes) -> tuple[Extent, ...]:
        """The extents of a tile."""
        return tuple(a.dim if self.is_whole(a) else self.sizes[a] for a in axes)

    def spread(self, node: Node, axes: Axes, b: Builder) -> Value:
        """A node's tile stretched to axes, in their order."""
        if node.of is shape.Full:
            return b(shape.Full(self.extents(axes), dict(node.attributes)["value"], node.dtype))
        return self.stretched(self.value(node), self.shown(node.axes), axes, b)

    def stretched(self, v: Value, own: Axes, axes: Axes, b: Builder) -> Value:
        """A tile with axes `own` stretched to others, in their order."""
        inner = [a for a in axes if a in own]
        v = self.turned(v, own, inner, b)
        if inner == list(axes):
            return v
        sizes = self.extents(axes)
        if inner and inner != list(axes[len(axes) - len(inner) :]):
            ones = tuple(s if a in own else 1 for a, s in zip(axes, sizes, strict=True))
            v = b(shape.Reshape(v, ones))
        return b(shape.Broadcast(v, sizes))

    # -- reductions of tiles --

    def dot(self, node: Node, operands: Sequence[Node], acc: Value, b: Builder) -> Value:
        """acc and the product of tiles; acc has the axes of the node."""
        assert node.bound is not None
        both = [self.shown([a for a in n.axes if a is not node.bound]) for n in node.args]
        rows, columns = both
        left = self._matrix(operands[0], (*rows, node.bound), 0, b)
        right = self._matrix(operands[1], (node.bound, *columns), 1, b)
        order = [*rows, *columns]
        own = self.shown(node.axes)
        sides = tuple((self.extents(x) or (1,))[0] for x in both)
        acc = self.turned(acc, own, order, b)
        flat = len(order) < 2
        acc = b(shape.Reshape(acc, sides)) if flat else acc
        found = b(reduce.Dot(left, right, acc))
        found = b(shape.Reshape(found, self.extents(order))) if flat else found
        return self.turned(found, order, own, b)

    def _matrix(self, node: Node, axes: Axes, missing: int, b: Builder) -> Value:
        """An operand as a matrix."""
        v = self.spread(node, axes, b)
        if len(axes) == 2:
            return v
        size = self.extents(axes)[0]
        return b(shape.Reshape(v, (1, size) if missing == 0 else (size, 1)))

    def reduced(self, node: Node, operand: Node, b: Builder) -> Value:
        """The reduction of a tile, with the axes of the node."""
        assert node.bound is not None
        own = self.shown(operand.axes)
        if node.bound not in own:
            own = [*own, node.bound]
        v = self.spread(operand, own, b)
        at = own.index(node.bound)
        found = b(node.of(v, at))  # type: ignore[call-arg]
        return self.stretched(found, [a for a in own if a is not node.bound],
                              self.shown(node.axes), b)  # fmt: skip

    def best(self, node: Node, b: Builder) -> Value:
        """The keys of a ranking of nothing."""
        return start(dict(node.attributes)["count"], node.args[0].dtype, b)

    def ranked(self, node: Node, operand: Node, best: Value, b: Builder) -> Value:
        """The keys of the best elements with those of a tile."""
        assert node.bound is not None
        return merged(best, self.spread(operand, [node.bound], b), self.coordinate(node.bound, b),
                      b)  # fmt: skip

    def scanned(self, node: Node, b: Builder) -> Value:
        """The scan of a tile."""
        axes = self.shown(node.axes)
        assert node.bound is not None
        v = self.spread(node.args[0], axes, b)
        return b(node.of(v, axes.index(node.bound), **dict(node.attributes)))  # type: ignore[call-arg]
