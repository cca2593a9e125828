"""What becomes one kernel: whole-tensor values that are kept in memory, and those that are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tilec.ir.core import Builder, Op, Trait, Value
from tilec.ir.extent import Extent
from tilec.ir.ops import memory, reduce, shape
from tilec.ir.types import Memory, Span, Tile
from tilec.passes.cascade import loads, product_of, reductions
from tilec.passes.fuse_elements import Index, Indices, Node
from tilec.passes.fuse_loops import Loops
from tilec.passes.fuse_nodes import Nodes
from tilec.passes.fuse_tiles import Scope

WHOLE = 256  # elements of an axis that a tile of a product has at most, where it has all of them
ROW = 4096  # of a row that is read once and held, where it would be read again
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


@dataclass
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

    @property
    def read(self) -> set[Value]:
        """The memories that it reads."""
        return {n.mem for v in self.values for n in loads(v) if n.mem is not None}


@dataclass(frozen=True)
class Cut:
    """A value that has to be kept in memory, and why."""

    value: Value
    reason: str


@dataclass(frozen=True)
class Source:
    """Ops in order, and who uses what they make."""

    made: Mapping[Value, Op]
    users: Mapping[Value, Sequence[Op]]
    same: Mapping[Value, Value]  # what loads read that was stored just before
    writes: Mapping[Value, int]  # how often memory was written before what was loaded of it

    def nodes(self, kept: Mapping[Value, Value]) -> Nodes:
        """No nodes yet; `kept` is memory in which values lie."""
        return Nodes(self.made, kept, self.same, self.writes)

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


def grouped(roots: Sequence[Root], kept: Mapping[Value, Value], source: Source) -> list[Group]:
    """The roots in groups, in order: each with one of before that runs over the same indices and
    reads what it reads, if nothing of between is needed."""
    groups: list[Group] = []
    of: dict[Value, int] = {}
    for r in roots:
        alone = built([r], kept, source)
        needs = max((of[m] for m in alone.read if m in of), default=-1)
        for at in range(max(needs, 0), len(groups)):
            both = _joined(groups[at], alone, kept, source, at == needs)
            if isinstance(both, Group):
                groups[at], of[r.mem] = both, at
                break
            alone.apart.append(both)
        else:
            of[r.mem] = len(groups)
            groups.append(alone)
    return groups


def _joined(group: Group, alone: Group, kept: Mapping[Value, Value], source: Source,
            needed: bool) -> Group | str:  # fmt: skip
    """A group with one more root, or why that is wrong or saves nothing."""
    roots = [*group.roots, *alone.roots]
    name = group.roots[0].mem.hint
    if not (group.read & alone.read or needed):
        return f"it reads nothing that `{name}` reads"
    if not _fit(roots):
        return f"it has other extents than `{name}`"
    both = built(roots, kept, source)
    if both.read & {r.mem for r in roots} - group.read:
        return f"it reads `{name}` at other places than it is written at"
    if any(set(both.grid) - {i for i in at if i is not None} for at in both.places):
        return f"several tasks of `{name}` would write it"
    ops = [r.op for r in _reductions(both)]
    if needed and (len(set(ops)) < len(ops) or cut(both, source)):
        return f"sums of `{name}` would be computed again"
    return both


def _widest(roots: Sequence[Root]) -> Root:
    return max(roots, key=lambda r: sum(e != 1 for e in r.extents))


def _fit(roots: Sequence[Root]) -> bool:
    """Whether the axes of roots are the first of the widest's, or have one element."""
    wide = _widest(roots).extents
    return all(
        len(r.extents) <= len(wide)
        and all(e in (1, w) for e, w in zip(r.extents, wide, strict=False))
        for r in roots
    )


def built(roots: list[Root], kept: Mapping[Value, Value], source: Source) -> Group:
    """The nodes of roots at indices of their own, and what a tile has all of."""
    extents = _widest(roots).extents
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
    nodes.single |= {i for i in idx[:-2] if isinstance(i, Index) and i not in nodes.whole}
    return group


def _reductions(group: Group) -> list[Node]:
    return list(dict.fromkeys(r for v in group.values for r in reductions(v)))


def _decide(group: Group) -> None:
    """Which indices run in the grid, which in loops inside, and which are whole."""
    found = _reductions(group)
    own = set(group.own)
    outer = [r for r in found if set(r.axes) <= own | group.nodes.whole]
    for r in outer:
        for n in nested(r):
            held = r.bound if nested(n) else n.bound
            if product_of(n) and held is not None and holdable(held.dim):
                group.nodes.whole.add(held)
            if product_of(n) and product_of(r):
                last = {i for i in again(r, n) if i is group.idx[-1] and holdable(i.dim)}
                group.nodes.whole |= {i for i in last if isinstance(i.dim, int) or _softmax(r)}
    for i in own - group.nodes.single:
        lacking = [r for r in outer if i not in r.axes and _looped(r, group)]
        having = [r for r in outer if i in r.axes]
        if lacking and not having and i not in group.nodes.whole:
            group.inner.append(i)
        elif any(map(nested, lacking)) and holdable(i.dim):
            group.nodes.whole.add(i)
    group.nodes.whole -= group.nodes.single
    group.inner.sort(key=group.idx.index)


def _looped(r: Node, group: Group) -> bool:
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


def holdable(extent: Extent) -> bool:
    """Whether a tile may have all of an axis: what has no number is taken for a small one."""
    return not isinstance(extent, int) or extent <= WHOLE


