"""Ops on whole tensors become kernels: grids, with loops for reductions and products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, mentioned, names
from tilec.ir.format import Dense
from tilec.ir.ops import control, memory
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Span, Tile, symbols
from tilec.passes.cascade import product_of
from tilec.passes.fuse_cost import bytes_saved, size_of
from tilec.passes.fuse_elements import Index, Indices, Node, indices_of
from tilec.passes.fuse_grids import joined
from tilec.passes.fuse_groups import Group, Root, Source, roots_of
from tilec.passes.fuse_loops import Fresh, Loops
from tilec.passes.fuse_masks import bounding, skipped
from tilec.passes.fuse_nodes import Nodes
from tilec.passes.fuse_order import (
    Order,
    everything,
    forwarded,
    origins,
    writes_before,
    written,
)
from tilec.passes.fuse_partition import Cut, Partition
from tilec.passes.fuse_saved import saved
from tilec.passes.fuse_tiles import Scope
from tilec.passes.pipeline import register


@register("fuse")
def fuse(func: Func) -> Func:
    """Write grids for the ops that stand outside of any, as few as may be.

    A result is computed where it is stored. Its reductions and products are loops, those over one
    dimension one loop where that is possible (passes.cascade), and what is before and behind them
    is computed there. Values lie in memory of the function's own where they would be computed
    again, or reductions have to end first. Sums are in another order than in the program. A
    function that stores nothing outside of grids is left as it is, and one with ops there that are
    not computed by tiles too, with a remark. Before: anything; tile sizes are left open.
    """
    if not any(isinstance(op, memory.Write) for op in func.body.ops):
        return func
    try:
        return _Fusion(saved(func)).run()
    except TileError as e:
        return func.replaced(func.body, Remark("fuse", "ops outside of grids stay as they are",
                                               e.loc, e.message))  # fmt: skip


@dataclass
class _Fusion:
    """The rewriting of one function."""

    func: Func
    own: list[Value] = field(default_factory=list[Value])
    remarks: list[Remark] = field(default_factory=list[Remark])
    lying: dict[Value, Value] = field(default_factory=dict[Value, Value])  # values in memory

    def __post_init__(self) -> None:
        ops = self.func.body.ops
        users: dict[Value, list[Op]] = {}
        for op in ops:
            for v in _read(op):
                users.setdefault(v, []).append(op)
        same = forwarded(ops)
        self.source = Source({v: op for op in ops for v in op.results}, users, same,
                             writes_before(ops), origins(ops, same),
                             {op: place for place, op in enumerate(ops)})  # fmt: skip
        self.taken = {n for p in self.func.params for e in symbols(p.type) for n in names(e)}
        for op in self.func.walk():
            self.taken |= mentioned(tuple(op.attributes.values()))

    def run(self) -> Func:
        """The function with grids."""
        ops: list[Op] = []
        part: list[Op] = []
        _checked(self.func.body.ops)
        needed = {v for op in self.func.body.ops if op.blocks for v in _read(op)}
        for op in self.func.body.ops:
            if op.blocks:
                ops += [*self.kernels(part), op]
                part = []
                self.overwritten(op)
                continue
            if _waits(op, part):
                ops += self.kernels(part)
                part = []
            if needed.intersection(op.results):
                ops += _chain(op, self.source, ops)
            part.append(op)
        ops += self.kernels(part)
        ops, params, said = joined(ops, (*self.func.params, *self.own))
        return self.func.replaced(Block(tuple(params), tuple(ops)), *self.remarks, *said)

    def kernels(self, part: Sequence[Op]) -> list[Op]:
        """The grids for the stores among ops."""
        stores = [op for op in part if isinstance(op, memory.Write)]
        if not stores:
            return []
        for op in stores:
            self.overwritten(op)
        roots, groups = self.parted(roots_of(stores), stores[0])
        Order(self.func.body.ops, part[0]).check(groups)
        self.lying |= {r.value: r.mem for r in roots if self.readable(r)}
        return [self.kernel(g) for g in groups]

    def parted(self, roots: list[Root], store: memory.Write) -> tuple[list[Root], list[Group]]:
        """Roots with those of values that have to be kept, and all in groups. It ends: each round
        keeps a value that was not, of those that the function has."""
        known = Partition(self.source, dict(self.lying))
        while True:
            groups = known.next(roots)
            cuts = [groups] if isinstance(groups, Cut) else _shared(groups)
            if isinstance(groups, list) and not cuts:
                return roots, groups
            for found in cuts:
                if found.value in known.kept:
                    raise TileError(found.reason)
                whole = (r for r in roots if r.value is found.value and self.whole(r))
                new = next(whole, None) or Root(found.value, self.kept(found, store))
                known.keep(found.value, new.mem)
                roots = _placed(new, [r for r in roots if r is not new], self.source)

    def overwritten(self, op: Op) -> None:
        """Values no longer lie in memory that an op writes."""
        gone = {*written(op)}
        self.lying = {v: mem for v, mem in self.lying.items() if mem not in gone}

    def whole(self, root: Root) -> bool:
        """Whether a memory is a value, all of it."""
        added = isinstance(root.op, memory.Accumulate)
        return not added and everything(root.indices or (), self.source.made)

    def readable(self, root: Root) -> bool:
        """Whether later kernels had better read a value than compute its sums again."""
        t = root.value.type
        assert isinstance(t, Tile)
        same = root.mem.type == Memory(t.shape, Dense(t.dtype))
        return same and self.whole(root) and self.source.sums(root.value)

    def kept(self, found: Cut, store: memory.Write) -> Value:
        """Memory of the function's own for a value."""
        t = found.value.type
        assert isinstance(t, Tile)
        taken = {p.hint for p in (*self.func.params, *self.own)}
        owner = store.mem.hint.partition(".")[0]
        hint = next(n for i in range(len(taken) + 1) if (n := f"{owner}.kept{i}") not in taken)
        self.own.append(Value(Memory(t.shape, Dense(t.dtype)), hint))
        op = self.source.made[found.value]
        self.remarks.append(Remark("fuse", f"a {t} lies in memory as {hint}{_bytes(found.value)}",
                                   op.loc, found.reason))  # fmt: skip
        return self.own[-1]

    # -- one kernel --

    def fresh(self, hint: str) -> Sym:
        """A size symbol that nothing else has."""
        i = 0
        name = hint
        while name in self.taken:
            i += 1
            name = f"{hint}_{i}"
        self.taken.add(name)
        return Sym(name)

    def kernel(self, group: Group) -> control.Grid:
        """The grid of a group."""
        nodes, axes = group.nodes, group.grid
        sizes: dict[Index, Extent] = {i: self.fresh(i.hint) for i in axes}
        dims: tuple[Extent, ...] = tuple(i.dim for i in axes) or (1,)
        symbols_: tuple[Extent, ...] = tuple(sizes.values()) or (self.fresh("one"),)
        spans = [Value(Span(d, s), str(s)) for d, s in zip(dims, symbols_, strict=True)]
        scope = Scope(Builder(loc=_loc(group.roots)), dict(zip(axes, spans, strict=False)))
        loops = Loops(nodes, [scope], sizes, fresh=self.fresh, skipped=skipped,
                      bounding=bounding)  # fmt: skip
        targets = [self.target(r, v, at, nodes) for r, v, at in
                   zip(group.roots, group.values, group.places, strict=True)]  # fmt: skip
        loops.prepare([n for t in targets for n in t.nodes])
        inner: dict[tuple[Index, ...], list[_Target]] = {}
        for t in targets:
            inner.setdefault(tuple(i for i in group.inner if i in t.axes), []).append(t)
        for axes_, those in inner.items():
            _stored(loops, those, axes_, self.fresh)
        tiles = tuple(1 if i in nodes.single else None for i in axes) or (1,)
        body = Block(tuple(spans), tuple(scope.builder.ops))
        self.told(group, loops)
        return control.Grid(dims, symbols_, tiles, body).placed(_loc(group.roots))

    def target(self, root: Root, value: Node, idx: Indices, nodes: Nodes) -> _Target:
        """Where a root is stored."""
        left = list(idx)
        if root.indices is None:
            found = tuple(nodes.coordinate(None) if i is None else i for i in left)
            return _Target(memory.Store, root.mem, value, found)
        places: list[Index | Node] = []
        gathered: Indices | None = None
        for v in root.indices:
            if isinstance(v.type, Span):
                found = nodes.place(v, left.pop(0), root.op or self.source.made[v])
                part = isinstance(found, Index) and found.dim != v.type.dim
                places.append(nodes.coordinate(found) if part else found)
                continue
            assert isinstance(v.type, Tile)
            if gathered is None and v.type.rank:
                gathered, left = tuple(left[: v.type.rank]), left[v.type.rank :]
            places.append(nodes.at(v, gathered or () if v.type.rank else ()))
        of = memory.Accumulate if isinstance(root.op, memory.Accumulate) else memory.Store
        return _Target(of, root.mem, value, tuple(places))

    def told(self, group: Group, loops: Loops) -> None:
        """The remark of a kernel."""
        names_ = ", ".join(f"`{r.mem.hint}`" for r in group.roots)
        less = bytes_saved(group)
        text = f"{names_}: one kernel with {loops.loops} loops" + (
            f"; {less} bytes that are not moved" if less else "")  # fmt: skip
        missing = "; ".join(dict.fromkeys([*group.apart, *(why for _, why in loops.reasons)]))
        self.remarks.append(Remark("fuse", text, _loc(group.roots), missing))


