"""Whether kernels read what they should: before it is written again, behind what they wait for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tilec.ir.core import Op, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops import memory
from tilec.passes.fuse_elements import Node
from tilec.passes.fuse_groups import Group, Root


@dataclass(frozen=True)
class Order:
    """The ops of a function in order, of which the kernels of a part stand at `first`."""

    ops: Sequence[Op]
    first: Op

    def check(self, groups: Sequence[Group]) -> None:
        """Raise TileError where a kernel would read other numbers than the program."""
        roots: dict[Value, list[tuple[int, Root]]] = {}  # by what they write
        for at, r in ((i, r) for i, g in enumerate(groups) for r in g.roots):
            seen = roots.setdefault(r.mem, [])
            if not all(apart(r, o, self.made) for _, o in seen):
                raise TileError(f"`{r.mem.hint}` is written twice", r.op and r.op.loc)
            seen.append((at, r))
        for at, g in enumerate(groups):
            for n in _loads(g):
                assert n.mem is not None
                self.before(n)
                for other, r in roots.get(n.mem, ()):
                    if r.op is not None and n.op is not None:
                        self.pair(n, at, r, other, g)

    @cached_property
    def made(self) -> dict[Value, Op]:
        """The ops by what they give."""
        return {v: op for op in self.ops for v in op.results}

    @cached_property
    def place(self) -> dict[Op, int]:
        """The numbers of ops; not of those inside of others."""
        return {op: i for i, op in enumerate(self.ops)}

    @cached_property
    def writes(self) -> dict[Value, list[int]]:
        """The numbers of the ops that write a memory."""
        found: dict[Value, list[int]] = {}
        for i, op in enumerate(self.ops):
            for mem in written(op):
                found.setdefault(mem, []).append(i)
        return found

    def before(self, n: Node) -> None:
        """Nothing may write what was read earlier, until it is used."""
        assert n.mem is not None
        if not isinstance(n.op, memory.Load):
            return
        first, last = self.place[n.op], self.place[self.first]
        if any(first <= i < last for i in self.writes.get(n.mem, ())):
            raise TileError(f"`{n.mem.hint}` is written before what was read of it is used",
                            n.op.loc)  # fmt: skip

    def pair(self, n: Node, at: int, r: Root, other: int, group: Group) -> None:
        """A load and a store of one memory have the order of the program."""
        assert n.op is not None
        assert r.op is not None
        kept = not isinstance(n.op, memory.Load)  # a value that lies there
        if kept or self.place[n.op] > self.place[r.op]:
            good = at > other
        else:
            here = group.places[group.roots.index(r)] if at == other else ()
            there = at == other and everything(r.indices or (), self.made)
            good = at < other or (there and n.indices == here)
        if not good:
            raise TileError(f"`{r.mem.hint}` is read at other places than it is written at, in an "
                            "order that matters", r.op.loc)  # fmt: skip


def apart(a: Root, b: Root, made: Mapping[Value, Op]) -> bool:
    """Whether parts of a memory have no element together: they have other places of a dimension."""
    for i, j in zip(a.indices or (), b.indices or (), strict=False):
        one, other = (made.get(x) for x in (i, j))
        if isinstance(one, memory.Whole) and isinstance(other, memory.Whole):
            (first, end), (start, stop) = (_ends(x) for x in (one, other))
            if first == stop or start == end or (
                isinstance(end, int) and isinstance(stop, int) and (end < start or stop < first)
            ):  # fmt: skip
                return True
    return False


def _ends(span: memory.Whole) -> tuple[int, Extent]:
    """Where a span begins, and what is behind its end."""
    first = span.start or 0
    return first, (span.dim if span.size is None else first + span.size)


def _loads(group: Group) -> list[Node]:
    return [n for n in group.made_of if n.of is memory.Load]


def written(op: Op) -> Iterator[Value]:
    """The memories that an op writes, or those inside it."""
    if isinstance(op, memory.Write):
        yield op.mem
    for b in op.blocks:
        yield from (o.mem for o in b.walk() if isinstance(o, memory.Write))


def forwarded(ops: Sequence[Op]) -> dict[Value, Value]:
    """The loads of all of a memory that was stored all at once before, and what they give."""
    made = {v: op for op in ops for v in op.results}
    made_of = sources(ops)
    last: dict[Value, Value] = {}
    found: dict[Value, Value] = {}
    for op in ops:
        if isinstance(op, memory.Load) and op.mem in last and everything(op.indices, made):
            found[op.result] = last[op.mem]
        for mem in written(op):
            last = {m: v for m, v in last.items() if m is not mem and mem not in made_of[v]}
        if not isinstance(op, memory.Store) or op.mem in made_of[op.value]:
            continue
        if op.mask is None and everything(op.indices, made):
            last[op.mem] = found.get(op.value, op.value)
    return found


def sources(ops: Sequence[Op]) -> dict[Value, frozenset[Value]]:
    """The memories that values are made of."""
    found: dict[Value, frozenset[Value]] = {}
    for op in ops:
        mems = {op.mem} if isinstance(op, memory.Load) else set[Value]()
        own = frozenset(mems).union(*(found.get(v, frozenset[Value]()) for v in op.operands))
        found.update(dict.fromkeys(op.results, own))
    return found


def origins(ops: Sequence[Op], same: Mapping[Value, Value]) -> dict[Value, int]:
    """The ops that values are made of, a bit for the place of each; those of `same`, of which loads
    give others, too."""
    found: dict[Value, int] = {}
    for place, op in enumerate(ops):
        made = 1 << place
        for v in (*op.operands, *(same[r] for r in op.results if r in same)):
            made |= found.get(v, 0)
        found.update(dict.fromkeys(op.results, made))
    return found


def writes_before(ops: Sequence[Op]) -> dict[Value, int]:
    """How often a memory was written before each load of it."""
    count: dict[Value, int] = {}
    found: dict[Value, int] = {}
    for op in ops:
        if isinstance(op, memory.Load):
            found[op.result] = count.get(op.mem, 0)
        for mem in written(op):
            count[mem] = count.get(mem, 0) + 1
    return found


def everything(indices: Sequence[Value], made: Mapping[Value, Op]) -> bool:
    """Whether indices pick all of a memory."""
    ops = [made.get(i) for i in indices]
    return all(isinstance(op, memory.Whole) and op.size is None and not op.start for op in ops)
