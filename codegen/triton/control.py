"""Ops in order, loops and branches: one walker prints a block and keeps the text of each value."""

from __future__ import annotations

from collections import Counter

from tilec.codegen.triton import memory, pointwise, tiles
from tilec.codegen.triton.printer import LEAST_DOT, Printer, bare, dtype_of
from tilec.codegen.triton.spans import Spans
from tilec.codegen.triton.unpack import Words
from tilec.ir.core import Block, Func, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, ceil_div
from tilec.ir.ops import arith, control, packed, reduce, shape
from tilec.ir.ops import memory as mem
from tilec.ir.types import Memory, Span, Tile

LONGEST = 60  # characters of an expression that is written where it is used


def check(func: Func) -> control.Grid:
    """The only grid of a function. Raises TileError where Triton can't do an op."""
    acting = [op for op in func.body.ops if Trait.WRITES in op.traits]
    if len(acting) == 1 and not isinstance(acting[0], control.Grid):
        raise TileError(f"triton: the outermost loop of {func.name} is none over tiles",
                        acting[0].loc, hint="for m in tiles(M) { ... }")  # fmt: skip
    if len(acting) != 1 or not isinstance(acting[0], control.Grid):
        raise TileError(f"triton: {func.name} has {len(acting)} loops over tiles, expected one")
    return acting[0]


def handles(cls: type[Op]) -> str:
    """Where an op is printed, or the reason why it is not."""
    if issubclass(cls, (packed.Part, packed.Groups)):
        return "codegen/triton/spans.py"
    if cls is packed.Unpack:
        return "codegen/triton/unpack.py"
    if Trait.ELEMENTWISE in cls.traits:
        return "codegen/triton/pointwise.py"
    if issubclass(cls, (mem.Load, mem.Store)):
        return "codegen/triton/memory.py"
    here = (mem.Whole, shape.Start, shape.Coordinates, reduce.Dot)
    inside = cls.fields("block") or issubclass(cls, here)
    return f"codegen/triton/{'control' if inside else 'tiles'}.py"


def _uses(block: Block) -> Counter[Value]:
    """How often each value is read; from a loop counts as often."""
    uses: Counter[Value] = Counter(block.results)
    for op in block.ops:
        uses.update(op.operands)
        for inner in op.blocks:
            own = {v for o in inner.walk() for v in o.results} | set(inner.params)
            for v, n in _uses(inner).items():
                uses[v] += n if v in own else 2
    return uses