@dataclass(frozen=True)
class _Target:
    """A value, and where it is stored or added."""

    of: type[memory.Write]
    mem: Value
    value: Node
    places: tuple[Index | Node, ...]

    @property
    def axes(self) -> set[Index]:
        """The indices of the places."""
        return {a for p in self.places for a in indices_of(p)}

    @property
    def nodes(self) -> list[Node]:
        return [self.value, *(p for p in self.places if isinstance(p, Node))]


def _stored(loops: Loops, targets: Sequence[_Target], left: Sequence[Index], fresh: Fresh) -> None:
    """Stores, in loops over the axes of theirs that the grid does not run over."""
    if not left:
        loops.prepare([n for t in targets for n in t.nodes])
        for t in targets:
            _store(loops, t)
        return
    index, outer = left[0], loops.scopes
    size, b = fresh(index.hint), outer[-1].builder
    span = Value(Span(index.dim, size), str(size))
    loops.sizes[index] = size
    loops.scopes = [*outer, Scope(Builder(loc=b.loc), {index: span})]
    _stored(loops, targets, left[1:], fresh)
    body = Block((span,), tuple(loops.scopes[-1].builder.ops))
    loops.scopes = outer
    tile = 1 if index in loops.nodes.single else None
    b.add(control.For(index.dim, size, tile, (), body))


