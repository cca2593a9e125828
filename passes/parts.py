"""The parts of composed weights in the IR: their parameters, their elements, thin products."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tilec.ir.composed import LowRank, Outliers, Permuted, Plus
from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.dtype import f32, i32
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format
from tilec.ir.ops import arith, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Memory, Shape, Span, Tile


@dataclass(frozen=True)
class Parts:
    """The parameters that stand for a sum: one a scaled part, two for any other, which may be all
    there is; those of a permuted weight are its order, its inverse and what is permuted."""

    format: Plus | Permuted | LowRank | Outliers
    values: tuple[tuple[Value, ...], ...]

    def all(self) -> list[Value]:
        """Every parameter, in the order of the parts."""
        return [v for part in self.values for v in part]


def thin_product(format: LowRank, mems: tuple[Value, ...], a: Value, indices: tuple[Value, ...],
                  acc: Value, b: Builder) -> Value:  # fmt: skip
    """acc + (a @ right.T) @ left.T."""
    rank = b(memory.Whole(format.rank))
    right = b(memory.Load(mems[1], (rank, indices[1])))
    zeros = b(shape.Full((tile(a).shape[0], format.rank), 0.0, f32))
    t = b(reduce.Dot(a, b(shape.Transpose(right, (1, 0))), zeros))
    left = as_f32(b, b(memory.Load(mems[0], (indices[0], rank))))
    return b(reduce.Dot(t, b(shape.Transpose(left, (1, 0))), acc))


def scattered(format: Outliers, mems: tuple[Value, ...], n: Value, k: Value, b: Builder) -> Value:
    """For each place of a tile, the sum of the row's outliers that stand there."""
    whole = b(memory.Whole(format.count))
    assert isinstance(n.type, Span)
    wanted = b(shape.Coordinates(k)) if isinstance(k.type, Span) else k
    wanted = wanted if tile(wanted).dtype == i32 else b(Cast(wanted, i32))
    rows, columns = n.type.size, tile(wanted).shape[0]
    full: Shape = (rows, columns, format.count)

    def spread(v: Value, own: Shape) -> Value:
        return b(shape.Broadcast(b(shape.Reshape(v, own)), full))

    place = b(memory.Load(mems[0], (n, whole)))
    element = as_f32(b, b(memory.Load(mems[1], (n, whole))))
    here = b(arith.Eq(spread(place, (rows, 1, format.count)),
                      spread(wanted, (1, columns, 1))))  # fmt: skip
    none = b(shape.Full(full, 0.0, f32))
    picked = b(arith.Where(here, spread(element, (rows, 1, format.count)), none))
    return b(reduce.Sum(picked, 2))


def parameters(p: Value) -> Parts:
    """The parameters of a sum's parts."""
    assert isinstance(p.type, Memory)
    format, shape_ = p.type.format, p.type.shape
    match format:
        case Permuted():
            inner = Value(Memory(shape_, format.inner), f"{p.hint}.0")
            return Parts(format, ((*_own(format, p, p.hint)[:2], inner),))
        case LowRank() | Outliers():
            return Parts(format, (_own(format, p, p.hint),))
        case Plus():
            values = [_own(f, p, f"{p.hint}.{i}") if isinstance(f, LowRank | Outliers)
                      else (Value(Memory(shape_, f), f"{p.hint}.{i}"),)
                      for i, f in enumerate(format.parts)]  # fmt: skip
            return Parts(format, tuple(values))
        case _:
            raise TileError(f"compose: {format} is no sum")


def _own(format: Format, p: Value, hint: str) -> tuple[Value, ...]:
    """A parameter for each component of a format."""
    assert isinstance(p.type, Memory)
    return tuple(Value(Memory(c.shape, Dense(c.dtype)), f"{hint}.{c.name}")
                 for c in format.components(p.type.shape))  # fmt: skip


def readers(func: Func) -> dict[Value, list[Op | Block]]:
    """The ops that read each value, and the blocks that yield it."""
    found: dict[Value, list[Op | Block]] = defaultdict(list)
    for op in func.walk():
        for v in op.operands:
            found[v].append(op)
        for block in op.blocks:
            for v in block.results:
                found[v].append(block)
    return found


def tile(v: Value) -> Tile:
    """The type of a value that is a tile."""
    assert isinstance(v.type, Tile)
    return v.type


def as_f32(b: Builder, v: Value) -> Value:
    """A tile in f32."""
    return v if tile(v).dtype == f32 else b(Cast(v, f32))


def index_of(op: memory.Load | memory.Write, axis: int) -> Value:
    """The index that gives an axis of the tile."""
    at = 0
    joint = False
    for v in op.indices:
        rank = 1 if isinstance(v.type, Span) else tile(v).rank
        if rank and not (joint and not isinstance(v.type, Span)):
            if at <= axis < at + rank:
                return v
            at += rank
        joint = joint or (rank > 0 and not isinstance(v.type, Span))
    raise TileError(f"{op.name}: no index gives axis {axis}", op.loc)