def _rows(group: Group) -> set[Index]:
    """The indices of which a row is held: it would be read by loops, and then again."""
    rows: set[Index] = set()
    for i in group.inner:
        lacking = [r for r in _reductions(group) if i not in r.axes]
        along = [r for r in lacking if r.bound is not None and r.bound.dim == i.dim]
        if isinstance(i.dim, int) and i.dim <= ROW and along and not any(map(product_of, lacking)):
            rows.add(i)
    return rows


def cut(group: Group, source: Source) -> Cut | None:
    """A value that has to be kept in memory, if there is one."""
    found = _reductions(group)
    pairs = [(r, n) for r in found for n in nested(r)]
    products = [(r, n, _recomputed(r, n, group)) for r, n in pairs if product_of(n)]
    deep = [(r, n, _deep(r, n)) for r, n in reversed(pairs)]
    rows = [(r, n, _rows_of_rows(r, n, group)) for r, n in pairs if not product_of(n)]
    for r, n, why in (*products, *deep, *rows):
        value = _operand(r, n, source) if why else None
        if value is not None:
            return Cut(value, why)
    if twice := _twice(found):
        return Cut(_ended(twice, source), "its sums would be computed once for each reader")
    return _statistics(group, found, source)


def _recomputed(r: Node, n: Node, group: Group) -> str:
    """Why a product inside of another should not run there."""
    if product_of(r) and set(again(r, n)) - group.nodes.whole:
        return "a product would be computed again for each tile of its reader"
    return ""


def _rows_of_rows(r: Node, n: Node, group: Group) -> str:
    """Why a reduction inside of another should not run there."""
    inner = [x for x in reductions(n) if r.bound in x.axes]
    both = _looped(r, group) and any((_looped(x, group) and not product_of(x)) or nested(x)
                                     for x in inner)  # fmt: skip
    return "a reduction of reductions runs in parallel in two kernels" if both else ""


def _deep(r: Node, n: Node) -> str:
    """Why a product of products of products is not one kernel."""
    deep = product_of(r) and product_of(n) and any(map(product_of, nested(n)))
    return "three products would each run in the loop of the next" if deep else ""


def _softmax(r: Node) -> bool:
    """Whether a maximum is between a product and another in its operand, or one that is kept."""
    return any(
        x.of is reduce.Max or (x.of is memory.Load and isinstance(x.op, reduce.Max))
        for a in r.args
        for x in a.walk()
    )


def _operand(r: Node, n: Node, source: Source) -> Value | None:
    """What is kept of a reduction's operand in which there is another: the operand as the program
    has it, or the other one with what follows, if that is smaller."""
    op = r.op
    values = (op.a, op.b) if isinstance(op, reduce.Dot) else (op.a,) if isinstance(
        op, reduce.Reduction) else ()  # fmt: skip
    found = next((v for v in values if _reaches(v, n.op, source)), None)
    if found is None:
        return None
    value = _undressed(found, source)
    assert isinstance(value.type, Tile)
    rank = sum(e != 1 for e in value.type.shape)
    return _ended(n, source) if not product_of(n) and len(n.axes) < rank else value


def _undressed(v: Value, source: Source) -> Value:
    """A value before it was only moved."""
    op = source.made.get(v)
    while isinstance(op, shape.Transpose | shape.Broadcast | shape.Reshape):
        v, op = op.a, source.made.get(op.a)
    return v


def _reaches(v: Value, wanted: Op | None, source: Source) -> bool:
    op = source.made.get(v)
    return op is not None and (op is wanted or any(_reaches(x, wanted, source)
                                                   for x in op.operands))  # fmt: skip


def _ended(n: Node, source: Source) -> Value:
    """The value of a reduction, with what follows it element by element."""
    assert n.op is not None
    return source.end(n.op.result)


def _twice(found: Sequence[Node]) -> Node | None:
    """A product that is computed at two tuples of indices."""
    seen: dict[Op | None, Node] = {}
    for n in found:
        if product_of(n) and seen.setdefault(n.op, n) is not n:
            return n
    return None


def _statistics(group: Group, found: Sequence[Node], source: Source) -> Cut | None:
    """A reduction that would run anew for each tile of columns of a product, in a loop of its
    own."""
    own = set(group.own) | group.nodes.whole
    outer = [r for r in found if set(r.axes) <= own and _looped(r, group)]
    if not any(map(product_of, outer)):
        return None
    spans = {i: Value(Span(i.dim, i.dim)) for i in own}
    trial = Loops(group.nodes, [Scope(Builder(), spans)])
    clusters = [c for _, c in trial.clusters(outer)]
    main = next(c for c in clusters if any(product_of(p.node) for p in c.plans))
    columns = {i for p in main.plans if product_of(p.node) for i in p.node.axes}
    for p in (p for c in clusters[: clusters.index(main)] for p in c.plans):
        if columns - set(p.node.axes):
            reason = next((why for n, why in trial.reasons if product_of(n)), "other elements")
            return Cut(_ended(p.node, source), f"it can't run in the loop of products: {reason}")
    return None


def roots_of(stores: Sequence[memory.Store]) -> list[Root]:
    """What stores put into memory."""
    return [Root(s.value, s.mem, s.indices, s) for s in stores]


def size_of(v: Value) -> int | None:
    """The bytes of a value, if they are known."""
    assert isinstance(v.type, Tile | Memory)
    n = 1
    for e in v.type.shape:
        if not isinstance(e, int):
            return None
        n *= e
    return n * max(v.type.dtype.bits, 8) // 8
