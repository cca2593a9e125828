"""Ops in order, loops and branches: one writer walks a block and keeps what each value is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import lcm

from tilec.codegen.cpu import dot, memory, numbers, operands, pointwise, reduce, scan, views
from tilec.codegen.cpu.atoms import BYTES, SIXTEENS, Atom, of_bits
from tilec.codegen.cpu.chain import chain, origin
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.operands import Copies
from tilec.codegen.cpu.tiles import Buffer, Coordinates, Index, Lazy, Tensor, Writer, scalar
from tilec.codegen.cpu.uses import multiplied
from tilec.ir.bits import is_packed
from tilec.ir.core import Block, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import control, shape
from tilec.ir.ops import memory as mem
from tilec.ir.ops import reduce as reductions
from tilec.ir.ops import scan as scans
from tilec.ir.ops.sparse import Expand
from tilec.ir.types import Tile

Env = dict[Value, Lazy | Coordinates | Tensor]
FREE = (shape.Full, shape.Iota, shape.Coordinates)
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


class Walker:
    """Writes the ops of blocks; `env` says what each value is."""

    def __init__(self, w: Writer, env: Env, uses: Counter[Value], copies: Copies) -> None:
        self.w, self.env, self.uses, self.copies = w, env, uses, copies
        self.made: dict[Value, Op] = {}
        self.users: dict[Value, Op] = {}

    def tile(self, v: Value) -> Lazy:
        """A tile operand."""
        found = self.env[v]
        assert isinstance(found, Lazy)
        return found

    def block(self, block: Block) -> list[Lazy]:
        """Write a block; its results as they are then. What values from around it become inside is
        not known outside."""
        around = dict(self.env)
        for op in block.ops:
            self.users.update(dict.fromkeys(op.operands, op))
        for op in block.ops:
            try:
                self.op(op)
            except TileError as e:
                raise e.at(op.loc) from None
        results = [self.tile(v) for v in block.results]
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
                self.env[op.result] = Coordinates(0, self.w.extent(op.dim), 1 << 30)
            case mem.Nth():
                self.env[op.result] = self._nth(op)
            case _:
                self._value(op)

    def _value(self, op: Op) -> None:
        v = op.result
        self.made[v] = op
        if isinstance(op, VIEWS) and self.uses[v] > 1:
            self._settle(op.operands[0])
        self.env[v] = self._made(op)
        if not isinstance(op, (*FREE, *VIEWS)) and (self.uses[v] > 1 or v.type.rank == 0):  # type: ignore[union-attr]
            self._settle(v)

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
                return operands.expand(self.w, op, self.env, alone)
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
        if not any(isinstance(p, Lazy) and p.shape for p in places[-1:]):
            return found

        def at(index: Index, lanes: int) -> V:
            message = f"`{op.mem.hint}` is read element by element"
            self.w.remark(op, message, "consecutive coordinates along its last dimension")
            return found.at(index, lanes)

        return replace(found, at=at)

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
                return scalar(w.f, w.f.convert("trunc", w.f.number(n), "i32"), _tile(op).dtype)
            case _:
                raise TileError(f"cpu: no code for {op.name}", op.loc)

    def _pointwise(self, op: Op) -> Lazy:
        operands = [self.tile(v) for v in op.operands]
        t = _tile(op)
        reads = frozenset[object]().union(*(x.reads for x in operands))
        beside = frozenset[object]().union(*(x.beside for x in operands))
        f = self.w.f
        return Lazy(
            self.w.shape(t), t.dtype,
            lambda index, lanes: pointwise.emit(f, op, [x.at(index, lanes) for x in operands]),
            None, reads, beside, singly=any(x.singly for x in operands),
        )  # fmt: skip

    def _span(self, v: Value) -> Coordinates:
        found = self.env[v]
        assert isinstance(found, Coordinates)
        return found

    def _places(self, indices: tuple[Value, ...]) -> tuple[memory.Place, ...]:
        places = tuple(self.env[i] for i in indices)
        return tuple(p for p in places if not isinstance(p, Tensor))

    def _dot(self, op: reductions.Dot) -> Lazy:
        w, t = self.w, _tile(op)
        acc = self.tile(op.acc)
        buffer = acc.buffer if self.uses[op.acc] == 1 else None
        if buffer is None:
            buffer = w.buffer(t)
            w.fill(buffer, acc)
        a, b = self.tile(op.a), self.tile(op.b)
        if operands.thin_product(w, op, (a, b), self.env, self.made, self.copies, buffer):
            return w.read(buffer, t.dtype, w.shape(t))
        atom, panel = operands.right(w, op, self.env, self.made)
        multiple = lcm(panel.deep if panel else 1, dot.LINE if atom == BYTES else atom.pack)
        rows = operands.left(w, atom, op, a, self.env, self.made, self.copies, multiple)
        scales = [self._buffer(v) for v in (op.scale, op.row_scale)]
        deep = -(-w.largest(op.a.type.shape[1]) // multiple) * multiple  # type: ignore[union-attr]
        (m, k), target = a.shape, dot.Target(buffer, numbers.register(t.dtype), *scales)
        if of_bits(atom) and operands.ones(op.b, self.made):
            dot.count(w, rows, (m, k), target)
        else:
            dot.emit(w, atom, rows, panel or self._second(op, atom), (m, k, deep), target)
        return w.read(buffer, t.dtype, w.shape(t))

    def _second(self, op: reductions.Dot, atom: Atom) -> Lazy:
        """The second operand of a product. Bytes that more than a load is behind are computed
        first: packing writes out the code for many elements."""
        turned, whole = self.made.get(op.b), atom in (BYTES, SIXTEENS)
        root = origin(turned.a, self.made) if isinstance(turned, shape.Transpose) else None
        if root is not None and isinstance(root[0], Expand):
            source, links = root
            self.env[source.result] = operands.expand(self.w, root[0], self.env, False)
            for made in (*(link.op for link in links), self.made[op.b]):
                self.env[made.result] = self._made(made)
        if whole and isinstance(turned, shape.Transpose) and chain(turned.a, self.made) is None:
            self._settle(turned.a)
            self.env[op.b] = self._made(turned)
        return self.tile(op.b)

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

    # -- regions --

    def span(self, dim: Extent, size: Extent, tile: int | None, at: V, end: Number) -> Coordinates:
        """The span of an iteration that starts at `at`; its size symbol is set."""
        if tile is None:
            raise TileError(
                f"cpu: the tile size `{size}` is not chosen", hint="run the pass `tile` first"
            )
        full = isinstance(end, int) and end % tile == 0
        n: Number = (
            tile if full else self.w.f.least(tile, self.w.f.binary("sub", self.w.f.number(end), at))
        )
        self.w.sizes[str(size)], self.w.most[str(size)] = n, tile
        return Coordinates(at, n, tile, end != self.w.extent(dim))

    def _carry(self, init: tuple[Value, ...]) -> list[Buffer]:
        buffers: list[Buffer] = []
        for v in init:
            assert isinstance(v.type, Tile)
            buffers.append(self.w.buffer(v.type))
            self.w.fill(buffers[-1], self.tile(v))
        return buffers

    def _bind(self, params: tuple[Value, ...], buffers: list[Buffer]) -> None:
        for p, b in zip(params, buffers, strict=True):
            assert isinstance(p.type, Tile)
            self.env[p] = self.w.read(b, p.type.dtype, self.w.shape(p.type))

    def _iterate(self, body: Block, params: tuple[Value, ...], buffers: list[Buffer]) -> None:
        """One pass through a loop's body: new carried values into the buffers of the old."""
        self._bind(params, buffers)
        results = self.block(body)
        moves: list[tuple[Buffer, Lazy, Tile]] = []
        for v, x, b in zip(body.results, results, buffers, strict=True):
            assert isinstance(v.type, Tile)
            if x.buffer != b:
                moves.append((b, x if x.shape else self.w.settled(x, v.type), v.type))
        self._move(moves)

    def _move(self, moves: list[tuple[Buffer, Lazy, Tile]]) -> None:
        """All at once: the buffers that no other move reads first, cycles through copies."""

        def awaited(i: int) -> bool:
            others = (x for j, (_, x, _) in enumerate(moves) if j != i)
            return any(moves[i][0].at.text in x.reads for x in others)

        while moves:
            i = min(range(len(moves)), key=awaited)
            copied = awaited(i)
            into, x, t = moves.pop(i)
            if copied or into.at.text in x.beside:
                moves.append((into, self.w.fill(self.w.buffer(t), x), t))
            else:
                self.w.fill(into, x)

    def _nth(self, op: mem.Nth) -> Coordinates:
        whole = isinstance(op.dim, int) and op.dim % op.tile == 0
        if not whole or op.size not in (op.tile, *map(Sym, self.w.sizes)):
            raise TileError(f"cpu: tiles of {op.tile} by number do not fill {op.dim} coordinates")
        number = self.w.f.convert("sext", self.tile(op.number).at((), 1), "i64")
        return Coordinates(self.w.f.times(number, op.tile), self.w.extent(op.size), op.tile)

    def _for(self, op: control.For) -> None:
        self._enter(op)
        end = self.w.extent(op.dim)
        if op.stop is not None:
            stop = self.tile(op.stop).at((), 1)
            wide = self.w.f.convert("sext", stop, "i64")
            end = self.w.f.intrinsic("smin", wide, self.w.f.number(end))
        buffers = self._carry(op.init)
        if op.tile is None:
            raise TileError(f"cpu: the tile size `{op.size}` is not chosen")
        first: Number = 0
        if op.first is not None:
            wide = self.w.f.convert("sext", self.tile(op.first).at((), 1), "i64")
            number = self.w.f.intrinsic("smax", wide, self.w.f.number(0))
            first = self.w.f.binary("mul", number, self.w.f.number(op.tile))

        def body(i: V) -> None:
            self.env[op.body.params[0]] = self.span(op.dim, op.size, op.tile, i, end)
            self._iterate(op.body, op.body.params[1:], buffers)

        self.w.f.loop(first, end, op.tile, body)
        self._bind(op.results, buffers)

    def _count(self, op: control.Count) -> None:
        self._enter(op)
        f, t = self.w.f, op.start.type
        assert isinstance(t, Tile)
        start, stop, step = (
            f.convert("sext" if t.dtype.kind == "int" else "zext", self.tile(v).at((), 1), "i64")
            for v in (op.start, op.stop, op.step)
        )
        zero, one = constant("i64", 0), constant("i64", 1)
        up = f.compare("icmp sgt", step, zero)
        far = f.select(up, f.binary("sub", stop, start), f.binary("sub", start, stop))
        by = f.intrinsic("smax", f.select(up, step, f.binary("sub", zero, step)), one)
        count = f.binary("sdiv", f.binary("sub", f.binary("add", far, by), one), by)
        count = f.select(f.compare("icmp sgt", far, zero), count, zero)
        buffers = self._carry(op.init)

        def body(i: V) -> None:
            at = f.binary("add", start, f.binary("mul", i, step))
            narrow = f.convert("trunc", at, numbers.register(t.dtype))
            self.env[op.body.params[0]] = scalar(f, narrow, t.dtype)
            self._iterate(op.body, op.body.params[1:], buffers)

        f.loop(0, count, 1, body)
        self._bind(op.results, buffers)

    def _while(self, op: control.While) -> None:
        self._enter(op)
        f, buffers = self.w.f, self._carry(op.init)
        head, inside, done = f.labels("test", "again", "ended")
        f.emit(f"br label %{head}")
        f.place(head)
        self._bind(op.test.params, buffers)
        (going,) = self.block(op.test)
        f.branch(going.at((), 1), inside, done)
        f.place(inside)
        self._iterate(op.body, op.body.params, buffers)
        f.emit(f"br label %{head}")
        f.place(done)
        self._bind(op.results, buffers)

    def _if(self, op: control.If) -> None:
        self._enter(op)
        f = self.w.f
        buffers = [self.w.buffer(v.type) for v in op.results if isinstance(v.type, Tile)]
        then, otherwise, after = f.labels("then", "else", "after")
        f.branch(self.tile(op.condition).at((), 1), then, otherwise)
        for label, block in ((then, op.then), (otherwise, op.otherwise)):
            f.place(label)
            for b, x in zip(buffers, self.block(block), strict=True):
                self.w.fill(b, x)
            f.emit(f"br label %{after}")
        f.place(after)
        self._bind(op.results, buffers)


def _tile(op: Op) -> Tile:
    t = op.result.type
    assert isinstance(t, Tile)
    return t