def _store(loops: Loops, t: _Target) -> None:
    b = loops.scopes[-1].builder
    gathered = [p for p in t.places if isinstance(p, Node)]
    shared = loops.shown(list(dict.fromkeys(a for p in gathered for a in p.axes)))
    places = tuple(loops.place(p, shared, b) for p in t.places)
    axes: list[Index] = []
    for p in t.places:
        mine = [p] if isinstance(p, Index) else shared if loops.shown(p.axes) else []
        axes += [a for a in loops.shown(mine) if a not in axes]
    b.add(t.of(t.mem, places, loops.spread(t.value, axes, b)))


def _loc(roots: Sequence[Root]):
    return next((r.op.loc for r in roots if r.op is not None), None)


def _read(op: Op) -> list[Value]:
    """The values that an op and those inside it read."""
    return [*op.operands, *(v for b in op.blocks for o in b.walk() for v in o.operands)]


def _chain(op: Op, source: Source, before: Sequence[Op]) -> list[Op]:
    """The ops that make what a grid reads, which stay where they are."""
    out: list[Op] = []
    for v in op.operands:
        if v in source.made and source.made[v] not in before:
            out += [o for o in _chain(source.made[v], source, before) if o not in out]
    return [*out, op] if op not in before else out


def _checked(ops: Sequence[Op]) -> None:
    """Raise TileError for what has no place outside of a grid here."""
    for op in ops:
        if op.blocks and not isinstance(op, control.Grid):
            raise TileError(f"a `{op.name}` outside of a grid runs in order", op.loc)
        if isinstance(op, memory.Write) and not isinstance(op, memory.Store | memory.Accumulate):
            raise TileError(f"{op.name} is not computed by tiles", op.loc)
        if isinstance(op, memory.Write) and op.mask is not None:
            raise TileError(f"{op.name}: only some elements are written", op.loc)


def _waits(op: Op, part: Sequence[Op]) -> bool:
    """Whether an op is to run behind all kernels for others: what is added to has been written, and
    what is read has been added up."""
    if isinstance(op, memory.Accumulate):
        return any(isinstance(o, memory.Write) and o.mem is op.mem for o in part)
    return isinstance(op, memory.Load | memory.Write) and any(
        isinstance(o, memory.Accumulate) and o.mem is op.mem for o in part)  # fmt: skip


def _placed(new: Root, roots: Sequence[Root], source: Source) -> list[Root]:
    """The roots with one more, before those that read it."""
    made = source.made[new.value]
    uses = (i for i, r in enumerate(roots)
            if r.value is not new.value and source.uses(r.value, made))  # fmt: skip
    at = next(uses, len(roots))
    return [*roots[:at], new, *roots[at:]]


def _shared(groups: Sequence[Group]) -> list[Cut]:
    """The products that two kernels would compute, unless each does in a loop of another: there it
    is more than what it is made of."""
    seen: dict[Op, tuple[Group, bool]] = {}
    found: dict[Value, None] = {}
    for g in groups:
        for n in (n for n in g.made_of if product_of(n) and n.op is not None):
            assert n.op is not None
            inside = any(a.running for a in n.axes)
            first, before = seen.setdefault(n.op, (g, inside))
            if first is not g and not (inside and before):
                found[n.op.result] = None
    return [Cut(v, "several kernels read it") for v in found]


def _bytes(v: Value) -> str:
    size = size_of(v)
    return "" if size is None else f", {size} bytes"
