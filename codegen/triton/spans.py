"""Spans: the coordinates of a tile along a dimension, where they start, and their mask."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tilec.codegen.triton import scaled
from tilec.codegen.triton.memory import number
from tilec.codegen.triton.printer import Axis, Printer, bare, block_of
from tilec.ir.core import Func, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, ceil_div, names
from tilec.ir.ops.control import For, Grid
from tilec.ir.ops.memory import Whole
from tilec.ir.ops.packed import Groups, Part
from tilec.ir.ops.scaled import taken
from tilec.ir.ops.shape import Start
from tilec.ir.types import Span, Tile

_NUMBERED = re.compile(r"_\d+$")


class Spans:
    """The spans of a kernel: what holds their first coordinates, and the steps of their loops.

    A tile's size is a constant of the kernel, `BLOCK_M`, where the text means the same for every
    power of two. The mask of a size that is a name is the printer's, by that name. A number is the
    size of many: their masks are here, for accesses; what else must leave elements out does so by
    itself (`pad`).
    """

    def __init__(self, p: Printer, func: Func) -> None:
        self.p = p
        self.counts: tuple[str, ...] = ()  # of tiles of a grid, as a launcher says it
        self.starts: dict[Value, str] = {}
        self.steps: dict[Value, int] = {}
        self.extents: dict[str, str] = {}  # of tiles, by the names of sizes
        self.masks: dict[Value, str] = {}
        self.wanted = set(_wanted(func))
        self.stored = taken(func)
        self.bytes: dict[Value, tuple[str, str]] = {}  # of two codes each: coordinates and mask
        self.grouped = {op.indices[-1] for op in self.stored}
        self.paired = {op.indices[-1] for op in self.stored if scaled.halved(op)}
        self.fixed = {*_fixed(func), *self.paired}
        self.whole_dims = {str(op.dim) for op in func.walk() if isinstance(op, Whole)}

    def mask(self, v: Value) -> str:
        """The name of the mask of a span, if it needs one."""
        assert isinstance(v.type, Span)
        return self.masks[v] if v in self.masks else self.p.axis(v.type.size).mask

    def whole(self, op: Whole) -> str:
        """The coordinates of all of a dimension, or of as many as the next power of two."""
        size = op.dim if op.size is None else op.size
        self.starts[op.result] = str(op.start or 0)
        self.steps[op.result] = size if isinstance(size, int) else 1
        if op.start is None and size == op.dim and (found := self.p.axis(op.dim).offsets):
            return found
        assert isinstance(size, int)
        name, start = self.p.fresh("offs"), f"{op.start} + " if op.start else ""
        self.p.line(f"{name} = {start}tl.arange(0, {block_of(size)})")
        first = op.start or 0
        most = min(op.dim, first + size) if isinstance(op.dim, int) else op.dim
        fits = isinstance(most, int) and first + block_of(size) <= most
        inside = "" if fits else f"({name} < {most})"
        self._masked(op.result, size, str(block_of(size)), [inside] * bool(inside), "mask")
        return name

    def part(self, op: Part | Groups) -> str:
        """The coordinates of some of a span, of a size that is a power of two."""
        if isinstance(op, Groups) and op.result in self.grouped:
            name, block, masks = self._coarse(op.span, op.by, "group")
            self._masked(op.result, op.size, str(block), masks, f"mask_{short(op.span)}_group")
            return name
        start = self.starts[op.span]
        if isinstance(op, Groups):
            start = f"{start} // {op.by}"
            start = f"{op.row * op.pitch} + {start}" if op.row else start
        elif op.start:
            start = f"{start} + {op.start}"
        name = self.p.fresh("offs_word" if isinstance(op, Groups) else f"offs_{short(op.span)}")
        self.p.line(f"{name} = {start} + tl.arange(0, {op.size})")
        self.starts[op.result] = f"({start})" if isinstance(op, Part) and op.start else start
        self.p.axes[str(op.size)] = Axis(str(op.size), "")
        return name

    def grid(self, op: Grid) -> list[str]:
        """Lines that make the coordinates of a program's tiles, the last dimension fastest."""
        p, program = self.p, "tl.program_id(0)"
        axes = list(zip(op.body.params, op.dims, op.tiles, strict=True))
        steps = [self.step(*axis) for axis in axes]
        if len(axes) > 1:
            p.line(f"pid = {program}")
            program = "pid"
        many = [self._count(v, d, step) for (v, d, _), step in zip(axes, steps, strict=True)]
        starts: list[str] = []
        for i, axis in enumerate(axes):
            after = " * ".join(many[i + 1 :])
            place = f"({program} // ({after}))" if after else program
            place = f"{place} % {many[i]}" if i else place
            starts.append(self._start(axis[0], steps[i], bare(place)))
        self.counts = tuple(counted(d, step) for (_, d, _), step in zip(axes, steps, strict=True))
        return [self.tile(*axis, start) for axis, start in zip(axes, starts, strict=True)]

    def _count(self, v: Value, dim: Extent, step: str) -> str:
        """How many tiles a dimension has, by a name unless it is one or a number."""
        if step == "1" or (isinstance(dim, int) and step.isdecimal()):
            return str(ceil_div(dim, int(step)))
        name = self.p.fresh(f"num_{short(v)}")
        self.p.line(f"{name} = tl.cdiv({dim}, {step})")
        return name

    def _start(self, v: Value, step: str, place: str) -> str:
        """The first coordinate of a program's tile."""
        p, name = self.p, short(v)
        if step == "1":
            first = p.fresh(name)
            p.line(f"{first} = {place}")
            p.tensors.add(first)
            return first
        if place != "tl.program_id(0)":
            p.line(f"{(found := p.fresh(f'pid_{name}'))} = {place}")
            place = found
        if v not in self.fixed:
            return f"{place} * {step}"
        first = p.fresh(f"start_{name}")
        p.line(f"{first} = {place} * {step}")
        return first

    def step(self, v: Value, dim: Extent, tile: int | None) -> str:
        """How far it is from one tile of a span to the next: a number, or the name of a constant"""
        block = self.block(v, dim, tile)
        return block if block in self.p.blocks else str(tile)

    def block(self, v: Value, dim: Extent, tile: int | None) -> str:
        """How many elements the tiles of a span have, the padding with them: a number, or the name
        of a constant."""
        assert isinstance(v.type, Span)
        size, p = v.type.size, self.p
        if tile is None:
            raise TileError(f"triton: the tile size `{size}` is not chosen",
                            hint="run the pass `tile` first")  # fmt: skip
        number = size if isinstance(size, int) else block_of(tile, p.large.get(str(size), 1))
        if tile == 1 or number != tile or isinstance(size, int) or v in self.fixed:
            return str(number)
        name = short(v).upper()
        name = f"TILE_{name}" if name in self.whole_dims else f"BLOCK_{name}"
        if p.blocks.get(name) != number:
            name = p.fresh(name)
            p.blocks[name] = number
        if isinstance(dim, int) and dim % tile == 0:
            p.require(f"{dim} % {name} == 0")
        return name

    def tile(self, v: Value, dim: Extent, tile: int | None, start: str) -> str:
        """Lines that make the coordinates of a span from where it starts, and their mask."""
        assert isinstance(v.type, Span)
        size, block = v.type.size, self.block(v, dim, tile)
        self.starts[v], self.steps[v] = start, tile or 1
        inside = isinstance(dim, int) and tile and dim % tile == 0
        step = self.step(v, dim, tile)
        self.extents[str(size)] = step if inside else f"tl.minimum({step}, {dim} - {start})"
        if v not in self.wanted and str(size) not in self.wanted:
            return ""
        p = self.p
        if v in self.paired:
            name, _, masks = self._coarse(v, 2, "pair")
            self.bytes[v] = name, self._mask(masks, f"mask_{short(v)}_pair")
        offsets = p.fresh(f"offs_{short(v)}")
        p.line(f"{offsets} = {start} + tl.arange(0, {block})")
        whole = block in p.blocks or block == str(tile)
        masks = [] if whole else [f"(tl.arange(0, {block}) < {tile})"]
        if not inside:
            masks.append(f"({offsets} < {dim})")
        self._masked(v, size, block, masks, f"mask_{short(v)}")
        return offsets

    def _coarse(self, v: Value, by: int, what: str) -> tuple[str, int, list[str]]:
        """A line that makes the numbers of groups of coordinates, how many there are in a block,
        and what masks them."""
        assert isinstance(v.type, Span)
        dim, step = v.type.dim, self.steps[v]
        if step % by and not (isinstance(dim, int) and dim <= step):
            raise TileError(f"triton: a step of {step} along {short(v)} has no whole groups of "
                            f"{by}", hint="a step that they divide")  # fmt: skip
        block = int(self.block(v, dim, step)) // by
        name = self.p.fresh(f"offs_{short(v)}_{what}")
        self.p.line(f"{name} = {self.starts[v]} // {by} + tl.arange(0, {block})")
        masks = [] if block * by == step else [f"(tl.arange(0, {block}) < {ceil_div(step, by)})"]
        if not (isinstance(dim, int) and dim % step == 0):
            masks.append(f"({by} * {name} < {dim})")
        return name, block, masks

    def _masked(self, v: Value, size: Extent, block: str, masks: list[str], name: str) -> None:
        """A line that makes the mask of a span."""
        mask = self.masks[v] = self._mask(masks, name)
        self.p.axes[str(size)] = Axis(block, "" if isinstance(size, int) else mask)

    def _mask(self, masks: list[str], name: str) -> str:
        """A line that makes a mask, if there is anything to leave out, and its name."""
        mask = self.p.fresh(name) if masks else ""
        if masks:
            self.p.line(f"{mask} = {bare(' & '.join(masks))}")
        return mask


