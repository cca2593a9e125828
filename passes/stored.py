"""The elements of sparse formats at the places of a tile: those that are not stored are 0."""

from __future__ import annotations

from tilec.ir.core import Builder, Value
from tilec.ir.dtype import i32, u32
from tilec.ir.errors import TileError
from tilec.ir.extent import ceil_div
from tilec.ir.format import Dense
from tilec.ir.lanes import Lanes, Runs, order
from tilec.ir.ops import arith, memory, shape
from tilec.ir.ops.sparse import Expand
from tilec.ir.sparse import NM, VNM, Bitmap, Blocks, Channels, Csr, Sparse
from tilec.ir.sparse.bitmap import WORD
from tilec.ir.sparse.stored import VALUES, numbers
from tilec.ir.types import Memory, Span
from tilec.passes.parts import tile
from tilec.passes.reader import Reader


def memories(format: Sparse, p: Value) -> dict[str, Value]:
    """The parameters that stand for a tensor: where its elements are, and its values, which have a
    format of their own."""
    assert isinstance(p.type, Memory)
    found = {c.name: Value(Memory(c.shape, Dense(c.dtype)), f"{p.hint}.{c.name}")
             for c in format.places(p.type.shape)}  # fmt: skip
    values = Memory(format.stored(p.type.shape), format.inner)
    return found | {VALUES: Value(values, f"{p.hint}.{VALUES}")}


def streamed(p: Value) -> bool:
    """Whether a parameter's default layout is a stream of values and bits."""
    assert isinstance(p.type, Memory)
    known = tuple(d for d in p.type.shape if isinstance(d, int))
    whole = len(known) == len(p.type.shape) and Lanes.fits(p.type.format, known)
    return whole and isinstance(p.type.format, NM | Bitmap | Csr)


def stream(format: Sparse, p: Value) -> dict[str, Value]:
    """The parameters that stand for a tensor in a stream: bits, in the place of the numbers that
    the format has, and values; or runs."""
    assert isinstance(p.type, Memory)
    if isinstance(format, Csr):
        return _runs(format, p)
    n, k = p.type.shape
    mask = Memory((n, ceil_div(k, WORD)), Dense(u32))
    name = format.places(p.type.shape)[0].name
    return {"mask": Value(mask, f"{p.hint}.{name}"), VALUES: memories(format, p)[VALUES]}


def _runs(format: Csr, p: Value) -> dict[str, Value]:
    assert isinstance(p.type, Memory)
    runs = order(format, numbers(p.type.shape))
    assert isinstance(runs, Runs)
    found = memories(format, p)
    column = Value(Memory((runs.bound,), Dense(i32)), found["column"].hint)
    values = Value(Memory((1, runs.bound), format.inner), found[VALUES].hint)
    return {"start": found["start"], "column": column, VALUES: values}


def expanded(mems: dict[str, Value], indices: tuple[Value, ...], b: Builder) -> Value:
    """A tile of a stream. Raises TileError where it is no rectangle."""
    if not all(isinstance(i.type, Span) for i in indices):
        raise TileError("a stream of values is read by tiles of rows and columns, not by index",
                        hint="relayout(Plain())")  # fmt: skip
    return b(Expand(mems[VALUES], mems["mask"], *indices))


def elements(format: Sparse, r: Reader) -> Value:
    """A tile of elements. Raises TileError for formats in which an element is not found by its
    place."""
    match format:
        case NM():
            return _nm(format, r, r.k)
        case VNM():
            return _vnm(format, r)
        case Channels():
            return _channels(format, r)
        case Bitmap():
            return _bitmap(format, r)
        case Blocks():
            return _blocks(format, r)
        case _:
            raise TileError(
                f"elements of {format} are not found by their places",
                hint="sum along its rows in a loop, or store it as bitmap<...>",
            )


def _nm(format: NM, r: Reader, k: Value) -> Value:
    """Of the n that are stored of each m, the one whose place in the m is wanted."""
    first = r.op(arith.Mul, r.op(arith.FloorDiv, k, format.m), format.n)
    wanted = r.spread(r.op(arith.Mod, k, format.m))
    out = r.constant(0, format.value)
    for j in range(format.n):
        at = r.op(arith.Add, first, j)
        here = r.b(arith.Eq(r.read("index", at), wanted))
        out = r.b(arith.Where(here, r.read(VALUES, at, format.value), out))
    return out


def _vnm(format: VNM, r: Reader) -> Value:
    """Of the four chosen columns of each m, the one whose place is wanted; there, as n of four."""
    rows = r.op(arith.FloorDiv, r.coordinates(0), format.v)
    first = r.op(arith.Mul, r.over(format.m), 4)
    wanted = r.spread(r.within(format.m))
    out = r.constant(0, format.value)
    for j in range(4):
        at = r.op(arith.Add, first, j)
        chosen = r.cast(r.b(memory.Load(r.mems["columns"], r.crossed(rows, at))), i32)
        here = r.b(arith.Eq(chosen, wanted))
        out = r.b(arith.Where(here, _nm(format.chosen, r, at), out))
    return out


def _channels(format: Channels, r: Reader) -> Value:
    """The column where the wanted one is stored; there is no column -1, so that reads 0."""
    at = r.cast(r.b(memory.Load(r.mems["place"], (r.k,))), i32)
    return r.read(VALUES, at, format.value)


def _bitmap(format: Bitmap, r: Reader) -> Value:
    """The value whose number is the ones before it, where the bit is 1."""
    word, bit = r.over(WORD), r.within(WORD)
    mask = r.read("mask", word)
    one = r.b(shape.Full(tile(bit).shape, 1, i32))
    before = r.spread(r.op(arith.Sub, r.b(arith.Shl(one, bit)), 1))
    rank = r.b(arith.Popcount(r.b(arith.And(mask, before))))
    place = r.b(arith.Add(r.read("start", word), rank))
    there = r.op(arith.And, r.b(arith.Shr(mask, r.spread(bit))), 1)
    at = r.crossed(r.coordinates(0), place)
    value = r.cast(r.b(memory.Load(r.mems[VALUES], at)), format.value)
    return r.chosen(there, value, r.constant(0, format.value))


def _blocks(format: Blocks, r: Reader) -> Value:
    """The element of the block that has a number; the others lie in rows that there are not."""
    n = r.coordinates(0)
    rows = r.op(arith.FloorDiv, n, format.rows)
    block = r.b(memory.Load(r.mems["place"], r.crossed(rows, r.over(format.columns))))
    first = r.op(arith.Mul, block, format.rows)
    row = r.b(arith.Add(first, r.stretched(r.op(arith.Mod, n, format.rows))))
    at = r.crossed(row, r.within(format.columns))
    return r.cast(r.b(memory.Load(r.mems[VALUES], at)), format.value)
