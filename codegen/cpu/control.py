"""Ops in order, loops and branches: one writer walks a block and keeps what each value is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import gcd, lcm

from tilec.codegen.cpu import (
    consecutive,
    dot,
    expansions,
    memory,
    numbers,
    operands,
    picks,
    pointwise,
    quotients,
    reduce,
    scan,
    views,
    windows,
)
from tilec.codegen.cpu.atoms import BYTES, SIXTEENS, Atom, of_bits
from tilec.codegen.cpu.byte_rows import LINE
from tilec.codegen.cpu.chain import chain, origin
from tilec.codegen.cpu.code_rows import lying
from tilec.codegen.cpu.evaluated import evaluated
from tilec.codegen.cpu.llvm import V
from tilec.codegen.cpu.loops import Env, Regions
from tilec.codegen.cpu.operands import Copies
from tilec.codegen.cpu.tiles import Buffer, Coordinates, Index, Lazy, Tensor, Writer, scalar
from tilec.codegen.cpu.uses import meeting, multiplied
from tilec.ir.bits import is_packed
from tilec.ir.core import Block, Op, Trait, Value
from tilec.ir.dtype import bf16, f16, f32
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, control, shape
from tilec.ir.ops import memory as mem
from tilec.ir.ops import reduce as reductions
from tilec.ir.ops import scan as scans
from tilec.ir.ops.sparse import Expand
from tilec.ir.types import Span, Tile

FREE = (shape.Full, shape.Iota, shape.Coordinates)
MOST = 4  # times that a difference is computed rather than kept: operands of two products, say
VIEWS = (shape.Broadcast, shape.Transpose, shape.Slice, shape.Reshape)
FAMILIES = {
    (mem.Load, mem.Write): "memory", reductions.Dot: "dot", reductions.Reduction: "reduce",
    scans.Scan: "scan", Expand: "lanes", (*VIEWS, *FREE, shape.Join, shape.RandomBits): "views",
}  # fmt: skip


def handles(cls: type[Op]) -> str:
    """Where the code of an op is made."""
    if cls is control.Grid:
        return "codegen/cpu/__init__.py"
    if Trait.ELEMENTWISE in cls.traits:
        return "codegen/cpu/pointwise.py"
    found = (name for family, name in FAMILIES.items() if issubclass(cls, family))
    return f"codegen/cpu/{next(found, 'control')}.py"


class Walker(Regions):
    """Writes the ops of blocks; `env` says what each value is."""

    def __init__(self, w: Writer, env: Env, uses: Counter[Value], copies: Copies,
                 rows: Mapping[Value, list[reductions.Dot]]) -> None:  # fmt: skip
        super().__init__(w, env)
        self.uses, self.copies, self.rows = uses, copies, rows
        self.users: dict[Value, Op] = {}
        self.meeting: set[Value] = set()

    def tile(self, v: Value) -> Lazy:
        """A tile operand."""
        found = self.env[v]
        assert isinstance(found, Lazy)
        return found

    def block(self, block: Block) -> list[Lazy]:
        """Write a block; its results as they are then. What values from around it become inside is
        not known outside."""
        around = dict(self.env)
        self.meeting |= meeting(block)
        for op in block.ops:
            self.users.update(dict.fromkeys(op.operands, op))
        for op in block.ops:
            try:
                self.op(op)
            except TileError as e:
                raise e.at(op.loc) from None
        results = [self.tile(v) for v in block.results]
        self.env.clear()
        self.env.update(around)
        return results

    def op(self, op: Op) -> None:
        """Write one op."""
        match op:
            case control.For():
                self._for(op)
            case control.Count():
                self._count(op)
            case control.While():
                self._while(op)
            case control.If():
                self._if(op)
            case mem.Write():
                self._store(op)
            case mem.Whole():
                self.env[op.result] = self._whole(op)
            case mem.Nth():
                self.made[op.result] = op
                self.env[op.result] = self._nth(op)
            case _:
                self._value(op)

    def _whole(self, op: mem.Whole) -> Coordinates:
        if op.size is None:
            return Coordinates(0, self.w.extent(op.dim), 1 << 30)
        start, size = op.start or 0, self.w.extent(op.size)
        return Coordinates(start, size, gcd(start, size) if isinstance(size, int) else 1)

    def _value(self, op: Op) -> None:
        v = op.result
        self.made[v] = op
        if isinstance(op, VIEWS) and self.uses[v] > 1:
            self._settle(op.operands[0])
        self.env[v] = self._made(op)
        if isinstance(op, (*FREE, *VIEWS)):
            return
        if not _tile(op).rank or self._rows_again(op):
            self._settle(v)
        elif self.uses[v] > 1 and not self._plain(v):
            if v in self.meeting:
                self.env[v] = self.w.once(self.tile(v))
            else:
                self._settle(v)

    def _rows_again(self, op: Op) -> bool:
        """Whether floats of 16 bits are rows that products in loops read again and again, which
        would widen them each time; those of a matrix are copied for all tasks."""
        if not isinstance(op, mem.Load) or len(op.indices) <= 2:
            return False
        products, short = self.rows.get(op.result, ()), _tile(op).dtype in (bf16, f16)
        return short and bool(products) and all(operands.as_floats(self.w, p) for p in products)

    def _plain(self, v: Value) -> bool:
        """Whether reading a tile again is no more work than reading a buffer; or less than to write
        that first, as where numbers are taken from floats in memory, and twice."""
        op = self.made.get(v)
        if isinstance(op, arith.Sub) and self.uses[v] <= MOST:
            a, spread = self.made.get(op.a), self.made.get(op.b)
            if not (isinstance(a, mem.Load) and isinstance(spread, shape.Broadcast)):
                return False
            return self.tile(op.a).wide and _tile(a).dtype == f32 and _tile(a).rank == 2
        return self.tile(v).plain

    def _settle(self, v: Value) -> None:
        found = self.env[v]
        if isinstance(found, Lazy):
            assert isinstance(v.type, Tile)
            self.env[v] = self.w.settled(found, v.type)

    def _made(self, op: Op) -> Lazy:
        w = self.w
        match op:
            case shape.Join():
                return views.join(w, op, [self.tile(p) for p in op.parts])
            case shape.RandomBits():
                return views.random_bits(w, self.tile(op.seed), self.tile(op.offset))
            case mem.Load():
                return self._load(op)
            case Expand():
                alone = multiplied(op.result, self.users, self.uses)
                return expansions.expand(self.w, op, self.env, alone)
            case reductions.Dot():
                return self._dot(op)
            case reductions.Reduction():
                return reduce.emit(w, op, self.tile(op.a))
            case scans.Scan():
                return scan.emit(w, op, self.tile(op.a))
            case _ if isinstance(op, VIEWS):
                return views.emit(w, op, self.tile(op.operands[0]))
            case _ if Trait.ELEMENTWISE in op.traits:
                return self._pointwise(op)
            case _:
                return self._source(op)

    def _load(self, op: mem.Load) -> Lazy:
        tensor, places = self.env[op.mem], self._places(op.indices)
        assert isinstance(tensor, Tensor)
        found = memory.load(self.w, tensor, places, self.w.shape(_tile(op)))
        if found.fetch is not None and found.solid:
            found = replace(found, following=self._following(op, tensor))
        if not picks.apart(self.w, tensor, places):
            return found

        def at(index: Index, lanes: int) -> V:
            message = f"`{op.mem.hint}` is read element by element"
            self.w.remark(op, message, "consecutive coordinates along its last dimension")
            return found.at(index, lanes)

        return replace(found, at=at)

    def _following(self, op: mem.Load, tensor: Tensor) -> Callable[[Index, int], None] | None:
        """What asks for an element of the rows that the next iteration reads, where a number that
        memory has chooses them: pages."""
        seen: dict[Op, bool] = {}
        for v in op.indices:
            self._again(v, seen)
        by = [o for o, again in seen.items() if again]
        values = [v.type for o in by for v in (o.result, *o.operands)]
        cheap = all(t.rank == 0 for t in values if isinstance(t, Tile))
        if not (cheap and self.w.choices.ahead) or not any(isinstance(o, mem.Load) for o in by):
            return None
        around, self.env = self.env, {**self.env, **self.next}
        for o in by:
            self.op(o)
        found = memory.load(self.w, tensor, self._places(op.indices), self.w.shape(_tile(op))).fetch
        self.env = around
        return found

    def _source(self, op: Op) -> Lazy:
        """A tile made from nothing but extents."""
        w = self.w
        match op:
            case shape.Full():
                return views.full(w, op)
            case shape.Iota():
                return views.iota(w, w.extent(op.size), 0, _tile(op))
            case shape.Coordinates():
                span = self._span(op.span)
                return views.iota(w, span.size, span.start, _tile(op))
            case shape.Start() | shape.Size():
                n = self._span(op.span).start if isinstance(op, shape.Start) else w.extent(op.dim)
                number = scalar(w.f, w.f.convert("trunc", w.f.number(n), "i32"), _tile(op).dtype)
                within = isinstance(op, shape.Start) and isinstance(op.span.type, Span)
                extent = w.extent(op.span.type.dim) if within else 0  # type: ignore[union-attr]
                return replace(number, below=extent)
            case _:
                raise TileError(f"cpu: no code for {op.name}", op.loc)

    def _pointwise(self, op: Op) -> Lazy:
        operands = [self.tile(v) for v in op.operands]
        t = _tile(op)
        reads = frozenset[object]().union(*(x.reads for x in operands))
        beside = frozenset[object]().union(*(x.beside for x in operands))
        f = self.w.f
        found = Lazy(
            self.w.shape(t), t.dtype,
            lambda index, lanes: pointwise.emit(f, op, [x.at(index, lanes) for x in operands]),
            None, reads, beside, singly=any(x.singly for x in operands),
            words=pointwise.words(self.w, op, operands[0]),
            rounds=pointwise.rounds(op, operands[0]),
            plain=pointwise.widens(op) and operands[0].plain,
            wide=pointwise.side_by_side(op) and all(x.wide for x in operands),
            later=next((x.later for x in operands if x.later is not None), None),
        )  # fmt: skip
        if isinstance(op, arith.Div):
            spread = self.made.get(op.b)
            source = (
                self.env.get(spread.operands[0]) if isinstance(spread, shape.Broadcast) else None
            )
            if isinstance(source, Lazy):
                return quotients.by_rows(self.w, op, operands[0], spread, source, found)
        if isinstance(op, arith.Where):
            sides = operands[0], operands[1], operands[2]
            return consecutive.where(self.w, sides, self.made.get(op.operands[2]), found)
        found = windows.known(self.w, op, operands, self.made, found)
        return consecutive.known(self.w, op, operands, self.made, found)

    def _span(self, v: Value) -> Coordinates:
        found = self.env[v]
        assert isinstance(found, Coordinates)
        return found

    def _places(self, indices: tuple[Value, ...]) -> tuple[memory.Place, ...]:
        places = tuple(self.env[i] for i in indices)
        return tuple(p for p in places if not isinstance(p, Tensor))

    def _dot(self, op: reductions.Dot) -> Lazy:
        w, t = self.w, _tile(op)
        a, b = self.tile(op.a), self.tile(op.b)
        found = operands.thin_source(w, op, b, self.env, self.made, self.copies)
        buffer, start = self._accumulator(op, found is None)
        if found is not None:
            operands.thin_product(w, op, (a, b), found, self.copies, buffer)
            return w.read(buffer, t.dtype, w.shape(t))
        atom, panel = operands.right(w, op, self.env, self.made)
        whole = operands.whole_numbers(w, op, panel, self.env, self.made, self.copies)
        if panel is None:
            panel = evaluated(w, atom, b, buffer, lying(w, op, self.env, self.made))
        multiple = lcm(panel.deep if panel else 1, LINE if atom == BYTES else atom.pack)
        rows = operands.left(w, atom, op, a, self.env, self.made, self.copies, multiple)
        column, row = self._scales(op, buffer), self._buffer(op.row_scale)
        deep = -(-w.largest(op.a.type.shape[1]) // multiple) * multiple  # type: ignore[union-attr]
        (m, k), kind = a.shape, numbers.register(t.dtype)
        target = dot.Target(buffer, kind, column, row, start)
        if of_bits(atom) and operands.ones(op.b, self.made):
            dot.count(w, rows, (m, k), target)
        else:
            dot.emit(w, atom, rows, panel or self._second(op, atom), (m, k, deep), target,
                     whole)  # fmt: skip
        return w.read(buffer, t.dtype, w.shape(t))

    def _accumulator(self, op: reductions.Dot, later: bool) -> tuple[Buffer, Lazy | None]:
        """Where a product is summed up, and what it is added to where that is not there already.

        With `later` what it is added to may be computed when it is added, element by element, and
        a tile that a loop carries may be overwritten if it is that, or part of it.
        """
        w, t, acc = self.w, _tile(op), self.tile(op.acc)
        alone = self.uses[op.acc] == 1
        if acc.buffer is not None and alone:
            return acc.buffer, None
        columns, constant_ = acc.shape[1], isinstance(self.made.get(op.acc), shape.Full)
        whole = isinstance(columns, int) and columns % w.lanes == 0
        if not later or acc.buffer is not None or not (constant_ or (alone and whole)):
            buffer = w.buffer(t)
            w.fill(buffer, acc)
            return buffer, None
        for v, buffer in self.carried.items():
            own = {buffer.at.text} & acc.reads - acc.beside
            if own and v.type == t and self.uses[v] == 1 and self._once(op.acc, buffer):
                return buffer, acc
        return w.buffer(t), acc

    def _once(self, v: Value, buffer: Buffer) -> bool:
        """Whether what a tile reads from a buffer has no other reader."""
        x, op = self.env[v], self.made.get(v)
        if not isinstance(x, Lazy) or x.buffer is not None or buffer.at.text not in x.reads:
            return True
        return self.uses[v] == 1 and op is not None and all(
            self._once(operand, buffer) for operand in op.operands)  # fmt: skip

    def _second(self, op: reductions.Dot, atom: Atom) -> Lazy:
        """The second operand of a product. Bytes that more than a load is behind are computed
        first: packing writes out the code for many elements."""
        turned, whole = self.made.get(op.b), atom in (BYTES, SIXTEENS)
        root = origin(turned.a, self.made) if isinstance(turned, shape.Transpose) else None
        if root is not None and isinstance(root[0], Expand):
            source, links = root
            self.env[source.result] = expansions.expand(self.w, root[0], self.env, False)
            for made in (*(link.op for link in links), self.made[op.b]):
                self.env[made.result] = self._made(made)
        if whole and isinstance(turned, shape.Transpose) and chain(turned.a, self.made) is None:
            self._settle(turned.a)
            self.env[op.b] = self._made(turned)
        return self.tile(op.b)

    def _scales(self, op: reductions.Dot, to: Buffer) -> Buffer | Lazy | None:
        """The scales of a product's columns: in memory, or as they are where one row reads them."""
        if op.scale is None:
            return None
        found = self.tile(op.scale)
        once = to.shape[0] == 1 and self.uses[op.scale] == 1 and found.shape == (to.pitch,)
        return found if once and not found.singly else self._buffer(op.scale)

    def _buffer(self, v: Value | None) -> Buffer | None:
        """A tile in memory, if there is one."""
        if v is None:
            return None
        self._settle(v)
        return self.tile(v).buffer

    def _store(self, op: mem.Write) -> None:
        tensor = self.env[op.mem]
        assert isinstance(tensor, Tensor)
        if is_packed(tensor.dtype):
            raise TileError(f"cpu: elements of {tensor.dtype} share bytes, so they are only read",
                            hint=f"store them as {tensor.dtype.kind[0]}8")  # fmt: skip
        if op.mem in self.tile(op.value).reads:
            self._settle(op.value)
        self._before_writing({op.mem})
        act = memory.store if isinstance(op, mem.Store) else memory.accumulate
        act(self.w, tensor, self._places(op.indices), self.tile(op.value))

    def _before_writing(self, written: set[Value]) -> None:
        """Read now what was to be read later from memory that is about to change."""
        for v, found in list(self.env.items()):
            if isinstance(found, Lazy) and written & found.reads and self.uses[v]:
                self._settle(v)

    def _enter(self, op: Op) -> None:
        self._before_writing(
            {o.mem for b in op.blocks for o in b.walk() if isinstance(o, mem.Write)}
        )


def _tile(op: Op) -> Tile:
    t = op.result.type
    assert isinstance(t, Tile)
    return t