def short(v: Value) -> str:
    """What a span is called in names: its size symbol without a number, or the value's hint."""
    assert isinstance(v.type, Span)
    size = v.type.size
    return _NUMBERED.sub("", str(size)) if isinstance(size, Sym) else v.hint or "n"


def counted(dim: Extent, step: str) -> str:
    """How many tiles a dimension has, as a launcher computes it."""
    if isinstance(dim, int) and step.isdecimal():
        return str(ceil_div(dim, int(step)))
    text = number(dim, "triton.cdiv")
    given = step if step.isdecimal() else f'meta["{step}"]'
    return text if step == "1" else f"triton.cdiv({text}, {given})"


def _fixed(func: Func) -> Iterator[Value]:
    """The spans in whose steps the code beside them has a part: their size is no constant."""
    for op in func.walk():
        match op:
            case Start() | Part() | Groups():
                yield op.span
            case For() if op.first is not None:
                yield op.body.params[0]
            case _:
                pass


def _wanted(func: Func) -> Iterator[Value | str]:
    """The spans whose coordinates a function reads, and the names of sizes that its tiles have."""
    for op in func.walk():
        if not isinstance(op, Start | Part | Groups):
            yield from (v for v in op.operands if isinstance(v.type, Span))
        for v in (*op.results, *(p for b in op.blocks for p in b.params)):
            if isinstance(v.type, Tile):
                yield from (n for d in v.type.shape for n in names(d))