class Walker:
    """Prints the ops of blocks; `text` is how each value is written where it is used."""

    def __init__(self, p: Printer, func: Func) -> None:
        self.p, self.uses = p, _uses(func.body)
        self.text: dict[Value, str] = {}
        self.made: dict[Value, Op] = {}
        self.wanted: dict[Value, str] = {}  # names that results must have
        self.last: set[Op] = set()  # of the ops of a line, those that make what it assigns
        self.words, self.spans = Words(), Spans(p)
        for v in func.params:
            self.text[v] = p.fresh(v.hint.replace(".", "_"))
        p.taken.update(p.dims(func))
        for op in func.walk():
            if isinstance(op, reduce.Dot):
                for v in (op.a, op.b):
                    p.large |= {str(d): LEAST_DOT for d in _tile(v).shape}
                if tiles.common(op).bits == 8:
                    p.large[str(_tile(op.a).shape[1])] = 2 * LEAST_DOT

    def operand(self, v: Value) -> str:
        """A value as a whole tile."""
        op = self.made.get(v)
        if isinstance(op, shape.Full):
            return tiles.full(self.p, op)
        if isinstance(op, shape.Broadcast):
            source = tiles.stretched(op, self.operand(op.a))
            return f"tl.broadcast_to({bare(source)}, {self.p.shape(_tile(v))})"
        return self.text[v]

    def loose(self, v: Value) -> str:
        """A value beside others of its shape: constants and stretched axes as they are."""
        op = self.made.get(v)
        if isinstance(op, shape.Full):
            return tiles.literal(op)
        if isinstance(op, shape.Broadcast):
            return tiles.stretched(op, self.loose(op.a) if op.a in self.made else self.text[op.a])
        return self.text[v]

    def block(self, block: Block) -> None:
        """Print the ops of a block."""
        self.last |= set({op.loc and op.loc.line: op for op in block.ops if op.results}.values())
        for op in block.ops:
            try:
                self.op(op)
            except TileError as e:
                raise e.at(op.loc) from None

    def op(self, op: Op) -> None:
        """Print one op."""
        match op:
            case control.For():
                self._for(op)
            case control.Count():
                self._count(op)
            case control.While():
                self._while(op)
            case control.If():
                self._if(op)
            case mem.Store():
                self._store(op)
            case mem.Whole():
                self.text[op.result] = self.p.axis(op.dim).offsets
            case packed.Part() | packed.Groups():
                self.made[op.result] = op
                self.text[op.result] = self.spans.part(op)
            case shape.Full() | shape.Broadcast():
                self.made[op.result] = op
            case _:
                self._value(op)

    def _value(self, op: Op) -> None:
        v = op.result
        self.made[v] = op
        text = self._expression(op)
        atom = text if tiles.is_atom(text) else f"({text})"
        plain = Trait.ELEMENTWISE in op.traits or isinstance(op, (shape.Reshape, shape.Transpose))
        if v not in self.wanted and plain and self.uses[v] <= 1 and len(text) < LONGEST:
            self.text[v] = atom
            return
        self.p.at(op)
        self.text[v] = self.wanted.get(v) or self.p.name_for(op, op in self.last)
        self.p.line(f"{self.text[v]} = {bare(text)}")

    def _expression(self, op: Op) -> str:
        p = self.p
        match op:
            case mem.Load():
                assert isinstance(op.mem.type, Memory)
                found, rank = self._places(op.mem.type, op.indices)
                return memory.load(p, self.text[op.mem], op.mem.type, found, rank)
            case packed.Unpack():
                return self._field(op)
            case reduce.Dot():
                return self._dot(op)
            case reduce.Reduction():
                return tiles.reduction(p, op, self.operand(op.a))
            case _ if Trait.ELEMENTWISE in op.traits:
                return self._elementwise(op)
            case shape.Start():
                return self.spans.starts[op.span]
            case shape.Coordinates():
                return self.text[op.span]
            case _:
                return tiles.emit(p, op, [self.operand(v) for v in op.operands])

    def _positive(self, op: arith.FloorDiv | arith.Mod) -> bool:
        """Whether coordinates are divided by a number above 0."""
        a, b = self.made.get(op.a), self.made.get(op.b)
        whole = isinstance(a, (shape.Start, shape.Coordinates))
        return whole and isinstance(b, shape.Full) and b.value > 0

    def _field(self, op: packed.Unpack) -> str:
        """A field of words by plain arithmetic; casts of it are written by `Words`."""
        load = self.made[op.words]
        assert isinstance(load, mem.Load)
        groups = self.made[load.indices[-1]]
        assert isinstance(groups, packed.Groups)
        self.words.read(load, op.codes, groups, self.spans.steps[groups.span])
        shifted = f"({self.text[op.words]} >> {op.field * op.codes.bits})"
        return memory.signed(op.codes, f"({shifted} & {(1 << op.codes.bits) - 1})")

    def _elementwise(self, op: Op) -> str:
        """Operands as they are, but one of them whole, so that the result is."""
        args = [self.loose(v) for v in op.operands]
        if isinstance(op, arith.FloorDiv | arith.Mod) and self._positive(op):
            sign = "//" if isinstance(op, arith.FloorDiv) else "%"
            return f"{self.loose(op.a)} {sign} {self.loose(op.b)}"
        inner = self.made.get(op.operands[0])
        if isinstance(op, pointwise.Cast) and isinstance(inner, packed.Unpack):
            found = self.words.unpacked(self.p, inner, op.dtype, self.text[inner.words])
            if found is not None:
                return found
        whole = [v for v in op.operands
                 if not isinstance(self.made.get(v), (shape.Full, shape.Broadcast))]  # fmt: skip
        if not whole or isinstance(op, pointwise.Cast | pointwise.Bitcast):
            args[0] = self.operand(op.operands[0])
        return pointwise.emit(op, args)

    def _dot(self, op: reduce.Dot) -> str:
        """Padding along k must be 0 in both operands: only loads are sure to have it so."""
        sides: list[str] = []
        for v, axis in ((op.a, 1), (op.b, 0)):
            text = self.operand(v)
            mask = self.p.axis(_tile(v).shape[axis]).mask
            if mask and not self._zero_outside(v):
                text = f"tl.where({mask}[{'None, :' if axis else ':, None'}], {text}, 0)"
            sides.append(text)
        common = tiles.common(op)
        sides = [s if _tile(v).dtype == common else f"{s}.to({dtype_of(common)})"
                 for s, v in zip(sides, (op.a, op.b), strict=True)]  # fmt: skip
        exact = ', input_precision="ieee"' if common.is_float and common.bits == 32 else ""
        acc = self.operand(op.acc)
        if op.scale is None and op.row_scale is None:
            kept = "" if acc == tiles.ZERO else f", {acc}"
            return f"tl.dot({sides[0]}, {sides[1]}{kept}{exact})"
        text = f"{acc} + tl.dot({sides[0]}, {sides[1]}{exact})"
        for scale, place in ((op.scale, "None, :"), (op.row_scale, ":, None")):
            text += f" * {self.operand(scale)}[{place}]" if scale is not None else ""
        return text

    def _zero_outside(self, v: Value) -> bool:
        op = self.made.get(v)
        if isinstance(op, (shape.Transpose, pointwise.Cast)):
            return self._zero_outside(op.a)
        return isinstance(op, mem.Load)

    def _store(self, op: mem.Store) -> None:
        assert isinstance(op.mem.type, Memory)
        if op.mem.type.dtype.bits < 8 and op.mem.type.dtype.is_integer:
            raise TileError(f"triton: no code for stores of {op.mem.type.dtype}")
        found, rank = self._places(op.mem.type, op.indices)
        value = self.operand(op.value)
        self.p.at(op)
        self.p.line(memory.store(self.text[op.mem], op.mem.type, found, rank, bare(value)))

    def _places(self, t: Memory, indices: tuple[Value, ...]) -> tuple[list[memory.Place], int]:
        texts = [self.operand(i) for i in indices]
        sure = [self._inside(v, d) for v, d in zip(indices, t.shape, strict=True)]
        return memory.places(self.p, indices, texts, t.shape, sure)

    def _inside(self, v: Value, dim: Extent) -> bool:
        """Whether an index is a coordinate of a span, or the number of its group."""
        op, by = self.made.get(v), 1
        if isinstance(op, arith.FloorDiv) and isinstance(self.made.get(op.b), shape.Full):
            by = int(self.made[op.b].attributes["value"])
            op = self.made.get(op.a)
        if not isinstance(op, (shape.Start, shape.Coordinates)):
            return False
        assert isinstance(op.span.type, Span)
        return ceil_div(op.span.type.dim, by) == dim

    # -- spans --

    def grid(self, op: control.Grid) -> None:
        """One program for each tile, the last dimension fastest."""
        p = self.p
        if len(op.dims) > 1:
            p.line("pid = tl.program_id(0)")
        for i, (v, size, dim, tile) in reversed(list(enumerate(
            zip(op.body.params, op.sizes, op.dims, op.tiles, strict=True)
        ))):  # fmt: skip
            program = "tl.program_id(0)" if len(op.dims) == 1 else "pid"
            count = f"tl.cdiv({dim}, {tile})"
            start = f"pid % {count} * {tile}" if i else f"{program} * {tile}"
            name = p.fresh(f"start_{size}")
            p.line(f"{name} = {start}")
            self.text[v] = self.spans.tile(v, size, dim, tile, name)
            if i:
                p.line(f"pid = pid // {count}")
        self.block(op.body)

    # -- regions --

    def _carry(self, op: Op, init: tuple[Value, ...], params: tuple[Value, ...]) -> list[str]:
        names: list[str] = []
        for v, param in zip(init, params, strict=True):
            self.p.at(self.made.get(v, op))
            names.append(self.p.name_for(self.made.get(v, op), v in self.made))
            self.p.line(f"{names[-1]} = {self.operand(v)}")
            self.text[param] = names[-1]
        return names

    def _repeat(self, body: Block, params: tuple[Value, ...], names: list[str]) -> None:
        """A loop's body, whose results become the carried values."""
        for result, param, name in zip(body.results, params, names, strict=True):
            if _last_reader(body, result, param):
                self.wanted[result] = name
        start = len(self.p.lines)
        self.block(body)
        changed = [(n, self.operand(v)) for n, v in zip(names, body.results, strict=True)
                   if self.operand(v) != n]  # fmt: skip
        if changed:
            left, right = (", ".join(side) for side in zip(*changed, strict=True))
            self.p.line(f"{left} = {right}")
        if len(self.p.lines) == start:
            self.p.line("pass")

    def _for(self, op: control.For) -> None:
        p = self.p
        names = self._carry(op, op.init, op.body.params[1:])
        self.p.at(op)
        start = p.fresh(f"start_{op.size}")
        stop = str(op.dim)
        if op.stop is not None:
            stop = f"tl.minimum({self.operand(op.stop)}, {op.dim})"
        first = "0" if op.first is None else f"tl.maximum({self.operand(op.first)}, 0) * {op.tile}"
        p.line(f"for {start} in range({first}, {stop}, {op.tile}):")
        p.depth += 1
        span, dim = op.body.params[0], op.dim if op.stop is None else Sym(stop)
        self.text[span] = self.spans.tile(span, op.size, dim, op.tile, start)
        self._repeat(op.body, op.body.params[1:], names)
        p.depth -= 1
        self._end(op, names)

    def _end(self, op: Op, names: list[str]) -> None:
        for v, name in zip(op.results, names, strict=True):
            self.text[v] = name

    def _count(self, op: control.Count) -> None:
        p = self.p
        names = self._carry(op, op.init, op.body.params[1:])
        self.p.at(op)
        i = self.text[op.body.params[0]] = p.fresh("i")
        bounds = ", ".join(self.loose(v) for v in (op.start, op.stop, op.step))
        p.line(f"for {i} in range({bounds}):")
        p.depth += 1
        self._repeat(op.body, op.body.params[1:], names)
        p.depth -= 1
        self._end(op, names)

    def _while(self, op: control.While) -> None:
        p = self.p
        names = self._carry(op, op.init, op.body.params)
        for v, name in zip(op.test.params, names, strict=True):
            self.text[v] = name
        self.block(op.test)
        going = p.fresh("going")
        p.line(f"{going} = {self.operand(op.test.results[0])}")
        p.line(f"while {going}:")
        p.depth += 1
        self._repeat(op.body, op.body.params, names)
        self.block(op.test)
        p.line(f"{going} = {self.operand(op.test.results[0])}")
        p.depth -= 1
        self._end(op, names)

    def _if(self, op: control.If) -> None:
        p = self.p
        names = [p.name_for(op, True) for _ in op.results]
        condition = self.operand(op.condition)
        for word, block in ((f"if {condition}:", op.then), ("else:", op.otherwise)):
            if word == "else:" and not block.ops and not names:
                continue
            p.line(word)
            p.depth += 1
            self.block(block)
            for name, v in zip(names, block.results, strict=True):
                p.line(f"{name} = {self.operand(v)}")
            if not block.ops and not names:
                p.line("pass")
            p.depth -= 1
        self._end(op, names)


def _last_reader(body: Block, result: Value, param: Value) -> bool:
    """Whether nothing in a body reads a carried value after the op that makes its next value.

    What is made from it may be written where it is used, so a use of that is a use of it.
    """
    made = [i for i, op in enumerate(body.ops) if result in op.results and not op.blocks]
    if not made:
        return False
    old = {param}
    for op in body.ops[: made[0]]:
        old.update(op.results if old & set(op.operands) else ())
    later = Block((), body.ops[made[0] + 1 :])
    read = {v for op in later.walk() for v in op.operands}
    read |= {v for op in later.walk() for b in op.blocks for v in b.results}
    return not old & (read | {r for r in body.results if r is not result})


def _tile(v: Value) -> Tile:
    assert isinstance(v.type, Tile)
    return v.type
