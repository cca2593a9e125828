"""Elements of rows that are found by tables."""

from __future__ import annotations

from tilec.ir.core import Builder, Value
from tilec.ir.dtype import i32, i64
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.sparse import Grouped, Hashed, Paged, Ragged, Sparse
from tilec.ir.sparse.indirect import AWAY, FACTOR
from tilec.ir.sparse.stored import VALUES
from tilec.ir.types import Memory, Shape, Span
from tilec.passes.parts import tile

INDIRECT = (Paged, Ragged, Grouped, Hashed)
Mems = dict[str, Value]


def elements(format: Sparse, whole: Memory, mems: Mems, indices: tuple[Value, ...],
             b: Builder) -> Value:  # fmt: skip
    """A tile of elements of the tensor `whole`, given an index for each dimension."""
    match format:
        case Paged():
            return _paged(format, mems, indices, b)
        case Ragged():
            row = _listed(mems, indices[0], indices[1], b)
            return b(memory.Load(mems[VALUES], (row, *indices[2:])))
        case Grouped():
            place = _listed(mems, indices[0], indices[1], b)
            row = b(memory.Load(mems["order"], (place,)))
            row = b(arith.Where(_below(_number(b, -1, row), place, b), row, _number(b, -1, row)))
            return b(memory.Load(mems[VALUES], (row, *indices[2:])))
        case Hashed():
            return b(
                memory.Load(mems[VALUES], (_found(format, whole, mems, indices, b), indices[-1]))
            )
        case _:
            raise TileError(f"rows of {format} are found by no table")


def _paged(format: Paged, mems: Mems, indices: tuple[Value, ...], b: Builder) -> Value:
    """Rows of the pages that the table names, the dimensions between in their place."""
    sequence, *between, at, column = indices
    sequences, rows = _crossed((sequence, at), b)
    size = _number(b, format.page, rows)
    page = b(memory.Load(mems["table"], (sequences, b(arith.FloorDiv(rows, size)))))
    inside = b(arith.Mod(rows, size))
    out = b(memory.Load(mems[VALUES], (page, *between, inside, column)))
    first = _rank(sequence)
    joint, middle = first + _rank(at), sum(map(_rank, between))
    if not middle or joint == first:
        return out
    order = [*range(first), *range(joint, joint + middle), *range(first, joint)]
    return b(shape.Transpose(out, (*order, *range(joint + middle, tile(out).rank))))


def _listed(mems: Mems, of: Value, entry: Value, b: Builder) -> Value:
    """The place of an entry of a list: start[of] + entry, or -1 beyond its end."""
    sequence, at = _crossed((of, entry), b)
    one = _number(b, 1, sequence)
    start = b(memory.Load(mems["start"], (sequence,)))
    end = b(memory.Load(mems["start"], (b(arith.Add(sequence, one)),)))
    place = b(arith.Add(start, at))
    there = b(arith.And(_below(place, end, b), _below(_number(b, -1, at), at, b)))
    return b(arith.Where(there, place, _number(b, -1, place)))


def _found(format: Hashed, whole: Memory, mems: Mems, indices: tuple[Value, ...],
           b: Builder) -> Value:  # fmt: skip
    """The row at coordinates, or -1: every place where its key may be is looked at."""
    at = [_as(i64, i, b) for i in _crossed(indices[:-1], b)]
    key, there = at[0], _inside(at[0], whole.shape[0], b)
    for coordinate, size in zip(at[1:], whole.shape[1:-1], strict=True):
        key = b(arith.Add(b(arith.Mul(key, _extent(b, size, key))), coordinate))
        there = b(arith.And(there, _inside(coordinate, size, b)))
    mixed = b(arith.Shr(b(arith.Mul(key, _number(b, FACTOR, key))), _number(b, AWAY, key)))
    row = _as(i32, _number(b, -1, key), b)
    for probe in range(format.probes):
        place = b(arith.And(b(arith.Add(mixed, _number(b, probe, key))),
                            _number(b, format.capacity - 1, key)))  # fmt: skip
        same = b(arith.Eq(b(memory.Load(mems["key"], (place,))), key))
        row = b(arith.Where(same, b(memory.Load(mems["row"], (place,))), row))
    return b(arith.Where(there, row, _number(b, -1, row)))


def _crossed(indices: tuple[Value, ...], b: Builder) -> tuple[Value, ...]:
    """Coordinates for every combination of indices. Tiles of one shape go together."""
    own = [_as(i32, b(shape.Coordinates(i)) if isinstance(i.type, Span) else i, b) for i in indices]
    tiles = [v for i, v in zip(indices, own, strict=True) if not isinstance(i.type, Span)
             and tile(v).rank]  # fmt: skip
    if len(tiles) == sum(tile(v).rank > 0 for v in own):
        full: Shape = tile(tiles[0]).shape if tiles else ()
        return tuple(b(shape.Broadcast(v, full)) if tile(v).shape != full else v for v in own)
    if tiles and len(tiles) > 1:
        raise TileError("several index tiles beside a span: one at a time is read")
    full = tuple(d for v in own for d in tile(v).shape)
    out: list[Value] = []
    for v in own:
        before = sum(tile(o).rank for o in own[: len(out)])
        wide = (1,) * before + tile(v).shape
        wide += (1,) * (len(full) - len(wide))
        placed = v if wide == tile(v).shape else b(shape.Reshape(v, wide))
        out.append(b(shape.Broadcast(placed, full)) if wide != full else placed)
    return tuple(out)


def _rank(index: Value) -> int:
    return 1 if isinstance(index.type, Span) else tile(index).rank


def _as(dtype: object, v: Value, b: Builder) -> Value:
    assert dtype in (i32, i64)
    return v if tile(v).dtype == dtype else b(Cast(v, i32 if dtype == i32 else i64))


def _number(b: Builder, n: int, like: Value) -> Value:
    """A number for each element of a tile."""
    return b(shape.Full(tile(like).shape, n, tile(like).dtype))


def _extent(b: Builder, size: object, like: Value) -> Value:
    """An extent for each element of a tile."""
    if isinstance(size, int):
        return _number(b, size, like)
    found = _as(i64, b(shape.Size(size)), b)  # type: ignore[arg-type]
    return b(shape.Broadcast(found, tile(like).shape))


def _below(a: Value, c: Value, b: Builder) -> Value:
    return b(arith.Lt(a, c))


def _inside(v: Value, size: object, b: Builder) -> Value:
    """Whether coordinates lie in a dimension."""
    least = b(arith.Le(_number(b, 0, v), v))
    return b(arith.And(least, _below(v, _extent(b, size, v), b)))
