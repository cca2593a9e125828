"""Ops in order, loops and branches: one walker prints a block."""

from __future__ import annotations

from collections.abc import Sequence

from tilec.codegen.triton import tiles
from tilec.codegen.triton.names import assigned_by, name_of
from tilec.codegen.triton.printer import bare, dtype_of
from tilec.codegen.triton.ranges import whole_steps
from tilec.codegen.triton.spans import short
from tilec.codegen.triton.values import Values
from tilec.ir.core import Block, Op, Trait, Value
from tilec.ir.dtype import f32, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym
from tilec.ir.ops import control, packed, reduce, scan, shape
from tilec.ir.ops import memory as mem
from tilec.ir.ops.scaled import ScaledDot


def handles(cls: type[Op]) -> str:
    """Where an op is printed, or the reason why it is not."""
    if issubclass(cls, (packed.Part, packed.Groups)):
        return "codegen/triton/spans.py"
    if cls is packed.Unpack:
        return "codegen/triton/unpack.py"
    if cls is reduce.Dot:
        return "codegen/triton/products.py"
    if cls is ScaledDot:
        return "codegen/triton/scaled.py"
    if Trait.ELEMENTWISE in cls.traits:
        return "codegen/triton/pointwise.py"
    if issubclass(cls, (mem.Load, mem.Write)):
        return "codegen/triton/memory.py"
    if issubclass(cls, scan.Scan):
        return "codegen/triton/scan.py"
    if issubclass(cls, (shape.Start, shape.Coordinates)):
        return "codegen/triton/values.py"
    inside = cls.fields("block") or issubclass(cls, mem.Whole | mem.Nth)
    return f"codegen/triton/{'control' if inside else 'tiles'}.py"


class Walker(Values):
    """Prints the ops of blocks."""

    def block(self, block: Block) -> None:
        """Print the ops of a block."""
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
            case mem.Write():
                self.write(op)
            case mem.Whole():
                self.text[op.result] = self.spans.whole(op)
            case mem.Nth():
                self._nth(op)
            case packed.Part() | packed.Groups():
                self.made[op.result] = op
                self.text[op.result] = self.spans.part(op)
            case shape.Full() | shape.Broadcast():
                self.made[op.result] = op
            case _:
                self.value(op)

    # -- spans --

    def grid(self, op: control.Grid, before: Sequence[Op]) -> None:
        """A program's tiles, the ops before the grid, and what is done with the tiles."""
        for v, offsets in zip(op.body.params, self.spans.grid(op), strict=True):
            self.text[v] = offsets
        for outer in before:
            self.op(outer)
        self.block(op.body)

    def _nth(self, op: mem.Nth) -> None:
        p = self.p
        p.at(op)
        number = self.text[op.number]
        name = p.fresh(f"start_{short(op.result)}")
        p.line(f"{name} = {number if op.tile == 1 else f'{number} * {op.tile}'}")
        self.text[op.result] = self.spans.tile(op.result, op.dim, op.tile, name)

    # -- regions --

    def _carry(self, op: Op, init: tuple[Value, ...], params: tuple[Value, ...]) -> list[str]:
        names: list[str] = []
        for v, param in zip(init, params, strict=True):
            self.p.at(self.made.get(v, op))
            hint = param.hint if param.hint.isidentifier() else ""
            names.append(self.p.fresh(hint or name_of(self.made.get(v, op))))
            self.p.line(f"{names[-1]} = {self._initial(v)}")
            self.text[param] = names[-1]
        return names

    def _initial(self, v: Value) -> str:
        """What a loop starts from; of a number Triton would guess the type."""
        op = self.made.get(v)
        if isinstance(op, shape.Full) and not op.shape and op.dtype not in (f32, i32):
            return f"tl.full((), {tiles.literal(op)}, {dtype_of(op.dtype)})"
        return self.operand(v)

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
        p.at(op)
        span, stop = op.body.params[0], str(op.dim)
        step = self.spans.step(span, op.dim, op.tile)
        start = p.fresh(short(span) if step == "1" else f"start_{short(span)}")
        if op.stop is not None:
            stop = p.fresh(f"stop_{short(span)}")
            p.line(f"{stop} = {self._stop(op, op.stop)}")
        first = "0" if op.first is None else self._first(op.first)
        first = first if first == "0" or step == "1" else f"{first} * {op.tile}"
        bounds = [first, stop, step] if step != "1" else [first, stop]
        bounds = ", ".join(bounds if bounds != ["0", stop] else [stop])
        p.line(f"for {start} in range({bounds}):")
        p.depth += 1
        dim = op.dim if whole_steps(op, self.made) else Sym(stop)
        self.text[span] = self.spans.tile(span, dim, op.tile, start)
        self._repeat(op.body, op.body.params[1:], names)
        p.depth -= 1
        self._end(op, names)

    def _stop(self, op: control.For, v: Value) -> str:
        """Where a loop stops, at the end of its dimension at last."""
        sure = isinstance(op.dim, int) and self.ranges[v][1] <= op.dim
        return bare(self.operand(v)) if sure else f"tl.minimum({bare(self.operand(v))}, {op.dim})"

    def _first(self, v: Value) -> str:
        """The number of the tile that a loop begins with, no less than 0."""
        text = self.operand(v)
        return text if self.ranges[v][0] >= 0 else f"tl.maximum({bare(text)}, 0)"

    def _end(self, op: Op, names: list[str]) -> None:
        for v, name in zip(op.results, names, strict=True):
            self.text[v] = name

    def _count(self, op: control.Count) -> None:
        p = self.p
        names = self._carry(op, op.init, op.body.params[1:])
        self.p.at(op)
        i = self.text[op.body.params[0]] = p.fresh(op.body.params[0].hint or "i")
        bounds = [self.loose(v) for v in (op.start, op.stop, op.step)]
        bounds = bounds[:2] if bounds[2] == "1" else bounds
        bounds = bounds[1:] if bounds[0] == "0" and len(bounds) == 2 else bounds
        p.line(f"for {i} in range({', '.join(bounds)}):")
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
        made = {v: o for o in op.then.ops for v in o.results}
        names = [p.fresh((v in made and assigned_by(made[v])) or name_of(op))
                 for v in op.then.results]  # fmt: skip
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
