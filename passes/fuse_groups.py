"""Kernels to be: values that one grid computes, and what its indices are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

from tilec.ir.core import Op, Trait, Value
from tilec.ir.extent import Extent
from tilec.ir.ops import memory, reduce, scan, top
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Tile
from tilec.passes.cascade import product_of
from tilec.passes.fuse_elements import Index, Indices, Node, walked
from tilec.passes.fuse_nodes import Nodes

WHOLE = 256  # elements of an axis that a tile of a product has at most, where it has all of them
HEAD = 512  # the same behind a softmax, whose scores would lie in memory else
ROW = 4096  # of a row that is read once and held, where it would be read again
TASKS = 16  # rows that keep a machine busy, if each is made of products by one task
HINTS = ("b", "h", "m", "n")


@dataclass(frozen=True, eq=False)
class Root:
    """A value that lies in memory in the end, and where: in the user's, or the function's own."""

    value: Value
    mem: Value
    indices: tuple[Value, ...] | None = None  # None: all of it
    op: Op | None = None

    @property
    def extents(self) -> tuple[Extent, ...]:
        assert isinstance(self.value.type, Tile)
        return self.value.type.shape


@dataclass(eq=False)
class Group:
    """Roots that one grid computes. `idx` are the indices of the widest, `places` those of each."""

    roots: list[Root]
    idx: Indices
    nodes: Nodes
    places: list[Indices] = field(default_factory=list[Indices])
    values: list[Node] = field(default_factory=list[Node])
    inner: list[Index] = field(default_factory=list[Index])  # loops inside of the grid
    apart: list[str] = field(default_factory=list[str])  # why it is not one with those before

    @property
    def own(self) -> list[Index]:
        """The indices of the widest root."""
        return [i for i in self.idx if isinstance(i, Index)]

    @property
    def grid(self) -> list[Index]:
        """What the grid runs over."""
        return [i for i in self.own if i not in self.inner
                and (i not in self.nodes.whole or i in self.nodes.single)]  # fmt: skip

    @cached_property
    def made_of(self) -> list[Node]:
        """Its values and all that they are made of, operands first."""
        return list(walked(self.values))

    @cached_property
    def read(self) -> set[Value]:
        """The memories that it reads."""
        return {n.mem for n in self.made_of if n.of is memory.Load and n.mem is not None}

    @cached_property
    def reductions(self) -> list[Node]:
        """The reductions that its values are made of, operands first."""
        return [n for n in self.made_of if n.bound is not None and n.bound not in n.axes]

    @cached_property
    def maxima(self) -> set[Node]:
        """What is made of a maximum, or of one that is kept."""
        found: set[Node] = set()
        for n in self.made_of:
            kept = n.of is memory.Load and isinstance(n.op, reduce.Max)
            if n.of is reduce.Max or kept or not found.isdisjoint(n.below()):
                found.add(n)
        return found


@dataclass(frozen=True)
class Source:
    """Ops in order, and who uses what they make."""

    made: Mapping[Value, Op]
    users: Mapping[Value, Sequence[Op]]
    same: Mapping[Value, Value]  # what loads read that was stored just before
    writes: Mapping[Value, int]  # how often memory was written before what was loaded of it
    origins: Mapping[Value, int]  # the ops that values are made of, a bit for the place of each
    place: Mapping[Op, int]

    def nodes(self, kept: Mapping[Value, Value]) -> Nodes:
        """No nodes yet; `kept` is memory in which values lie."""
        return Nodes(self.made, kept, self.same, self.writes)

    def uses(self, v: Value, op: Op) -> bool:
        """Whether a value is made of what an op gives, be it by way of memory."""
        return bool(self.origins.get(v, 0) >> self.place[op] & 1)

    def sums(self, v: Value) -> bool:
        """Whether a value is made by a reduction, a product or a scan."""
        seen, left = set[Value](), [v]
        while left:
            op = self.made.get(left.pop())
            if isinstance(op, reduce.Reduction | reduce.Dot | scan.Scan | top.Ranking):
                return True
            more = [x for x in (op.operands if op else ()) if x not in seen]
            seen.update(more)
            left += more
        return False

    def end(self, v: Value) -> Value:
        """The value that an element-wise chain makes of `v`, which nobody else reads."""
        while True:
            users = self.users.get(v, ())
            if len(users) != 1 or Trait.ELEMENTWISE not in users[0].traits:
                return v
            (op,) = users
            assert isinstance(v.type, Tile)
            result = op.result.type
            if not isinstance(result, Tile) or result.shape != v.type.shape:
                return v
            v = op.result


def widest(roots: Sequence[Root]) -> Root:
    """The root with the most axes."""
    return max(roots, key=lambda r: sum(e != 1 for e in r.extents))


def built(roots: list[Root], kept: Mapping[Value, Value], source: Source) -> Group:
    """The nodes of roots at indices of their own, and what a tile has all of."""
    extents = widest(roots).extents
    hints = (*("i" for _ in range(len(extents) - len(HINTS))), *HINTS[-len(extents) or 4 :])
    fresh = tuple(None if e == 1 else Index(e, h) for e, h in zip(extents, hints, strict=False))
    mine = {r.value for r in roots}
    elsewhere = {v: mem for v, mem in kept.items() if v not in mine}
    group = _at(roots, fresh, source.nodes(elsewhere))
    _decide(group)
    if rows := _rows(group):
        nodes = source.nodes(elsewhere)
        taken: list[Index | None] = []
        for i in fresh:
            new = nodes.running(i.dim, tuple(taken)) if i is not None and i in rows else i
            taken.append(new)
            nodes.whole |= {new} if new is not i and new is not None else set[Index]()
        group = _at(roots, tuple(taken), nodes)
        _decide(group)
    return group


def _at(roots: list[Root], idx: Indices, nodes: Nodes) -> Group:
    group = Group(roots, idx, nodes)
    group.places = [tuple(None if e == 1 else i for e, i in zip(r.extents, idx, strict=False))
                    for r in roots]  # fmt: skip
    group.values = [nodes.at(r.value, at, root=True)
                    for r, at in zip(roots, group.places, strict=True)]  # fmt: skip
    several = [i for i in idx if isinstance(i, Index) and i not in nodes.single]
    nodes.single |= {i for i in several[:-2] if i not in nodes.whole}
    return group


def _decide(group: Group) -> None:
    """Which indices run in the grid, which in loops inside, and which are whole."""
    found = group.reductions
    own = set(group.own)
    outer = [r for r in found if set(r.axes) <= own | group.nodes.whole]
    for r in (*outer, *(x for o in outer for x in _summands(o))):
        most = HEAD if behind_softmax(r, group) else WHOLE
        for n in nested(r) if looped(r, group) else ():
            held = r.bound if nested(n) else n.bound
            if product_of(n) and held is not None and holdable(held.dim, most):
                group.nodes.whole.add(held)
            if product_of(n) and product_of(r):
                last = {i for i in again(r, n) if i is group.idx[-1] and holdable(i.dim, most)}
                group.nodes.whole |= {
                    i for i in last if isinstance(i.dim, int) or behind_softmax(r, group)
                }
    for i in own - group.nodes.single:
        lacking = [r for r in outer if i not in r.axes and looped(r, group)]
        having = [r for r in outer if i in r.axes]
        if lacking and not having and i not in group.nodes.whole:
            group.inner.append(i)
        elif any(map(nested, lacking)) and holdable(i.dim):
            group.nodes.whole.add(i)
    group.nodes.whole -= group.nodes.single
    group.inner.sort(key=group.idx.index)


def _summands(r: Node) -> list[Node]:
    """The products that a sum adds up as they are: over heads that share keys, say."""
    n = r.args[0]
    while n.of is Cast:
        (n,) = n.args
    return [n] if r.of is reduce.Sum and product_of(n) else []


def looped(r: Node, group: Group) -> bool:
    """Whether a reduction is a loop: no tile has all that it runs over."""
    return r.bound not in group.nodes.whole


def nested(r: Node) -> list[Node]:
    """The reductions that run anew for each element of another's operand, without those inside of
    these."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    left = list(r.args)
    while left:
        n = left.pop(0)
        if n in seen:
            continue
        seen.add(n)
        if n.bound is None or n.bound in n.axes:
            left += n.below()
        elif r.bound in n.axes:
            found[n] = None
    return list(found)


