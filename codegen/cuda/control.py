"""Ops in order, loops and branches: one walker prints a block and keeps what each value is."""

from __future__ import annotations

from tilec.codegen.cuda import dot, exchange, memory, pointwise, reduce, ring
from tilec.codegen.cuda.orders import Orders
from tilec.codegen.cuda.printer import Printer
from tilec.codegen.cuda.tiles import Place, Values, tile
from tilec.ir.core import Block, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import ceil_div
from tilec.ir.laid import VIEWS, Layouts
from tilec.ir.ops import control, machine, shape
from tilec.ir.ops import memory as mem
from tilec.ir.ops import reduce as reductions
from tilec.ir.types import Span

UNSUPPORTED: dict[type[Op], str] = {
    shape.Slice: "a part of a tile is in some threads only; not written yet",
    shape.Join: "tiles one after the other are in different threads; not written yet",
    shape.RandomBits: "Philox is not written for CUDA yet",
}
FREE = (*VIEWS, shape.Start, shape.Size, mem.Whole)


def handles(cls: type[Op]) -> str:
    """Where an op is printed, or the reason why it is not."""
    if cls in UNSUPPORTED:
        return f"none: {UNSUPPORTED[cls]}"
    if Trait.ELEMENTWISE in cls.traits:
        return "codegen/cuda/pointwise.py"
    if issubclass(cls, (mem.Load, mem.Store)):
        return "codegen/cuda/memory.py"
    if issubclass(cls, reductions.Reduction):
        return "codegen/cuda/reduce.py"
    if cls is reductions.Dot:
        return "codegen/cuda/dot.py"
    if cls is machine.Convert:
        return "codegen/cuda/exchange.py"
    if cls in (machine.Shared, machine.Copy):
        return "codegen/cuda/ring.py"
    return f"codegen/cuda/{'tiles' if issubclass(cls, FREE) else 'control'}.py"


