"""What tasks would compute again for every tile of a dimension, computed once by a grid before.

A processor has few tasks and large caches: what a norm makes of an activation is soon written and
read, while each task that computes it anew does so for a whole row of tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from math import prod

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.extent import Extent, Sym, mentioned
from tilec.ir.format import Dense
from tilec.ir.ops import control, memory, reduce, shape
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Span, Tile
from tilec.passes.parts import tile
from tilec.passes.pipeline import register
from tilec.passes.specialise import renamed

SEVERAL = 64  # coordinates of a dimension beyond which it has several tiles
MOST = 1 << 26  # elements that are kept of one value

VIEWS = (shape.Full, shape.Start, shape.Reshape)

Swap = Callable[[Builder, Mapping[Value, Value]], Value]


@register("hoist")
def hoist(func: Func) -> Func:
    """Sums and first operands of products that do not depend on a dimension of their grid, in
    memory of the function's own.

    A first operand that is loaded as it lies, or made from such a load alone, stays where it is.
    Before: extents are numbers, tiles have no sizes yet. After: the same.
    """
    ops: list[Op] = []
    params = list(func.params)
    remarks: list[Remark] = []
    loops = [op for op in func.walk() if isinstance(op, control.For)]
    grids = [op for op in func.walk() if isinstance(op, control.Grid)]
    sizes = {str(s) for s in (*(op.size for op in loops), *(s for g in grids for s in g.sizes))}
    for op in func.body.ops:
        if isinstance(op, control.Grid):
            work = _Work(op, params, sizes)
            op = work.done()
            ops += work.grids
            remarks += work.remarks
        ops.append(op)
    return func.replaced(Block(tuple(params), tuple(ops)), *remarks) if remarks else func


@dataclass(frozen=True)
class _Slice:
    """The ops that make a value, in order, and the spans of its grid that they depend on."""

    ops: tuple[Op, ...]
    spans: tuple[Value, ...]


class _Work:
    """One grid: what moves out of it, and what is left."""

    def __init__(self, grid: control.Grid, params: list[Value], sizes: set[str]) -> None:
        self.grid, self.params, self.sizes = grid, params, sizes
        self.grids: list[Op] = []
        self.remarks: list[Remark] = []
        self.written = {op.mem for op in grid.body.walk() if isinstance(op, memory.Write)}
        self.swaps: dict[Op, Swap] = {}
        self.sums: dict[control.For, dict[int, Swap]] = {}

    def done(self) -> control.Grid:
        """The grid without what moved."""
        for op in self.grid.body.ops:
            if isinstance(op, control.For) and op.stop is None and op.first is None:
                self._loop(op)
        if not self.remarks:
            return self.grid
        return self.grid.rebuilt({}, body=self._left(self.grid.body, {}))

    def _loop(self, loop: control.For) -> None:
        if any(isinstance(op, memory.Write) for op in loop.body.walk()):
            return
        self._sums(loop)
        seen: set[Value] = set()
        for op in loop.body.ops:
            if isinstance(op, reduce.Dot) and op.a not in seen and op.a not in loop.body.params:
                seen.add(op.a)
                self._operand(loop, op.a)

    def _operand(self, loop: control.For, v: Value) -> None:
        """Move a first operand that is more than a load."""
        ahead = {o: x for o in (*self._before(loop), *loop.body.ops) for x in o.results}
        made = {v: op for op, v in ahead.items()}
        found = self._slice((v,), made, {loop.body.params[0]})
        if found is None or _simple(found) or loop.body.params[0] not in found.spans:
            return
        place = self._place(v, found.spans, loop)
        if place is None:
            return
        mem, dims = place
        to: dict[Value, Value] = {}
        b = self._opened(found, to)
        self._stored(b, mem, to[v], tuple(to[p] for p in found.spans), dims)
        self._add(b, found.spans, to, loop)
        self.swaps[made[v]] = self._loading(mem, v, found.spans)
        self._say(mem, made[v])

    def _sums(self, loop: control.For) -> None:
        """Move what a loop carries by itself."""
        made = {v: op for op in (*self._before(loop), *loop.body.ops) for v in op.results}
        span, *carried = loop.body.params
        alone = set(range(len(carried)))
        while True:
            given = {span, *(carried[i] for i in alone)}
            slices = {
                i: self._slice((loop.init[i], loop.body.results[i]), made, given) for i in alone
            }
            kept = {i for i, s in slices.items() if s is not None and self._again(s.spans)}
            kept = {i for i in kept if _parted(loop, carried[i], {carried[j] for j in kept})}
            if kept == alone:
                break
            alone = kept
        if not alone or not self._beyond(loop, {carried[i] for i in alone}, alone):
            return
        for i in sorted(alone):
            self._sum(loop, i, alone, made)

    def _sum(self, loop: control.For, i: int, alone: set[int], made: Mapping[Value, Op]) -> None:
        span, *carried = loop.body.params
        own = {span, *(carried[j] for j in alone)}
        init = self._slice((loop.init[i],), made, set())
        body = self._slice((loop.body.results[i],), made, own)
        if init is None or body is None or len({p for p in carried if _reads(body.ops, p)}) > 1:
            return
        spans = tuple(p for p in self.grid.body.params if p in {*init.spans, *body.spans})
        place = self._place(loop.results[i], spans, None)
        if place is None:
            return
        mem, dims = place
        to: dict[Value, Value] = {}
        inside = set(loop.body.ops)
        b = self._opened(_Slice((*init.ops, *(o for o in body.ops if o not in inside)), spans), to)
        within, new = Builder(), Value(span.type, span.hint)
        to |= {span: new, carried[i]: Value(carried[i].type, carried[i].hint)}
        for op in body.ops:
            if op in inside:
                within.copy(op, to, lambda block: block)
        block = Block((new, to[carried[i]]), tuple(within.ops), (to[loop.body.results[i]],))
        total = b.add(control.For(loop.dim, loop.size, loop.tile, (to.get(
            loop.init[i], loop.init[i]),), block).placed(loop.loc)).result  # fmt: skip
        self._stored(b, mem, total, tuple(to[p] for p in spans), dims)
        self._add(b, spans, to, None)
        self.sums.setdefault(loop, {})[i] = self._loading(mem, loop.results[i], spans)
        self._say(mem, loop)

    # -- what may move --

    def _before(self, loop: control.For) -> tuple[Op, ...]:
        ops = self.grid.body.ops
        return ops[: ops.index(loop)]

    def _slice(
        self, values: tuple[Value, ...], made: Mapping[Value, Op], given: set[Value]
    ) -> _Slice | None:
        """What makes some values of `given`, spans and values of around the grid, or None."""
        ops: list[Op] = []
        leaves: set[Value] = set()
        inside = {v for op in self.grid.body.walk() for v in (*op.results, *_params(op))}

        def visit(v: Value) -> bool:
            op = made.get(v)
            if op is None:
                leaves.add(v)
                return v in given or v in self.grid.body.params or v not in inside
            if op in ops:
                return True
            if not self._movable(op) or not all(map(visit, op.operands)):
                return False
            ops.append(op)
            return True

        if not all(map(visit, values)):
            return None
        params = (*self.grid.body.params, *(p for p in given if isinstance(p.type, Span)))
        named = frozenset[str]().union(*(_symbols(op) for op in ops))
        matter = (p for p in params if p in leaves or str(_extent(p)) in named)
        return _Slice(tuple(ops), tuple(matter))

    def _movable(self, op: Op) -> bool:
        if op.blocks:
            return False
        return op.traits.pure or (isinstance(op, memory.Load) and op.mem not in self.written)

    def _again(self, spans: tuple[Value, ...]) -> bool:
        """Whether the grid has several tiles of a dimension that does not matter."""
        axes = zip(self.grid.body.params, self.grid.dims, self.grid.tiles, strict=True)
        return any(isinstance(d, int) and d > max(SEVERAL, t or 0)
                   for p, d, t in axes if p not in spans)  # fmt: skip

    def _beyond(self, loop: control.For, carried: set[Value], alone: set[int]) -> bool:
        """Whether nothing but these results of a loop comes of these carried values."""
        tainted = set(carried)
        for op in loop.body.ops:
            if any(v in tainted for v in op.operands):
                tainted.update(op.results)
        others = (r for i, r in enumerate(loop.body.results) if i not in alone)
        return len(alone) < len(loop.init) and not any(r in tainted for r in others)

    # -- where it goes --

    def _place(self, v: Value, spans: tuple[Value, ...], loop: control.For | None
               ) -> tuple[Value, tuple[Extent, ...]] | None:  # fmt: skip
        """Memory for a value of every tile of some spans, and the extents of a tile there."""
        if not self._again(spans):
            return None
        ones = {p for p, t in zip(self.grid.body.params, self.grid.tiles, strict=True) if t == 1}
        within = tuple(d for d in tile(v).shape if d != 1)
        wanted = tuple(s for p in spans if (s := _extent(p)) in within)
        known = [p.type.dim for p in spans if isinstance(p.type, Span)]
        sizes = [d for d in known if isinstance(d, int)]
        rest = [p for p in spans if _extent(p) not in within]
        if wanted != within or any(p not in ones for p in rest) or len(sizes) != len(spans):
            return None
        if prod(sizes) > MOST or not sizes:
            return None
        stored = next(op for op in self.grid.body.walk() if isinstance(op, memory.Write))
        taken = {p.hint for p in self.params}
        owner = stored.mem.hint.partition(".")[0]
        hint = next(n for i in count() if (n := f"{owner}.ahead{i}") not in taken)
        mem = Value(Memory(tuple(sizes), Dense(tile(v).dtype)), hint)
        return mem, within

    def _opened(self, found: _Slice, to: dict[Value, Value]) -> Builder:
        """The beginning of a grid's body: copies of ops, of spans of its own."""
        to |= {p: Value(p.type, p.hint) for p in found.spans}
        b = Builder()
        for op in found.ops:
            b.copy(op, to, lambda block: block)
        return b

    def _indices(self, b: Builder, spans: tuple[Value, ...], within: tuple[Extent, ...]
                 ) -> tuple[Value, ...]:  # fmt: skip
        return tuple(p if _extent(p) in within else b(shape.Start(p)) for p in spans)

    def _stored(self, b: Builder, mem: Value, v: Value, spans: tuple[Value, ...],
                within: tuple[Extent, ...]) -> None:  # fmt: skip
        if tile(v).shape != within:
            v = b(shape.Reshape(v, within))
        b.add(memory.Store(mem, self._indices(b, spans, within), v))
        self.params.append(mem)

    def _add(self, b: Builder, spans: tuple[Value, ...], to: Mapping[Value, Value],
             loop: control.For | None) -> None:  # fmt: skip
        """A grid over some spans."""
        chosen = dict(zip(self.grid.body.params, self.grid.tiles, strict=True))
        tiles = tuple(chosen.get(p, loop and loop.tile) for p in spans)
        types = [p.type for p in spans if isinstance(p.type, Span)]
        body = Block(tuple(to[p] for p in spans), tuple(b.ops))
        grid = control.Grid(tuple(t.dim for t in types), tuple(t.size for t in types), tiles, body)
        self.grids.append(renamed(grid.placed(self.grid.loc), self._fresh(grid)))

    def _fresh(self, grid: control.Grid) -> dict[str, Extent]:
        """New names of the sizes of a grid and its loops."""
        sizes = [*grid.sizes, *(o.size for o in grid.body.walk() if isinstance(o, control.For))]
        known: dict[str, Extent] = {}
        for size in sizes:
            if isinstance(size, Sym):
                base = size.text.partition("_")[0]
                new = next(n for i in count() if (n := f"{base}_{i}") not in self.sizes)
                self.sizes.add(new)
                known[size.text] = Sym(new)
        return known

    def _loading(self, mem: Value, v: Value, spans: tuple[Value, ...]) -> Swap:
        within = tuple(d for d in tile(v).shape if d != 1)

        def load(b: Builder, to: Mapping[Value, Value]) -> Value:
            own = tuple(to.get(p, p) for p in spans)
            new = b(memory.Load(mem, self._indices(b, own, within)))
            return new if within == tile(v).shape else b(shape.Reshape(new, tile(v).shape))

        return load

    def _say(self, mem: Value, op: Op) -> None:
        message = f"{mem.type} is computed before the grid, not again for each of its tiles"
        self.remarks.append(Remark("hoist", message, op.loc))

    # -- what is left --

    def _left(self, block: Block, to: dict[Value, Value]) -> Block:
        b = Builder()
        for op in block.ops:
            if op in self.swaps:
                to[op.result] = self.swaps[op](b, to)
            elif isinstance(op, control.For) and op in self.sums:
                self._less(b, op, self.sums[op], to)
            else:
                b.copy(op, to, lambda inner: self._left(inner, to))
        return Block(block.params, tuple(b.ops), tuple(to.get(v, v) for v in block.results))

    def _less(self, b: Builder, loop: control.For, gone: dict[int, Swap], to: dict[Value, Value]
              ) -> None:  # fmt: skip
        """A loop that carries less."""
        span, *carried = loop.body.params
        tainted = {carried[i] for i in gone}
        ops: list[Op] = []
        for op in loop.body.ops:
            if tainted.isdisjoint(op.operands):
                ops.append(op)
            else:
                tainted.update(op.results)
        kept = [i for i in range(len(carried)) if i not in gone]
        results = tuple(loop.body.results[i] for i in kept)
        body = self._left(Block((span, *(carried[i] for i in kept)), tuple(ops), results), to)
        init = tuple(to.get(loop.init[i], loop.init[i]) for i in kept)
        new = b.add(control.For(loop.dim, loop.size, loop.tile, init, body).placed(loop.loc))
        to.update(zip((loop.results[i] for i in kept), new.results, strict=True))
        for i, load in gone.items():
            to[loop.results[i]] = load(b, to)


