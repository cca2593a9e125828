"""Ops in order, loops and branches: one walker prints a block and keeps what each value is."""

from __future__ import annotations

from tilec.codegen.cuda import (
    dot,
    exchange,
    groups,
    memory,
    pointwise,
    reduce,
    ring,
    scan,
    shared,
    sparse,
)
from tilec.codegen.cuda.orders import Orders
from tilec.codegen.cuda.printer import Printer
from tilec.codegen.cuda.tiles import Place, Values, tile
from tilec.ir.core import Block, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, ceil_div
from tilec.ir.laid import VIEWS, Layouts, by_element
from tilec.ir.ops import control, machine, packed, shape
from tilec.ir.ops import memory as mem
from tilec.ir.ops import reduce as reductions
from tilec.ir.ops import scan as scans
from tilec.ir.ops.sparse import Expand, SparseDot
from tilec.ir.types import Span

FREE = (*VIEWS, shape.Start, shape.Size, mem.Whole, machine.InPlace)
SHIFTED = (shape.Slice, shape.Join)  # shifts from `pad` on

SHORT = 32  # matrix instructions of a turn


FAMILIES = {  # the first that an op is of
    (mem.Load, mem.Write): "memory", reductions.Reduction: "reduce", scans.Scan: "scan",
    reductions.Dot: "dot", (machine.Convert, machine.Shift, *SHIFTED): "exchange",
    (machine.Shared, machine.Copy): "ring", (machine.InPlace, machine.Settle): "groups",
    (machine.Barriers, *shared.SIGNALS): "bulk", shared.SHARED: "shared", FREE: "tiles",
    (SparseDot, Expand): "sparse",
}  # fmt: skip


