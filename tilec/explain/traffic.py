"""Bytes that kernels read and write, counted in the IR before tile sizes are chosen.

A kernel reads an operand in passes: it makes one for each loop over the operand's elements. What is
read again for each tile of another dimension is counted once, as if caches kept it: `again` names
these dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from tilec.ir.core import Block, Func, Op, Value
from tilec.ir.extent import Extent, Sym, ceil_div, number
from tilec.ir.ops import memory, shape
from tilec.ir.ops.control import Count, For, Grid
from tilec.ir.types import Memory, Span, Tile

VIEWS = (
    shape.Broadcast, shape.Reshape, shape.Transpose, shape.Slice, shape.Full, shape.Iota,
    shape.Coordinates, shape.Size, shape.Start, memory.Whole,
)  # fmt: skip
PLAIN = (*VIEWS, memory.Load)  # what is done as an operand is read


@dataclass(frozen=True)
class Access:
    """What a kernel reads of a tensor, or writes to it: `bytes` in all, of a tensor of `size`."""

    tensor: str
    bytes: int
    size: int
    again: tuple[str, ...] = ()

    @property
    def passes(self) -> float:
        """How often each byte of the tensor is met."""
        return self.bytes / self.size if self.size else 0.0

    @property
    def compulsory(self) -> int:
        """The bytes that no kernel can do without: each is met once."""
        return min(self.bytes, self.size)


@dataclass(frozen=True)
class Kernel:
    """A kernel: its name, the ops in it, the lines of the user's file, and its accesses."""

    name: str
    ops: tuple[str, ...]
    lines: tuple[int, ...]
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]

    @property
    def bytes(self) -> int:
        """All that it reads and writes."""
        return sum(a.bytes for a in (*self.reads, *self.writes))


def kernels(func: Func) -> dict[Op, Kernel]:
    """The kernels of a function whose dimensions are numbers, by what stands for them: its grids,
    and each op outside of them as a kernel that reads its operands and writes its result."""
    made = {v: op for op in func.body.ops for v in op.results}
    found: dict[Op, Kernel] = {}
    for op in func.body.ops:
        if isinstance(op, Grid):
            found[op] = _of_grid(op, len(found))
        elif not isinstance(op, PLAIN) and _whole(op):
            found[op] = _of_op(op, made, len(found))
    return found


def _whole(op: Op) -> bool:
    """Whether an op has tiles that are no scalars."""
    return any(isinstance(v.type, Tile) and v.type.rank for v in (*op.operands, *op.results))


def compulsory(func: Func) -> int:
    """The bytes of the tensors that a function is given and touches, each once: what one kernel
    that keeps everything else to itself would move."""
    given = {p for p in func.params if "." not in p.hint}
    touched = {v for op in func.walk() for v in op.operands if v in given}
    whole = {p: size_of(p) for p in touched if isinstance(p.type, Memory)}
    gathered: dict[Value, int] = {}
    for op in func.body.ops:
        if isinstance(op, memory.Load) and op.mem in whole:
            t = op.result.type
            part = prod(map(_number, t.shape)) if isinstance(t, Tile) else 0
            gathered[op.mem] = gathered.get(op.mem, 0) + _bytes(op.mem, part)
        else:
            for inner in (op, *(x for b in op.blocks for x in b.walk())):
                for v in inner.operands:
                    if v in whole:
                        gathered[v] = whole[v]
    return sum(min(n, gathered.get(p, n)) for p, n in whole.items())


def size_of(v: Value) -> int:
    """The bytes of a tensor, or of a tile in memory."""
    t = v.type
    if isinstance(t, Memory):
        return _bytes(v, prod(map(_number, t.shape)))
    if isinstance(t, Tile):
        return prod(map(_number, t.shape)) * t.dtype.numpy.itemsize
    return 0


def _number(e: Extent) -> int:
    return number(e, {})


def _bytes(mem: Value, elements: int) -> int:
    """The bytes of so many elements of a tensor in its format."""
    t = mem.type
    assert isinstance(t, Memory)
    known = tuple(map(_number, t.shape))
    return round(t.format.bits(known) * elements / max(prod(known), 1) / 8)


def _of_op(op: Op, made: Mapping[Value, Op], i: int) -> Kernel:
    """An op outside of grids."""
    reads: dict[str, Access] = {}
    for v in op.operands:
        base, source = _base(v, made)
        if isinstance(source, memory.Load):
            reads[source.mem.hint] = Access(source.mem.hint, size_of(base), size_of(source.mem))
        elif source is not None and not isinstance(source, VIEWS):
            name = f"{source.name} at {_line(source)}"
            reads[name] = Access(name, size_of(base), size_of(base))
    if isinstance(op, memory.Write):
        writes = (Access(op.mem.hint, size_of(op.value), size_of(op.mem)),)
    else:
        writes = tuple(Access("result", size_of(v), size_of(v)) for v in op.results)
    return Kernel(f"{op.name}{i}", (op.name,), _lines([op]), tuple(reads.values()), writes)


