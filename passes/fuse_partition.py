"""What becomes one kernel: whole-tensor values that are kept in memory, and those that are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tilec.ir.core import Builder, Op, Value
from tilec.ir.ops import memory, reduce, shape, top
from tilec.ir.types import Span, Tile
from tilec.passes.cascade import product_of, reductions
from tilec.passes.fuse_elements import Node, walked
from tilec.passes.fuse_groups import (
    WHOLE,
    Group,
    Root,
    Source,
    again,
    looped,
    nested,
    widest,
)  # fmt: skip
from tilec.passes.fuse_known import Known
from tilec.passes.fuse_loops import Loops
from tilec.passes.fuse_masks import bounding
from tilec.passes.fuse_tiles import Scope


@dataclass(frozen=True)
class Cut:
    """A value that has to be kept in memory, and why: it is part of what `reader` reads, and made
    of the product `inner`, if it is one of several that are told at once."""

    value: Value
    reason: str
    reader: Op | None = None
    inner: Op | None = None


@dataclass
class Partition(Known):
    """Roots in groups, and the values that have to be kept, one after the other.

    Of the products that a root would compute again in others all are found at once. They are kept
    in turn, as if each had been found when the groups before it needed nothing more. While they
    are, the root's group is not built: it would change with each of them.
    """

    cuts_: dict[Group, list[Cut]] = field(default_factory=dict[Group, list[Cut]])
    both: dict[tuple[Group, Group, bool], Group | str] = field(
        default_factory=dict[tuple[Group, Group, bool], Group | str]
    )  # of two groups, and whether the first is needed
    waiting: list[tuple[Root, list[Cut]]] = field(
        default_factory=list[tuple[Root, list[Cut]]]
    )  # roots with cuts that are still to be made, the first root last

    def next(self, roots: Sequence[Root]) -> Cut | list[Group]:
        """A value that has to be kept, or the roots in groups where there is none."""
        while True:
            root, cuts = self.waiting[-1] if self.waiting else (None, [])
            groups = self.grouped(roots if root is None else roots[: roots.index(root)])
            if group := next((g for g in groups if self.cuts(g)), None):
                first, *more = self.cuts(group)
                if more and len(group.roots) == 1:
                    self.waiting.append((group.roots[0], more))
                return first
            if root is None:
                return groups
            while cuts:
                if self.holds(found := cuts.pop(0), root):
                    return found
            self.waiting.pop()

    def holds(self, found: Cut, root: Root) -> bool:
        """Whether a value still has to be kept for a root: nothing that was kept since is what the
        product was computed for."""
        reader, inner = found.reader, found.inner
        if found.value in self.kept or reader is None or inner is None:
            return False
        value = self.source.same.get(root.value, root.value)
        return self.computes([value], reader) and self.computes(reader.results, inner)

    def cuts(self, group: Group) -> list[Cut]:
        """The values of a group that have to be kept: the first there is, and those beside it."""
        if group not in self.cuts_:
            self.cuts_[group] = _cuts(group, self.source)
        return self.cuts_[group]

    def grouped(self, roots: Sequence[Root]) -> list[Group]:
        """The roots in groups, in order: each with one of before that runs over the same indices
        and reads what it reads, if nothing of between is needed."""
        groups: list[Group] = []
        of: dict[Value, int] = {}
        for r in roots:
            alone = self.group([r])
            alone.apart = []
            needs = max((of[m] for m in alone.read if m in of), default=-1)
            for at in range(max(needs, 0), len(groups)):
                both = self.joined(groups[at], alone, at == needs)
                if isinstance(both, Group):
                    both.apart = groups[at].apart
                    groups[at], of[r.mem] = both, max(at, of.get(r.mem, at))
                    break
                alone.apart.append(both)
            else:
                of[r.mem] = len(groups)
                groups.append(alone)
        return groups

    def joined(self, group: Group, alone: Group, needed: bool) -> Group | str:
        """A group with one more root, or why that is wrong or saves nothing."""
        asked = group, alone, needed
        if asked not in self.both:
            self.both[asked] = self._joined(*asked)
        return self.both[asked]

    def _joined(self, group: Group, alone: Group, needed: bool) -> Group | str:
        roots = [*group.roots, *alone.roots]
        name = group.roots[0].mem.hint
        if not (needed or not group.read.isdisjoint(alone.read)):
            return f"it reads nothing that `{name}` reads"
        if not _fit(roots):
            return f"it has other extents than `{name}`"
        both = self.group(roots)
        if both.read & {r.mem for r in roots} - group.read:
            return f"it reads `{name}` at other places than it is written at"
        if any(set(both.grid) - {i for i in at if i is not None} for at in both.places):
            return f"several tasks of `{name}` would write it"
        ops = [r.op for r in both.reductions]
        if needed and (len(set(ops)) < len(ops) or self.cuts(both)):
            return f"sums of `{name}` would be computed again"
        if _twice(both.reductions) and not (_twice(group.reductions) or _twice(alone.reductions)):
            return f"it needs products of `{name}` at other places"
        return both


def _fit(roots: Sequence[Root]) -> bool:
    """Whether the axes of roots are the first of the widest's, or have one element."""
    wide = widest(roots).extents
    return all(
        len(r.extents) <= len(wide)
        and all(e in (1, w) for e, w in zip(r.extents, wide, strict=False))
        for r in roots
    )