def handles(cls: type[Op]) -> str:
    """Where an op is printed, or the reason why it is not."""
    if Trait.ELEMENTWISE in cls.traits or cls is shape.RandomBits:
        return "codegen/cuda/pointwise.py"
    found = (name for family, name in FAMILIES.items() if issubclass(cls, family))
    return f"codegen/cuda/{next(found, 'control')}.py"


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
        self.values.own |= {v for v in block.params if uses.count(v) == 1}
        self.values.in_place |= any(isinstance(op, machine.InPlace) for op in block.walk())
        for op in block.ops:
            try:
                self.op(op)
            except TileError as e:
                raise e.at(op.loc) from None

    def op(self, op: Op) -> None:
        """Print one op."""
        self.values.made.update(dict.fromkeys(op.results, op))
        self.p.memory.at(op, self.p.lines)
        match op:
            case control.For() | control.Count() | control.While() | control.If():
                self._region(op)
            case mem.Write():
                self.p.at(op)
                memory.write(self.values, op)
            case mem.Whole():
                self._whole(op)
            case mem.Nth():
                self._nth(op)
            case packed.Groups():
                self.values.spans[op.result] = self.values.spans[op.span].grouped(op.by)
            case machine.Alone():
                self.alone(op)
            case _ if isinstance(op, shared.SHARED):
                shared.emit(self.values, op)
            case _ if isinstance(op, FREE):
                pass
            case _:
                self._value(op)

    def alone(self, op: machine.Alone) -> None:
        """Print what one thread does."""
        self.p.line("if (thread == 0) {")
        self.p.depth += 1
        self.block(op.body)
        self.p.close()

    def _value(self, op: Op) -> None:
        """An op with a result that is held, or a scalar."""
        v = op.result
        held = v in self.values.layouts
        if by_element(op) and not held and tile(v).shape:
            return  # written where it is read
        self.p.at(op)
        match op:
            case mem.Load() | Expand():
                self._load(op)
            case machine.Convert():
                self._convert(op)
            case machine.Shift():
                exchange.shift(self.values, op, self.values.declare(v, "moved"))
            case reductions.Dot() | SparseDot():
                self._product(op)
            case machine.Settle():
                self.values.names[v] = self.values.names[op.a]
                groups.settle(self.values, self.values.names[v], op.pending)
            case reductions.Reduction():
                name = self.values.declare(v, _hint(op))
                reduce.emit(self.values, op, name)
            case scans.Scan():
                scan.emit(self.values, op, self.values.declare(v, _hint(op)))
            case _ if by_element(op):
                self._elementwise(op)
            case _:
                raise TileError(f"cuda: no code for {op.name}")

    def _product(self, op: reductions.Dot | SparseDot) -> None:
        name = self._total(op)
        if isinstance(op, SparseDot):
            sparse.emit(self.values, op, name)
        else:
            dot.emit(self.values, op, name)

    def _total(self, op: reductions.Dot | SparseDot) -> str:
        """Registers for a product: of one that goes on, those of what it is added to, if it can
        have them."""
        if op.acc not in self.values.own or not groups.taken(op, self.values.made):
            return self.values.declare(op.result, "product")
        name = self.values.names[op.result] = self.values.names[op.acc]
        return name

    def _load(self, op: mem.Load | Expand) -> None:
        """A load; one that is converted at once is read in the layout in which it is wanted."""
        v, wanted = op.result, self.direct.get(op.result)
        if isinstance(op, Expand):
            self.values.layouts[v] = wanted.layout if wanted else self.values.layouts[v]
            sparse.expand(self.values, op, self.values.declare(v, "expanded"))
            return
        if not tile(v).shape:
            memory.load(self.values, op, None)
            return
        tiles = any(not isinstance(i.type, Span) and tile(i).shape for i in op.indices)
        if wanted is not None and not tiles:  # tiles as indices are held as the load is
            self.values.layouts[v] = wanted.layout
        hint = op.mem.hint.replace(".", "_").lower() + "_tile"
        if isinstance(self.values.rings.get(op.mem), ring.FragmentRing):
            ring.take(self.values, op, hint)
            return
        self.values.declare(v, hint)
        if op.mem in self.values.rings:
            product = self.values.orders.fragments.get(op)
            late = product is not None and dot.in_quarters(self.values, product)
            ring.load(self.values, op, self.values.names[v], self.values.layouts[v], late)
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
        """Codes in fragment order as what a product reads."""
        found = self.values.orders.decoded[op]
        name = self.values.declare(op.result, "decoded")
        if not found.late:
            self.p.line(f"{found.function}({name}, {self.values.names[found.source]});")

    # -- spans --

    def _whole(self, op: mem.Whole) -> None:
        t, start = op.result.type, op.start or 0
        assert isinstance(t, Span)
        exact = isinstance(t.dim, int) and start + int(str(t.size)) <= t.dim
        self.values.spans[op.result] = Place(str(start), start or 1 << 20, exact)

    def _nth(self, op: mem.Nth) -> None:
        name = self.p.fresh("start")
        self.p.line(f"const u32 {name} = u32({self.values.scalar(op.number)}) * {op.tile};")
        self.values.tiled(op.result, name, op.tile)

    def grid(self, op: control.Grid) -> Extent:
        """A block for each tile, the last dimension fastest; how many there are."""
        p, rest = self.p, "block"
        total: Extent = 1
        for i in reversed(range(len(op.dims))):
            tiles = op.tiles[i] or 1
            count = ceil_div(op.dims[i], tiles)
            name = p.fresh(f"start_{i}")
            number = rest if i == 0 else f"{rest} % {p.extent(count)}"
            p.line(f"const u32 {name} = {number} * {tiles};")
            total = total * count
            rest = f"block / {p.extent(total)}" if i else rest
            self.values.tiled(op.body.params[i], name, tiles)
        self.task(op.body)
        return total

    def task(self, block: Block) -> None:
        """Print what a block of threads does for its tile."""
        self.block(block)

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
                self.loop(op)
            case control.Count():
                self._count(op)
            case control.While():
                self._while(op)
            case control.If():
                self._if(op)

    def loop(self, op: control.For) -> None:
        """Print a loop over tiles."""
        names = self._carry(op.init, op.body.params[1:])
        self.head(op)
        self.block(op.body)
        self._move(op.body.results, names)
        self.p.close()
        self._end(op, names)

    def head(self, op: control.For) -> None:
        """Print the head of a loop over tiles."""
        p, t = self.p, op.body.params[0].type
        assert isinstance(t, Span)
        p.at(op)
        start = p.fresh("start")
        stop = p.extent(op.dim)
        if op.stop is not None:
            stop = f"u32(max_s32(0, min_s32({stop}, s32({self.values.scalar(op.stop)}))))"
        first = "0"
        if op.first is not None:
            tiles = p.extent(ceil_div(op.dim, op.tile or 1))
            number = self.values.scalar(op.first)
            first = f"u32(max_s32(0, min_s32({tiles}, s32({number})))) * {op.tile}"
        turns = self._turns(op)
        if turns > 1:
            p.lines.append(f"#pragma unroll {turns}")
        p.line(f"for (u32 {start} = {first}; {start} < {stop}; {start} += {op.tile}) {{")
        p.depth += 1
        assert op.tile is not None
        self.values.tiled(op.body.params[0], start, op.tile)

    def _turns(self, op: control.For) -> int:
        """How many turns of a loop are one of the machine's: short ones as many as there are slots,
        whose numbers are known then."""
        rings = [self.values.rings.get(o.mem) for o in op.body.ops if isinstance(o, mem.Load)]
        slots = {r.slots for r in rings if isinstance(r, ring.Ring | ring.FragmentRing)}
        work = [dot.instructions(self.values, o) for o in op.body.ops
                if isinstance(o, reductions.Dot)]  # fmt: skip
        work += [sparse.instructions(self.values, o) for o in op.body.ops
                 if isinstance(o, SparseDot)]  # fmt: skip
        return slots.pop() if len(slots) == 1 and 0 < sum(work) <= SHORT and all(work) else 1

    def _count(self, op: control.Count) -> None:
        p = self.p
        names = self._carry(op.init, op.body.params[1:])
        i = p.fresh("turn")
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
            if n == 0 and not (op.otherwise.ops or names):
                p.close()
                break
            p.close("} else {" if n == 0 else "}")
        self._end(op, names)


def _inner(op: Op) -> list[Value]:
    """What the blocks of an op read."""
    return [v for b in op.blocks for o in b.walk() for v in o.operands] + [
        v for b in op.blocks for v in b.results] + [
        v for b in op.blocks for o in b.walk() for c in o.blocks for v in c.results]  # fmt: skip


def _hint(op: Op) -> str:
    return {"sum": "total", "max": "most", "min": "least", "argmax": "first"}.get(op.name, "value")
