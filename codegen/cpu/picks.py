"""Elements that an index tile picks along the last dimension, a vector at once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.consecutive import inside
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.places import Found, address, element, positions
from tilec.codegen.cpu.tiles import Coordinates, Index, Lazy, Tensor, Window, Writer
from tilec.ir.dtype import DType, bf16, f16, f32, i8, i16, i32, u8, u16
from tilec.ir.stream import LANES

WORDS, HALVES, BYTES = (f32, i32), (f16, bf16, i16, u16), (i8, u8)
MOST = 2 * LANES  # elements of a window that registers hold


def vectors(w: Writer, mem: Tensor, places: tuple[Found, ...], lanes: int) -> partial[V] | None:
    """What reads a vector of a tile, from an index on; None where elements are read one by one."""
    *rows, last = places or (None,)
    alone = all(isinstance(p, Coordinates) or not p.shape for p in rows)
    if not isinstance(last, Lazy) or not last.shape or not alone or lanes != w.lanes:
        return None
    if mem.records is not None or mem.dtype not in (*WORDS, *HALVES, *BYTES):
        return None
    masks, narrow = "avx512bw" in w.features, last.dtype.bits <= 32
    if masks and last.first is not None and len(last.shape) == 1 and mem.dtype not in BYTES:
        return partial(_side_by_side, w, mem, places, last.first)
    window = last.window if masks and narrow and lanes == LANES else None
    if window is not None and window.size <= MOST:
        return partial(_permuted, w, mem, places, window)
    gathers = "avx2" in w.features and narrow and mem.dtype not in BYTES
    return partial(_gathered, w, mem, places) if gathers and mem.shape[-1] not in (0, 1) else None


def apart(w: Writer, mem: Tensor, places: tuple[Found, ...]) -> bool:
    """Whether each element that is picked is a read of its own."""
    last = places[-1] if places else None
    if not isinstance(last, Lazy) or not last.shape:
        return False
    by = vectors(w, mem, places, w.lanes)
    return by is None or by.func is _gathered


def _side_by_side(w: Writer, mem: Tensor, places: tuple[Found, ...], first: Number, index: Index
                  ) -> V:  # fmt: skip
    """A vector of consecutive elements, 0 where they are beyond the row."""
    rows, within = _rows(w, mem, places, index[:-1])
    return _row(w, mem, (*rows, w.f.plus(first, index[-1])), within)


def _permuted(w: Writer, mem: Tensor, places: tuple[Found, ...], window: Window, index: Index) -> V:
    """A vector of elements out of the one or two vectors that a window is, 0 where there is none
    in the row."""
    f, last = w.f, places[-1]
    assert isinstance(last, Lazy)
    axes = len(index) - len(last.shape)
    rows, within = _rows(w, mem, places, index[:axes])
    wanted = last.at(index[axes:], LANES)
    first: Number = 0
    if window.start is not None:
        start = window.start(index[axes:])
        wanted = f.binary("sub", wanted, f.splat(start, LANES))
        first = f.convert("sext", start, "i64")
    parts = [_row(w, mem, (*rows, f.plus(first, i)), within)
             for i in range(0, window.size, LANES)]  # fmt: skip
    kinds = ("sf", "ps") if parts[0].type == "float" else ("si", "d")
    if len(parts) == 1:
        name = f"llvm.x86.avx512.permvar.{kinds[0]}.512"
        return f.call(name, parts[0].type, LANES, parts[0], wanted)
    name = f"llvm.x86.avx512.vpermi2var.{kinds[1]}.512"
    return f.call(name, parts[0].type, LANES, parts[0], wanted, parts[1])


def _rows(w: Writer, mem: Tensor, places: tuple[Found, ...], index: Index
          ) -> tuple[Index, V | None]:  # fmt: skip
    """The coordinates of a row, and whether it is inside (None: surely)."""
    return positions(w, replace(mem, shape=mem.shape[:-1]), places[:-1], index)


def _row(w: Writer, mem: Tensor, at: Index, within: V | None) -> V:
    """A vector of a row, 0 where there is none of it."""
    f, first, extent, lanes = w.f, at[-1], mem.shape[-1], w.lanes
    if isinstance(first, int) and isinstance(extent, int) and 0 <= first <= extent - lanes:
        found = element(w, mem, at, lanes)
        if within is None:
            return found
        return f.select(f.splat(within, lanes), found, constant(found.type, 0, lanes))
    mask = inside(w, first, lanes, extent)
    if within is not None:
        mask = f.binary("and", mask, f.splat(within, lanes))
    found = f.masked(f"i{mem.dtype.bits}", lanes, address(w, mem, at), mask)
    return _values(w, mem.dtype, found)


def _values(w: Writer, t: DType, bits: V) -> V:
    """What the bits of elements stand for, in 32 bits or as many as they have."""
    if t.bits == 32:
        return w.f.convert("bitcast", bits, numbers.register(t))
    return numbers.from_bits(w.f, t, w.f.convert("zext", bits, "i32"))


def _gathered(w: Writer, mem: Tensor, places: tuple[Found, ...], index: Index) -> V:
    """A vector of elements at the places of an index tile; halves of words are read as words that
    lie inside the row."""
    f, size, lanes, last = w.f, numbers.item(mem.dtype), w.lanes, places[-1]
    assert isinstance(last, Lazy)
    axes = len(index) - len(last.shape)
    rows, inside = _rows(w, mem, places, index[:axes])
    wanted = last.at(index[axes:], lanes)
    within = f.compare("icmp ult", wanted, f.narrow(mem.shape[-1], lanes))
    if inside is not None:
        within = f.binary("and", within, f.splat(inside, lanes))
    at = f.binary("mul", wanted, constant("i32", size, lanes))
    first = f.compare("icmp eq", wanted, constant("i32", 0, lanes))
    if size == 2:
        at = f.select(first, at, f.binary("sub", at, constant("i32", 2, lanes)))
    row = address(w, mem, (*rows, 0))
    kind = "float" if mem.dtype == f32 else "i32"
    found = f.gather(kind, row, f.convert("sext", at, "i64"), within)
    if size == 4:
        return found
    high = f.binary("lshr", found, constant("i32", 16, lanes))
    return numbers.from_bits(f, mem.dtype, f.select(first, found, high))


__all__ = ["apart", "vectors"]