class Walker:
    """Prints the ops of blocks."""

    def __init__(
        self, p: Printer, layouts: Layouts, orders: Orders, names: dict[Value, str]
    ) -> None:
        self.p = p
        self.values = Values(p, layouts, orders, dict(names))
        self.direct: dict[Value, machine.Convert] = {}  # loads that are read as they are wanted

    def block(self, block: Block) -> None:
        """Print the ops of a block."""
        converts = [op for op in block.ops if isinstance(op, machine.Convert)]
        uses = [v for op in block.ops for v in (*op.operands, *_inner(op))] + list(block.results)
        for op in converts:
            if uses.count(op.a) == 1:
                self.direct[op.a] = op
        for op in block.ops:
            try:
                self.op(op)
            except TileError as e:
                raise e.at(op.loc) from None

    def op(self, op: Op) -> None:
        """Print one op."""
        if type(op) in UNSUPPORTED:
            raise TileError(f"cuda: no code for {op.name}: {UNSUPPORTED[type(op)]}")
        self.values.made.update(dict.fromkeys(op.results, op))
        match op:
            case control.For() | control.Count() | control.While() | control.If():
                self._region(op)
            case mem.Store():
                self.p.at(op)
                memory.store(self.values, op)
            case mem.Whole():
                self._whole(op)
            case machine.Shared() | machine.Copy() | machine.Commit() | machine.Wait():
                self._shared(op)
            case _ if isinstance(op, FREE):
                pass
            case _:
                self._value(op)

    def _shared(self, op: Op) -> None:
        """What has to do with rings in shared memory."""
        match op:
            case machine.Shared():
                ring.declare(self.values, op)
            case machine.Copy():
                self.p.at(op)
                ring.copy(self.values, op)
            case machine.Wait():
                self.p.line(f"copy_async_wait<{op.pending}>();")
                self.p.line("barrier();")
            case _:
                self.p.line("copy_async_commit();")

    def _value(self, op: Op) -> None:
        """An op with a result that is held, or a scalar."""
        v = op.result
        held = v in self.values.layouts
        if Trait.ELEMENTWISE in op.traits and not held and tile(v).shape:
            return  # written where it is read
        self.p.at(op)
        match op:
            case mem.Load():
                self._load(op)
            case machine.Convert():
                self._convert(op)
            case reductions.Dot():
                dot.emit(self.values, op, self.values.declare(v, "product"))
            case reductions.Reduction():
                name = self.values.declare(v, _hint(op))
                reduce.emit(self.values, op, name)
            case _ if Trait.ELEMENTWISE in op.traits:
                self._elementwise(op)
            case _:
                raise TileError(f"cuda: no code for {op.name}")

    def _load(self, op: mem.Load) -> None:
        """A load; one that is converted at once is read in the layout in which it is wanted."""
        v = op.result
        if not tile(v).shape:
            memory.load(self.values, op, None)
            return
        wanted = self.direct.get(v)
        if wanted is not None:
            self.values.layouts[v] = wanted.layout
        self.values.declare(v, op.mem.hint.replace(".", "_").lower() + "_tile")
        if op.mem in self.values.rings:
            ring.load(self.values, op, self.values.names[v], self.values.layouts[v])
        else:
            memory.load(self.values, op, self.values.layouts[v])

    def _convert(self, op: machine.Convert) -> None:
        source = self.values.layouts.get(op.a)
        same = self.values.unmoved(op.a, op.layout)
        if same is not None:
            self.values.names[op.result] = self.values.names[same]
            return
        name = self.values.declare(op.result, "turned")
        if source is not None:
            exchange.convert(self.values, op.a, name, op.layout)
            return
        item = self.values.item(op.a, op.layout, "i")
        self.p.line(f"fill({name}, [&](u32 i) {{ return {item}; }});")

    def _elementwise(self, op: Op) -> None:
        v = op.result
        layout = self.values.layouts.get(v)
        if layout is None:
            text = pointwise.emit(op, [self.values.scalar(x) for x in op.operands])
            name = self.p.fresh("scalar")
            self.p.line(f"const auto {name} = {pointwise.rounded(op, text)};")
            self.values.names[v] = name
            return
        if op in self.values.orders.within:
            return  # decoded together with what follows
        if op in self.values.orders.decoded:
            self._decoded(op)
            return
        text = pointwise.emit(op, [self.values.item(x, layout, "i") for x in op.operands])
        name = self.values.declare(v, _hint(op))
        self.p.line(f"fill({name}, [&](u32 i) {{ return {text}; }});")

    def _decoded(self, op: Op) -> None:
        """Codes in fragment order as floats."""
        orders = self.values.orders
        source = op.operands[0]
        cast = self.values.made.get(source)
        if cast is not None and cast in orders.within:
            source = cast.operands[0]
        name = self.values.declare(op.result, "decoded")
        self.p.line(f"decode<{orders.decoded[op]}>({name}, {self.values.names[source]});")

    # -- spans --

    def _whole(self, op: mem.Whole) -> None:
        t = op.result.type
        assert isinstance(t, Span)
        if op.start:
            exact = op.start + int(str(t.size)) <= int(str(t.dim))
            self.values.spans[op.result] = Place(str(op.start), op.start, int(str(t.size)),
                                                 int(str(t.dim)), exact)  # fmt: skip
            return
        self.values.spans[op.result] = _place(t, "0", 1 << 20, True)

    def grid(self, op: control.Grid) -> int:
        """A block for each tile, the last dimension fastest; how many there are."""
        p, rest, total = self.p, "block", 1
        for i in reversed(range(len(op.dims))):
            t, tiles = op.body.params[i].type, op.tiles[i]
            assert isinstance(t, Span)
            count = ceil_div(op.dims[i], tiles or 1)
            assert isinstance(count, int)
            assert tiles is not None
            name = p.fresh(f"start_{i}")
            number = rest if i == 0 else f"{rest} % {count}"
            p.line(f"const u32 {name} = {number} * {tiles};")
            rest = f"block / {total * count}" if i else rest
            total *= count
            self.values.spans[op.body.params[i]] = _place(t, name, tiles, t.size == tiles)
        self.block(op.body)
        return total

    # -- regions --

    def _carry(self, init: tuple[Value, ...], params: tuple[Value, ...]) -> list[str]:
        names: list[str] = []
        for v, param in zip(init, params, strict=True):
            if tile(v).shape:
                names.append(self.values.declare(param, "carried"))
                self.p.line(f"{names[-1]} = {self.values.names[v]};")
                continue
            names.append(self.p.fresh("carried"))
            self.values.names[param] = names[-1]
            kind = pointwise.carrier(tile(v).dtype)
            self.p.line(f"{kind} {names[-1]} = {self.values.scalar(v)};")
        return names

    def _move(self, results: tuple[Value, ...], names: list[str]) -> None:
        """The values that a body yields become the carried ones, all at once."""
        texts = [self.values.names[v] if tile(v).shape else self.values.scalar(v) for v in results]
        moved = [(n, t) for n, t in zip(names, texts, strict=True) if n != t]
        if len(moved) > 1:
            kept = [(n, self.p.fresh("next"), t) for n, t in moved]
            for _, name, text in kept:
                self.p.line(f"const auto {name} = {text};")
            moved = [(n, name) for n, name, _ in kept]
        for name, text in moved:
            self.p.line(f"{name} = {text};")

    def _end(self, op: Op, names: list[str]) -> None:
        self.values.names.update(zip(op.results, names, strict=True))

    def _region(self, op: control.For | control.Count | control.While | control.If) -> None:
        match op:
            case control.For():
                self._for(op)
            case control.Count():
                self._count(op)
            case control.While():
                self._while(op)
            case control.If():
                self._if(op)

    def _for(self, op: control.For) -> None:
        p, t = self.p, op.body.params[0].type
        assert isinstance(t, Span)
        names = self._carry(op.init, op.body.params[1:])
        p.at(op)
        start = p.fresh("start")
        stop = f"{op.dim}"
        if op.stop is not None:
            stop = f"u32(max_s32(0, min_s32({op.dim}, s32({self.values.scalar(op.stop)}))))"
        p.line(f"for (u32 {start} = 0; {start} < {stop}; {start} += {op.tile}) {{")
        p.depth += 1
        assert op.tile is not None
        self.values.spans[op.body.params[0]] = _place(t, start, op.tile, t.size == op.tile)
        self.block(op.body)
        self._move(op.body.results, names)
        p.close()
        self._end(op, names)

    def _count(self, op: control.Count) -> None:
        p = self.p
        names = self._carry(op.init, op.body.params[1:])
        i = p.fresh("i")
        start, stop, step = (self.values.scalar(v) for v in (op.start, op.stop, op.step))
        kind = pointwise.carrier(tile(op.start).dtype)
        p.line(f"const {kind} {i}_stop = {stop}, {i}_step = {step};")
        p.line(f"for ({kind} {i} = {start}; {i}_step > 0 ? {i} < {i}_stop : {i} > {i}_stop; "
               f"{i} += {i}_step) {{")  # fmt: skip
        p.depth += 1
        self.values.names[op.body.params[0]] = i
        self.block(op.body)
        self._move(op.body.results, names)
        p.close()
        self._end(op, names)

    def _while(self, op: control.While) -> None:
        p = self.p
        names = self._carry(op.init, op.body.params)
        self.values.names.update(zip(op.test.params, names, strict=True))
        p.line("while (true) {")
        p.depth += 1
        self.block(op.test)
        p.line(f"if (!({self.values.scalar(op.test.results[0])})) break;")
        self.block(op.body)
        self._move(op.body.results, names)
        p.close()
        self._end(op, names)

    def _if(self, op: control.If) -> None:
        p = self.p
        names: list[str] = []
        for v in op.results:
            if tile(v).shape:
                names.append(self.values.declare(v, "chosen"))
            else:
                names.append(p.fresh("chosen"))
                p.line(f"{pointwise.carrier(tile(v).dtype)} {names[-1]};")
        p.line(f"if ({self.values.scalar(op.condition)}) {{")
        for n, block in enumerate((op.then, op.otherwise)):
            p.depth += 1
            self.block(block)
            for name, v in zip(names, block.results, strict=True):
                text = self.values.names[v] if tile(v).shape else self.values.scalar(v)
                p.line(f"{name} = {text};")
            p.close("} else {" if n == 0 else "}")
        self._end(op, names)


def _inner(op: Op) -> list[Value]:
    """What the blocks of an op read."""
    return [v for b in op.blocks for o in b.walk() for v in o.operands] + [
        v for b in op.blocks for v in b.results] + [
        v for b in op.blocks for o in b.walk() for c in o.blocks for v in c.results]  # fmt: skip


def _place(t: Span, start: str, multiple: int, whole: bool) -> Place:
    assert isinstance(t.size, int)
    assert isinstance(t.dim, int)
    step = multiple if start != "0" else t.size
    return Place(start, multiple, t.size, t.dim, whole and t.dim % step == 0)


def _hint(op: Op) -> str:
    return {"sum": "total", "max": "most", "min": "least", "argmax": "first"}.get(op.name, "value")