def _cuts(group: Group, source: Source) -> list[Cut]:
    """Values that have to be kept in memory: all products that are computed again, or one other."""
    pairs = [(r, n) for r in group.reductions for n in nested(r)]
    products = [(r, n, _recomputed(r, n, group)) for r, n in pairs if product_of(n)]
    found = [Cut(value, why, r.op, n.op) for r, n, why in products
             if why and (value := _operand(r, n, source)) is not None]  # fmt: skip
    other = None if found else _other(group, pairs, source)
    return found if other is None else [other]


def _other(group: Group, pairs: Sequence[tuple[Node, Node]], source: Source) -> Cut | None:
    """A value that has to be kept though no product is computed again, if there is one."""
    for r, n, why in _nested_too_far(pairs, group):
        value = _operand(r, n, source) if why else None
        if value is not None:
            return Cut(value, why)
    found = group.reductions
    if twice := _twice(found):
        return Cut(_ended(twice, source), f"{_too_wide(twice)}its sums would be computed once for "
                   "each reader")  # fmt: skip
    roots = {r.value for r in group.roots}
    ends = [_ended(n, source) for n in found if product_of(n) and _split(n)]
    if split := next((v for v in ends if v not in roots), None):
        return Cut(split, "rows of its operand would be found by arithmetic")
    return _statistics(group, found, source)


def _nested_too_far(pairs: Sequence[tuple[Node, Node]], group: Group
                    ) -> Iterator[tuple[Node, Node, str]]:  # fmt: skip
    """Reductions inside of others, and why they should not run there, if they should not."""
    for r, n in reversed(pairs):
        yield r, n, _deep(r, n)
    for r, n in pairs:
        if not product_of(n):
            yield r, n, _rows_of_rows(r, n, group)


def _recomputed(r: Node, n: Node, group: Group) -> str:
    """Why a product inside of another, or of a ranking, should not run there."""
    if r.of is top.Top:
        return "a product would be computed for a row at a time"
    if product_of(r) and set(again(r, n)) - group.nodes.whole:
        return "a product would be computed again for each tile of its reader"
    return ""


def _rows_of_rows(r: Node, n: Node, group: Group) -> str:
    """Why a reduction inside of another should not run there."""
    inner = [x for x in reductions(n) if r.bound in x.axes]
    both = looped(r, group) and any((looped(x, group) and not product_of(x)) or nested(x)
                                     for x in inner)  # fmt: skip
    return "a reduction of reductions runs in parallel in two kernels" if both else ""


def _deep(r: Node, n: Node) -> str:
    """Why a product of products of products is not one kernel."""
    deep = product_of(r) and product_of(n) and any(map(product_of, nested(n)))
    return "three products would each run in the loop of the next" if deep else ""


def _operand(r: Node, n: Node, source: Source) -> Value | None:
    """What is kept of a reduction's operand in which there is another: the operand as the program
    has it, or the other one with what follows, if that is smaller."""
    op = r.op
    if isinstance(op, top.Ranking):
        return _ended(n, source)
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
    """Whether a value is made from what an op gives, not by way of memory; each value on the way is
    asked once, as many ways may lead through it."""
    seen, waiting = set[Value](), [v]
    while waiting and wanted is not None:
        at = waiting.pop()
        op = source.made.get(at)
        if op is None or at in seen or not source.uses(at, wanted):
            continue
        if op is wanted:
            return True
        seen.add(at)
        waiting += op.operands
    return False


def _ended(n: Node, source: Source) -> Value:
    """The value of a reduction, with what follows it element by element."""
    assert n.op is not None
    return source.end(n.op.result)


def _split(n: Node) -> bool:
    """Whether a product's operand is read at places that several indices of its result make up, as
    where a reshape follows: such rows are no tile of it."""
    loads = [x for x in walked(n.args) if x.of is memory.Load]
    places = [i for x in loads for i in x.indices if isinstance(i, Node)]
    return any(len(i.axes) > 1 and n.bound not in i.axes and not any(x.running for x in i.axes)
               for i in places)  # fmt: skip


def _twice(found: Sequence[Node]) -> Node | None:
    """A product that is computed at two tuples of indices."""
    seen: dict[Op | None, Node] = {}
    for n in found:
        if product_of(n) and seen.setdefault(n.op, n) is not n:
            return n
    return None


def _too_wide(n: Node) -> str:
    """Why no tile has a row of a product that is reduced along it, if that is why."""
    wide = [a.dim for a in n.axes if a.running and isinstance(a.dim, int) and a.dim > WHOLE]
    return f"a row of {wide[0]} is more than a tile has ({WHOLE}): " if wide else ""


def _statistics(group: Group, found: Sequence[Node], source: Source) -> Cut | None:
    """A reduction that would run anew for each tile of columns of a product, in a loop of its
    own."""
    own = set(group.own) | group.nodes.whole
    outer = [r for r in found if set(r.axes) <= own and looped(r, group)]
    if not any(map(product_of, outer)):
        return None
    spans = {i: Value(Span(i.dim, i.dim)) for i in own}
    trial = Loops(group.nodes, [Scope(Builder(), spans)], bounding=bounding)
    clusters = [c for _, c in trial.clusters(outer)]
    main = next(c for c in clusters if any(product_of(p.node) for p in c.plans))
    columns = {i for p in main.plans if product_of(p.node) for i in p.node.axes}
    for p in (p for c in clusters[: clusters.index(main)] for p in c.plans):
        if columns - set(p.node.axes):
            reason = next((why for n, why in trial.reasons if product_of(n)), "other elements")
            return Cut(_ended(p.node, source), f"it can't run in the loop of products: {reason}")
    return None
