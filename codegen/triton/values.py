"""What each value of a kernel is called, and the expressions of those that one op makes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from tilec.codegen.triton import memory, pointwise, products, scaled, scan, tiles
from tilec.codegen.triton.descriptors import Descriptors
from tilec.codegen.triton.names import lines_of, name_of
from tilec.codegen.triton.printer import Printer, bare
from tilec.codegen.triton.ranges import Ranges
from tilec.codegen.triton.spans import Spans, short
from tilec.codegen.triton.unpack import Words
from tilec.ir.core import Block, Func, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, ceil_div
from tilec.ir.ops import arith, packed, reduce, shape
from tilec.ir.ops import memory as mem
from tilec.ir.ops import scan as scans
from tilec.ir.ops.scaled import ScaledDot
from tilec.ir.types import Memory, Span, Tile

LONGEST = 60  # characters of an expression that is written where it is used
VIEW = re.compile(r"\w+(\[[:, None]+\])?")  # a name, or that with more axes: needs no other


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


class Values:
    """Prints what ops make; `text` is how each value is written where it is used.

    `names` are the parameters'; `oldest` is the processor that inline PTX is for.
    """

    def __init__(self, p: Printer, func: Func, names: Mapping[Value, str], oldest: int,
                 descriptors: bool) -> None:  # fmt: skip
        self.p, self.uses = p, _uses(func.body)
        for op in reversed(list(func.walk())):
            if isinstance(op, shape.Broadcast):  # is written wherever it is used
                self.uses[op.a] += self.uses[op.result] - 1
        self.text: dict[Value, str] = dict(names)
        self.made: dict[Value, Op] = {}
        self.origins: dict[Value, str] = {}
        self.wanted: dict[Value, str] = {}  # names that results must have
        self.lines = lines_of(func)
        p.quiet = self.lines.hoisted
        self.words, self.spans = Words(func, oldest), Spans(p, func)
        self.ranges = Ranges(self.made, self.spans.masks)
        p.taken |= {*names.values(), *p.dims(func)}
        p.large |= products.least(func) | scaled.least(func)
        self.boxes = Descriptors(func, p.large, descriptors)
        self.spans.fixed |= self.boxes.spans

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

    def value(self, op: Op) -> None:
        """Print an op with one result, unless it is to be written where it is used."""
        v = op.result
        self.made[v] = op
        self.origins[v] = self._origin(op)
        if isinstance(op, packed.Unpack):
            self._field(op)
            return
        text = self._expression(op)
        if isinstance(op, shape.Start | shape.Coordinates | shape.Size) and v not in self.wanted:
            self.text[v] = text if tiles.is_atom(text) else f"({text})"
            return
        atom = text if tiles.is_atom(text) else f"({text})"
        plain = Trait.ELEMENTWISE in op.traits or isinstance(op, (shape.Reshape, shape.Transpose))
        brief = (self.uses[v] <= 1 and len(text) < LONGEST) or VIEW.fullmatch(text)
        if v not in self.wanted and plain and brief:
            self.text[v] = atom
            return
        self.p.at(op)
        source = self.text.get(op.operands[0], "") if op.operands else ""
        source = self.p.bases.get(source, source)
        named = self.lines.named.get(op) or name_of(op, source, self.origins[v])
        name = self.wanted.get(v) or self.p.fresh(named)
        self.text[v] = name
        self.p.line(f"{name} = {bare(text)}")

    def _origin(self, op: Op) -> str:
        """The tensor, the span or the dimension that a value is made from, if it is only one."""
        match op:
            case mem.Load():
                return op.mem.hint.replace(".", "_")
            case shape.Start() | shape.Coordinates():
                part = self.made.get(op.span)
                return short(part.span if isinstance(part, packed.Part) else op.span)
            case shape.Size():
                return str(op.dim) if isinstance(op.dim, Sym) and op.dim.is_name else ""
            case _:
                of = [self._origin(o) if isinstance(o := self.made.get(v), shape.Broadcast)
                      else self.origins.get(v, "") for v in op.operands
                      if not isinstance(self.made.get(v), shape.Full)]  # fmt: skip
                return of[0] if len(set(of)) == 1 else ""

    def _expression(self, op: Op) -> str:
        p = self.p
        match op:
            case mem.Load():
                return self._load(op)
            case reduce.Dot() | ScaledDot():
                return self._product(op)
            case reduce.Reduction():
                return tiles.reduction(p, op, self.operand(op.a))
            case scans.Scan():
                return scan.emit(p, op, self.operand(op.a))
            case _ if Trait.ELEMENTWISE in op.traits:
                return self._elementwise(op)
            case shape.Start():
                return self.spans.starts[op.span]
            case shape.Size() if str(op.dim) in self.spans.extents:
                return self.spans.extents[str(op.dim)]
            case shape.Coordinates():
                return self.text[op.span]
            case _:
                return tiles.emit(p, op, [self.operand(v) for v in op.operands])

    def _product(self, op: reduce.Dot | ScaledDot) -> str:
        if isinstance(op, ScaledDot):
            return scaled.product(op, self.operand)
        return products.product(self.p, op, self.made, self.operand)

    def _load(self, op: mem.Load) -> str:
        """A tile in memory; what products take with scales is loaded as it lies."""
        assert isinstance(op.mem.type, Memory)
        self.p.at(op)
        if op in self.boxes.boxes:
            starts = [self.spans.starts.get(v) or bare(self.operand(v)) for v in op.indices]
            return self.boxes.load(self.p, op, self.text[op.mem], starts)
        found, rank = self.places(op.mem.type, op.indices)
        if op not in self.spans.stored:
            return memory.load(self.p, self.text[op.mem], op.mem.type, found, rank)
        if scaled.halved(op):
            text, mask = self.spans.bytes[op.indices[-1]]
            found[-1] = replace(found[-1], text=text, mask=(mask,) if mask else ())
        return memory.raw(self.p, self.text[op.mem], op.mem.type, found, rank)

    def _positive(self, op: arith.FloorDiv | arith.Mod) -> bool:
        """Whether no number below 0 is divided, by a number above 0."""
        return self.ranges[op.a][0] >= 0 and self.ranges[op.b][0] > 0

    def _field(self, op: packed.Unpack) -> None:
        """A field of words, by plain arithmetic if it is a whole number in one of them; casts to
        floats are written by `Words`."""
        for word in op.words:
            load = self.made[word]
            assert isinstance(load, mem.Load)
            groups = self.made[load.indices[-1]]
            assert isinstance(groups, packed.Groups)
            self.words.read(load, op.codes, groups, self.spans.steps[groups.span])
        if len(op.words) == 1 and op.codes.is_integer:
            shifted = f"({self.text[op.words[0]]} >> {op.field * op.codes.bits})"
            field = memory.signed(op.codes, f"({shifted} & {(1 << op.codes.bits) - 1})")
            self.text[op.result] = field if tiles.is_atom(field) else f"({field})"

    def _elementwise(self, op: Op) -> str:
        """Operands as they are, but one of them whole, so that the result is."""
        found = self._unpacked(op)
        if found is not None:
            return found
        args = [self.loose(v) for v in op.operands]
        if isinstance(op, arith.FloorDiv | arith.Mod) and self._positive(op):
            sign = "//" if isinstance(op, arith.FloorDiv) else "%"
            return f"{self.loose(op.a)} {sign} {self.loose(op.b)}"
        if not self._covers(op) or isinstance(op, pointwise.Cast | pointwise.Bitcast):
            args[0] = self.operand(op.operands[0])
        return pointwise.emit(op, args)

    def _unpacked(self, op: Op) -> str | None:
        """A field of words as floats, where the op is the cast of one, or takes from that what has
        been taken already."""
        if isinstance(op, arith.Sub) and op.a in self.words.less:
            return self.text[op.a]
        inner = self.made.get(op.operands[0])
        if isinstance(op, packed.Term) and not isinstance(inner, packed.Unpack):
            return pointwise.term(op, self.operand(op.a))
        if not isinstance(op, pointwise.Cast | packed.Term) or not isinstance(inner, packed.Unpack):
            return None
        found = self.words.unpacked(self.p, inner, op, [self.text[v] for v in inner.words])
        if found is None and inner.result not in self.text:
            raise TileError(f"triton: no way from words of {inner.codes} to {op.dtype}")
        return found

    def _covers(self, op: Op) -> bool:
        """Whether operands as they are give a whole tile: together they have all of its axes."""
        shape_ = _tile(op.result).shape
        found, loose = set[int](), (shape.Full, shape.Broadcast)
        for v in op.operands:
            maker = self.made.get(v)
            if isinstance(maker, shape.Broadcast) and not isinstance(self.made.get(maker.a), loose):
                own = _tile(maker.a).shape
                found |= {len(shape_) - i for i, d in enumerate(reversed(own), 1) if d != 1}
            elif not isinstance(maker, loose):
                return True
        return bool(found) and all(i in found or d == 1 for i, d in enumerate(shape_))

    def write(self, op: mem.Write) -> None:
        """Print a store, or a sum in memory."""
        assert isinstance(op.mem.type, Memory)
        if op.mem.type.dtype.bits < 8 and op.mem.type.dtype.is_integer:
            raise TileError(f"triton: no code for stores of {op.mem.type.dtype}")
        value = self.operand(op.value)
        self.p.at(op)
        found, rank = self.places(op.mem.type, op.indices)
        where = "" if op.mask is None else self.operand(op.mask)
        act = memory.store if isinstance(op, mem.Store) else memory.accumulate
        self.p.line(act(self.p, self.text[op.mem], op.mem.type, found, rank, bare(value), where))

    def places(self, t: Memory, indices: tuple[Value, ...]) -> tuple[list[memory.Place], int]:
        """Where each index of an access stands in the tile, and the tile's rank."""
        texts = [self.operand(i) for i in indices]
        sure = [self._inside(v, d) for v, d in zip(indices, t.shape, strict=True)]
        masks = [self.spans.mask(v) if isinstance(v.type, Span) else "" for v in indices]
        return memory.places(self.p, indices, texts, t.shape, sure, masks)

    def _inside(self, v: Value, dim: Extent) -> bool:
        """Whether an index is a coordinate of a span, or the number of its group."""
        low, high = self.ranges[v]
        if low >= 0 and isinstance(dim, int) and high < dim:
            return True
        op, by = self.made.get(v), 1
        if isinstance(op, arith.FloorDiv) and isinstance(self.made.get(op.b), shape.Full):
            by = int(self.made[op.b].attributes["value"])
            op = self.made.get(op.a)
        if not isinstance(op, (shape.Start, shape.Coordinates)):
            return False
        assert isinstance(op.span.type, Span)
        padded = isinstance(op.span.type.size, int) and self.spans.mask(op.span)
        return ceil_div(op.span.type.dim, by) == dim and not (
            padded and isinstance(op, shape.Coordinates))  # fmt: skip


def _tile(v: Value) -> Tile:
    assert isinstance(v.type, Tile)
    return v.type