def again(r: Node, n: Node) -> list[Index]:
    """The indices for each of which a reduction inside of another's operand runs again."""
    return [i for i in r.axes if i not in n.axes]


def holdable(extent: Extent, most: int = WHOLE) -> bool:
    """Whether a tile may have all of an axis: what has no number is taken for a small one."""
    return not isinstance(extent, int) or extent <= most


def _rows(group: Group) -> set[Index]:
    """The indices of which a row is held: it would be read by loops or made of products, and then
    again."""
    rows: set[Index] = set()
    for i in group.own:
        lacking = [r for r in group.reductions if i not in r.axes]
        along = [r for r in lacking if r.bound is not None and r.bound.dim == i.dim]
        if not isinstance(i.dim, int) or not along:
            continue
        products = {r.op for r in group.reductions if product_of(r) and i in r.axes}
        if any(n.op in products for r in along for n in nested(r)):
            if i.dim <= WHOLE and i is group.own[-1] and _tasks(group, i) >= TASKS:
                rows.add(i)
        elif i in group.inner and i.dim <= ROW and not any(map(product_of, lacking)):
            rows.add(i)
    return rows


def _tasks(group: Group, row: Index) -> float:
    """How many rows a group has; what has no number is taken for a large one."""
    return prod(i.dim if isinstance(i.dim, int) else TASKS for i in group.own if i is not row)


def behind_softmax(r: Node, group: Group) -> bool:
    """Whether a maximum is between a product and another in its operand, or one that is kept."""
    return not group.maxima.isdisjoint(r.args)


def roots_of(stores: Sequence[memory.Write]) -> list[Root]:
    """What stores put into memory."""
    return [Root(s.value, s.mem, s.indices, s) for s in stores]
