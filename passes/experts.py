"""Experts of several formats: a grid over experts and their rows becomes one for each format.

Where the expert of a task is found by a number, these grids are over all experts, and do nothing
but for that one. Elsewhere each load looks up which format its expert has.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from tilec.ir.composed import Experts
from tilec.ir.core import Block, Builder, Func, Op, Trait, Value, rebuild
from tilec.ir.dtype import boolean, i32, i64
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.ops import arith, control, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.remark import Remark
from tilec.ir.scaled import Scaled
from tilec.ir.types import Memory, Span, Tile
from tilec.passes.parts import tile
from tilec.passes.rows import Copy, loads

COLUMNS = 64  # rows of a weight that code for products takes together, at most


@dataclass(frozen=True)
class _Experts:
    """The parameters of one tensor: its places in the order of formats, and a matrix for each."""

    whole: Value
    order: Value
    place: Value
    parts: tuple[Value, ...]
    counts: tuple[int, ...]
    rows: int  # of an expert

    @property
    def starts(self) -> list[int]:
        """The place of the first expert of each part."""
        return [0, *accumulate(self.counts)]


def split_experts(func: Func, whole: Value) -> Func:
    """The function with a matrix for each format, and where experts are, in the place of a tensor
    of experts. Raises TileError where several experts are read at once."""
    experts = _parameters(whole)
    ops: list[Op] = []
    remarks: list[Remark] = []
    what = f"`{whole.hint}` is read element by element"
    missing = "one expert a task, known before its loops, and rows that are a dimension of the grid"
    for op in func.body.ops:
        copies = _copies(op, experts) if isinstance(op, control.Grid) else []
        ops += copies or [op]
        if not copies:
            remarks += [Remark("compose", what, o.loc, missing) for o in loads(op, whole)]
    body = rebuild(Block((), tuple(ops)), {}, lambda op, to, b: _picked(experts, op, to, b))
    own = [experts.order, experts.place, *experts.parts]
    params = [v for p in func.params for v in (own if p is whole else [p])]
    return func.replaced(Block(tuple(params), body.ops), *remarks)


def _parameters(whole: Value) -> _Experts:
    assert isinstance(whole.type, Memory)
    assert isinstance(whole.type.format, Experts)
    sizes = [d for d in whole.type.shape if isinstance(d, int)]
    parts = whole.type.format.split(whole.type.shape)
    if len(sizes) != 3:
        raise TileError(f"`{whole.hint}` has experts of several formats: expected numbers for its "
                        f"dimensions, not {whole.type}")  # fmt: skip
    index = Memory((sizes[0],), Dense(i32))
    mems = tuple(Value(Memory(size, p), f"{whole.hint}.{i}") for i, (p, size) in enumerate(parts))
    counts = tuple(int(str(size[0])) // sizes[1] if sizes[1] else 0 for _, size in parts)
    return _Experts(whole, Value(index, f"{whole.hint}.order"),
                    Value(index, f"{whole.hint}.place"), mems, counts, sizes[1])  # fmt: skip


# -- a grid for each format --


@dataclass(frozen=True)
class _Reads:
    """How a grid reads experts: all by one number, and by rows that are one of its dimensions.

    `own` is the grid's dimension of experts, where the number is the start of its tile. Else `ops`
    of the body give the number, and give it again in another grid.
    """

    grid: control.Grid
    number: Value
    rows: int
    own: int | None
    ops: tuple[Op, ...]


def _copies(grid: control.Grid, experts: _Experts) -> list[Op]:
    """The grids that stand for one, or none if it does not read experts so."""
    reads = _reads(grid, experts)
    if reads is None:
        return []
    found = [_copied(reads, experts, i) for i in range(len(experts.parts))]
    return found if reads.own is not None else [*found, _outside(reads, experts)]


def _reads(grid: control.Grid, experts: _Experts) -> _Reads | None:
    spans, body = grid.body.params, [*grid.body.walk()]
    found = {o.indices[:2] for o in loads(grid, experts.whole)}
    if len(found) != 1:
        return None
    ((number, row),) = found
    if row not in spans or not all(_by_rows(op, row) for op in body):
        return None
    n, made = spans.index(row), {v: op for op in body for v in op.results}
    start = made.get(number)
    span = start.span if isinstance(start, shape.Start) else None
    if span in spans and span is not row:
        e = spans.index(span)
        once = grid.tiles[e] == 1 and grid.dims[e] == sum(experts.counts)
        if once and all(isinstance(op, shape.Start) for op in body if span in op.operands):
            return _Reads(grid, number, n, e, ())
    ops = _needed(grid.body, number)
    if ops is None or not isinstance(number.type, Tile) or number.type.shape:
        return None
    changing = {v for op in body if Trait.WRITES in op.traits for v in op.operands
                if isinstance(v.type, Memory)}  # fmt: skip
    again = not any((changing | {row}) & {*op.operands} for op in ops)
    return _Reads(grid, number, n, None, ops) if again else None


def _by_rows(op: Op, row: Value) -> bool:
    """Whether an op uses the span of rows in a way that a copy can do without it."""
    if isinstance(op, memory.Load | memory.Write):
        gathers = any(not isinstance(i.type, Span) and tile(i).rank for i in op.indices)
        rows = op.indices.count(row)
        return rows == 0 or (rows == 1 and not gathers)
    return row not in op.operands or isinstance(op, shape.Start | shape.Coordinates)


def _needed(block: Block, v: Value) -> tuple[Op, ...] | None:
    """The ops of a block that make a value; None where it needs a loop, or is made inside one."""
    ops: list[Op] = []
    wanted = {v}
    for op in reversed(block.ops):
        if wanted & {*op.results}:
            if op.blocks:
                return None
            ops.insert(0, op)
            wanted |= {*op.operands}
    inside = {p for op in block.walk() for b in op.blocks for p in b.params}
    inside |= {r for op in block.walk() if op not in block.ops for r in op.results}
    return None if wanted & inside else tuple(ops)


def _copied(reads: _Reads, experts: _Experts, number: int) -> Op:
    """A grid over the rows of all experts of one format; a tile is rows of one of them."""
    grid, n, part = reads.grid, reads.rows, experts.parts[number]
    assert isinstance(part.type, Memory)
    copy = Copy(experts.whole, part, 2, number)
    spans = copy.spans(grid, {n: part.type.shape[0]})
    copy.own, b = spans[n], Builder(loc=grid.loc)
    first = b(shape.Start(copy.own))
    local = b(arith.FloorDiv(first, _number(b, experts.rows)))
    before = b(arith.Mul(local, _number(b, experts.rows)))
    every = b(shape.Coordinates(copy.own))
    row = grid.body.params[n]
    copy.known[shape.Start, row] = b(arith.Sub(first, before))
    copy.index[row] = copy.known[shape.Coordinates, row] = b(
        arith.Sub(every, b(shape.Broadcast(before, tile(every).shape)))
    )
    place = b(arith.Add(local, _number(b, experts.starts[number])))
    here = b(memory.Load(experts.order, (place,)))
    tiles = [*grid.tiles]
    tiles[n] = _divisor(experts.rows, grid.tiles[n] or COLUMNS)
    if reads.own is None:
        copy.ops(reads.ops, b)
        wanted = _wide(copy.to.get(reads.number, reads.number), b)
        _where(b(arith.Eq(wanted, _wide(here, b))), reads, copy, b)
    else:
        copy.known[shape.Start, grid.body.params[reads.own]] = here
        copy.sizes[str(grid.sizes[reads.own])] = 1
        copy.ops(grid.body.ops, b)
        del spans[reads.own], tiles[reads.own]
    return copy.grid(grid, spans, tuple(tiles), b)


def _outside(reads: _Reads, experts: _Experts) -> Op:
    """The grid once more for numbers that no expert has, which reads zeros."""
    copy, b = Copy(experts.whole, None, 2, len(experts.parts)), Builder(loc=reads.grid.loc)
    spans = copy.spans(reads.grid, {})
    copy.ops(reads.ops, b)
    wanted = _wide(copy.to.get(reads.number, reads.number), b)
    none = b(shape.Full((), False, boolean))
    _where(b(arith.Eq(_within(wanted, sum(experts.counts), b), none)), reads, copy, b)
    return copy.grid(reads.grid, spans, reads.grid.tiles, b)


def _where(condition: Value, reads: _Reads, copy: Copy, b: Builder) -> None:
    """What else the grid does, under a condition."""
    inner = Builder(loc=b.loc)
    copy.ops((op for op in reads.grid.body.ops if op not in reads.ops), inner)
    b.add(control.If(condition, Block((), tuple(inner.ops)), Block((), ())))


def _divisor(n: int, most: int) -> int:
    """The greatest divisor of n up to a bound."""
    return max(d for d in range(1, max(1, min(n, most)) + 1) if n % d == 0)


def _number(b: Builder, n: int) -> Value:
    return b(shape.Full((), n, i32))


# -- an expert of any number, row by row --


def _picked(experts: _Experts, op: Op, to: dict[Value, Value], b: Builder) -> bool:
    """Replace a load by one of the part that holds its expert."""
    if not isinstance(op, memory.Load) or op.mem is not experts.whole:
        return False
    expert, row, column = op.indices
    across = isinstance(row.type, Span) and not isinstance(column.type, Span) and tile(column).rank
    if isinstance(expert.type, Span) or tile(expert).rank or across:
        raise TileError(
            f"`{op.mem.hint}` has experts of several formats: one is read at a time, its rows and "
            "columns by tiles", op.loc, hint="w[e.start, n, k], where tiles of e are of 1",
        )  # fmt: skip
    for part in experts.parts:
        assert isinstance(part.type, Memory)
        if not isinstance(part.type.format, Scaled):
            raise TileError(f"`{op.mem.hint}`: rows of {part.type.format} are read by tiles, but "
                            "here they have places of their own", op.loc,
                            hint="read one expert a task: w[e.start, n, k]")  # fmt: skip
    place = _wide(b(memory.Load(experts.place, (expert,))), b)
    rows = _wide(b(shape.Coordinates(row)) if isinstance(row.type, Span) else row, b)
    inside = _within(_wide(expert, b), sum(experts.counts), b)
    inside = b(shape.Broadcast(inside, tile(rows).shape))
    if not isinstance(row.type, Span):
        inside = b(arith.And(inside, _within(rows, experts.rows, b)))
    at = _At(place, rows, inside, column)
    to[op.result] = _choice(experts, 0, at, b)
    return True


@dataclass(frozen=True)
class _At:
    """What is read: the place of an expert, rows of it, which of them exist, and columns."""

    place: Value
    rows: Value
    inside: Value
    column: Value


def _choice(experts: _Experts, number: int, at: _At, b: Builder) -> Value:
    """The elements of the part that the place is in, which is this one or one behind it."""
    if number == len(experts.parts) - 1:
        return _read(experts, number, at, b)
    end = b(shape.Full((), experts.starts[number + 1], i64))
    blocks: list[Block] = []
    for chosen in (True, False):
        inner = Builder(loc=b.loc)
        value = (_read(experts, number, at, inner) if chosen
                 else _choice(experts, number + 1, at, inner))  # fmt: skip
        blocks.append(Block((), tuple(inner.ops), (value,)))
    return b(control.If(b(arith.Lt(at.place, end)), *blocks))


def _read(experts: _Experts, number: int, at: _At, b: Builder) -> Value:
    """Rows of an expert in the matrix of its format; there is no row -1, so that reads 0."""
    full = tile(at.rows).shape
    local = b(arith.Sub(at.place, b(shape.Full((), experts.starts[number], i64))))
    first = b(arith.Mul(local, b(shape.Full((), experts.rows, i64))))
    rows = b(arith.Add(b(shape.Broadcast(first, full)), at.rows))
    rows = b(arith.Where(at.inside, rows, b(shape.Full(full, -1, i64))))
    return b(memory.Load(experts.parts[number], (rows, at.column)))


def _within(v: Value, extent: int, b: Builder) -> Value:
    """Whether coordinates lie inside a dimension."""
    t = tile(v)
    least, end = (b(shape.Full(t.shape, n, t.dtype)) for n in (0, extent))
    return b(arith.And(b(arith.Le(least, v)), b(arith.Lt(v, end))))


def _wide(v: Value, b: Builder) -> Value:
    """Whole numbers in 64 bits."""
    return v if tile(v).dtype == i64 else b(Cast(v, i64))