def _line(op: Op) -> str:
    return ", ".join(f"line {n}" for n in _lines([op])) or "no line"


def _lines(ops: Iterable[Op]) -> tuple[int, ...]:
    """The lines of the program that ops come from, through every function and kernel it calls."""
    return tuple(sorted({op.loc.user.line for op in ops if op.loc is not None}))


def _base(v: Value, made: Mapping[Value, Op]) -> tuple[Value, Op | None]:
    """What a view is of, and the op that gives it."""
    op = made.get(v)
    while isinstance(op, VIEWS) and op.operands:
        v = op.operands[0]
        op = made.get(v)
    return v, op


@dataclass(frozen=True, eq=False)
class _Loop:
    """A dimension of a grid, or a loop in order: how many tiles, of how many elements together.

    It is `open` in a grid, or where its tile is not chosen yet.
    """

    name: str
    extent: int
    trips: int
    open: bool


@dataclass
class _Accesses:
    """Adds up the accesses of a grid."""

    reads: dict[Value, Access] = field(default_factory=dict[Value, Access])
    writes: dict[Value, Access] = field(default_factory=dict[Value, Access])

    def block(self, block: Block, around: Sequence[_Loop], sizes: dict[str, _Loop],
              of: dict[Value, frozenset[_Loop]]) -> None:  # fmt: skip
        """Every access of a block, inside these loops; `of` has the loops a value depends on."""
        for op in block.ops:
            below = frozenset(x for v in op.operands for x in of.get(v, ()))
            for v in op.results:
                of[v] = below
            if isinstance(op, memory.Load):
                self.add(self.reads, op.mem, op.result, op.indices, around, sizes, of)
            elif isinstance(op, memory.Write):
                self.add(self.writes, op.mem, op.value, op.indices, around, sizes, of)
                if isinstance(op, memory.Accumulate):
                    self.add(self.reads, op.mem, op.value, op.indices, around, sizes, of)
            for inner in op.blocks:
                loop = _loop(op)
                if loop is not None and isinstance(op, For) and isinstance(op.size, Sym):
                    sizes[op.size.text] = loop
                if loop is not None:
                    of[inner.params[0]] = frozenset({loop})
                self.block(inner, [*around, loop] if loop else around, sizes, of)

    def add(self, to: dict[Value, Access], mem: Value, tile: Value, indices: Sequence[Value],
            around: Sequence[_Loop], sizes: Mapping[str, _Loop],
            of: Mapping[Value, frozenset[_Loop]]) -> None:  # fmt: skip
        """One more access of a tensor."""
        assert isinstance(tile.type, Tile)
        used: set[_Loop] = set()
        elements = 1
        for e in tile.type.shape:
            loop = sizes.get(e.text) if isinstance(e, Sym) else None
            elements *= loop.extent if loop else _number(e)
            used |= {loop} if loop else set()
        others = {x for v in indices for x in of.get(v, ())} - used
        elements *= prod(x.trips for x in others)
        used |= others
        elements *= prod(x.trips for x in around if x not in used and not x.open)
        again = tuple(x.name for x in around if x not in used and x.open and x.extent > 1)
        old = to.get(mem)
        more = _bytes(mem, elements) + (old.bytes if old else 0)
        both = tuple(dict.fromkeys((*(old.again if old else ()), *again)))
        to[mem] = Access(mem.hint, more, size_of(mem), both)


def _loop(op: Op) -> _Loop | None:
    """A loop in order as one of so many tiles; a count whose bounds are not known as one."""
    match op:
        case For():
            extent = _number(op.dim)
            trips = _number(ceil_div(extent, op.tile)) if op.tile else 1
            return _Loop(op.body.params[0].hint or str(op.size), extent, trips, op.tile is None)
        case Count():
            return _Loop(op.body.params[0].hint, 1, 1, False)
        case _:
            return None


def _of_grid(op: Grid, i: int) -> Kernel:
    sizes: dict[str, _Loop] = {}
    of: dict[Value, frozenset[_Loop]] = {}
    loops: list[_Loop] = []
    for p, dim, size, tile in zip(op.body.params, op.dims, op.sizes, op.tiles, strict=True):
        extent = _number(dim)
        loop = _Loop(p.hint or str(size), extent, _number(ceil_div(extent, tile or 1)), True)
        loops.append(loop)
        of[p] = frozenset({loop})
        if isinstance(size, Sym):
            sizes[size.text] = loop
    found = _Accesses()
    found.block(op.body, loops, sizes, of)
    names = tuple(dict.fromkeys(_named(op.body)))
    return Kernel(f"kernel{i}", names, _lines(op.body.walk()), tuple(found.reads.values()),
                  tuple(found.writes.values()))  # fmt: skip


def _named(block: Block) -> Iterator[str]:
    """The ops that compute something."""
    for op in block.walk():
        plain = isinstance(op, (*PLAIN, memory.Store))
        if not plain and not op.blocks and not all(isinstance(v.type, Span) for v in op.results):
            yield op.name
