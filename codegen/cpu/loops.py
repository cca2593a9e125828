"""Loops and branches: what they carry from one iteration to the next lies in buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.tiles import Buffer, Coordinates, Lazy, Tensor, Writer, scalar
from tilec.ir.core import Block, Op, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import control
from tilec.ir.ops import memory as mem
from tilec.ir.ops.reduce import Dot
from tilec.ir.types import Tile

Env = dict[Value, Lazy | Coordinates | Tensor]


class Regions:
    """Writes the ops that have blocks; who writes the blocks themselves is a subclass."""

    def __init__(self, w: Writer, env: Env) -> None:
        self.w, self.env = w, env
        self.carried: Mapping[Value, Buffer] = {}  # by the loop that is being written
        self.counted: set[Value] = set()  # numbers that a loop goes through one by one
        self.made: dict[Value, Op] = {}
        self.next: dict[Value, Coordinates] = {}  # the loop's span as it will be then

    def tile(self, v: Value) -> Lazy:
        """A tile operand."""
        raise NotImplementedError

    def block(self, block: Block) -> list[Lazy]:
        """Write a block; its results as they are then."""
        raise NotImplementedError

    def _enter(self, op: Op) -> None:
        raise NotImplementedError

    def span(self, dim: Extent, size: Extent, tile: int | None, at: Number,
             end: Number) -> Coordinates:  # fmt: skip
        """The span of an iteration that starts at `at`; its size symbol is set."""
        full = isinstance(end, int) and tile is not None and end % tile == 0
        if tile is None or full:
            return self._spanned(dim, size, tile, at, tile or 0, end)
        left = self.w.f.binary("sub", self.w.f.number(end), self.w.f.number(at))
        return self._spanned(dim, size, tile, at, self.w.f.least(tile, left), end)

    def _spanned(self, dim: Extent, size: Extent, tile: int | None, at: Number, n: Number,
                 end: Number) -> Coordinates:  # fmt: skip
        if tile is None:
            raise TileError(
                f"cpu: the tile size `{size}` is not chosen", hint="run the pass `tile` first"
            )
        self.w.sizes[str(size)], self.w.most[str(size)] = n, tile
        return Coordinates(at, n, tile, n != tile and end != self.w.extent(dim))

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
        around, self.carried = self.carried, dict(zip(params, buffers, strict=True))
        results = self.block(body)
        self.carried = around
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
        start, counted = self.w.f.times(number, op.tile), op.number in self.counted
        return Coordinates(start, self.w.extent(op.size), op.tile, counted=counted)

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

        self._each_tile(op, (first, end), buffers)
        self._bind(op.results, buffers)

    def _each_tile(self, op: control.For, ends: tuple[Number, Number], buffers: list[Buffer]
                   ) -> None:  # fmt: skip
        """The iterations of a loop. Where it has products, the last one is written by itself if it
        may be shorter: the extents of all others are then known numbers."""
        f, (first, end), tile = self.w.f, ends, op.tile
        assert tile is not None

        def some(start: Number, stop: Number, size: Callable[[V], Number]) -> None:
            def one(i: V) -> None:
                span = self._spanned(op.dim, op.size, tile, i, size(i), end)
                self.env[op.body.params[0]] = span
                around, self.next = self.next, {op.body.params[0]: self._after(span, tile, end)}
                self._iterate(op.body, op.body.params[1:], buffers)
                self.next = around

            f.loop(start, stop, tile, one)

        if isinstance(end, int) and end % tile == 0:
            some(first, end, lambda _: tile)
            return
        if not any(isinstance(o, Dot) for o in op.body.walk()):
            some(first, end, lambda i: f.least(tile, f.binary("sub", f.number(end), i)))
            return
        rest = end % tile if isinstance(end, int) else f.binary("srem", end, f.number(tile))
        whole = f.plus(end, f.times(rest, -1))
        if whole != 0:
            some(first, whole, lambda _: tile)
        begin = whole if first == 0 else f.intrinsic("smax", f.number(first), f.number(whole))
        some(begin, end, lambda i: rest if first == 0 else f.binary("sub", f.number(end), i))

    def _after(self, span: Coordinates, tile: int, end: Number) -> Coordinates:
        """The span behind one; the last is its own."""
        f, start = self.w.f, self.w.f.number(span.start)
        after = f.number(f.plus(start, tile))
        there = f.compare("icmp slt", after, f.number(end))
        return replace(span, start=f.select(there, after, start))

    def _again(self, v: Value, seen: dict[Op, bool]) -> bool:
        """Whether a value is another in the next iteration; `seen` says that of the ops that it
        comes from, in their order."""
        op = self.made.get(v)
        if v in self.next or op is None:
            return v in self.next
        if op not in seen:
            again = [self._again(operand, seen) for operand in op.operands]
            seen[op] = any(again)
        return seen[op]

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
        self.counted.add(op.body.params[0])

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