def _simple(found: _Slice) -> bool:
    """Whether a value is one load of spans, and what is done to each of its elements by itself."""
    loads = [op for op in found.ops if isinstance(op, memory.Load)]
    plain = all(isinstance(i.type, Span) or tile(i).rank == 0 for op in loads for i in op.indices)
    others = (op for op in found.ops if op not in loads)
    alone = all(Trait.ELEMENTWISE in op.traits or isinstance(op, VIEWS) for op in others)
    return len(loads) == 1 and plain and alone


def _parted(loop: control.For, own: Value, others: set[Value]) -> bool:
    """Whether a carried value is one of those that may move."""
    return own in others and isinstance(own.type, Tile)


def _reads(ops: tuple[Op, ...], v: Value) -> bool:
    return any(v in op.operands for op in ops)


def _params(op: Op) -> tuple[Value, ...]:
    return tuple(p for b in op.blocks for p in b.params)


def _extent(p: Value) -> Extent | None:
    return p.type.size if isinstance(p.type, Span) else None


def _symbols(op: Op) -> frozenset[str]:
    """The sizes that the results of an op have, or that it is told."""
    shapes = [d for v in op.results if isinstance(v.type, Tile) for d in v.type.shape]
    return mentioned((*shapes, *op.attributes.values()))
