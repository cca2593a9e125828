"""Where in memory the elements of a tile lie, and whether they lie inside."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilec.codegen.cpu import lanes as order
from tilec.codegen.cpu import numbers, stream
from tilec.codegen.cpu.llvm import Function, Number, V, constant, vector
from tilec.codegen.cpu.tiles import Coordinates, Index, Lazy, Tensor, Writer, fixed
from tilec.ir.lanes import Slabs
from tilec.ir.stream import LANES, Records

Place = Coordinates | Lazy


@dataclass(frozen=True)
class Picked:
    """A scalar index that has been looked at: where it is in memory, and whether it lies inside
    (None: surely)."""

    at: Number
    inside: V | None
    shape: Index = ()


Found = Coordinates | Lazy | Picked


def picked(w: Writer, mem: Tensor, indices: tuple[Place, ...]) -> tuple[Found, ...]:
    """Indices, the scalar ones looked at once and for all elements."""
    return tuple(
        _looked_at(w, p, extent) if isinstance(p, Lazy) and not p.shape else p
        for p, extent in zip(indices, mem.shape, strict=False)
    )


def _looked_at(w: Writer, p: Lazy, extent: Number) -> Picked:
    wide = w.f.convert("sext" if p.dtype.kind == "int" else "zext", p.at((), 1), "i64")
    known = isinstance(p.below, int) and isinstance(extent, int) and 0 < p.below <= extent
    if known or (p.below == extent and not isinstance(extent, int)):
        return Picked(wide, None)
    within = w.f.compare("icmp ult", wide, w.f.number(extent))
    return Picked(w.f.select(within, wide, constant("i64", 0)), within)


def surely_inside(p: Found) -> bool:
    """Whether an index surely lies inside."""
    return isinstance(p, Picked) and p.inside is None


def positions(
    w: Writer, mem: Tensor, places: tuple[Found, ...], index: Index
) -> tuple[Index, V | None]:
    """The coordinates in memory of a tile's element, and whether they lie inside (None: surely)."""
    out: list[Number] = []
    inside: V | None = None
    axis, joint = 0, -1
    for place, extent in zip(places, mem.shape, strict=True):
        if isinstance(place, Coordinates):
            out.append(w.f.plus(place.start, index[axis]))
            axis += 1
            continue
        if isinstance(place, Picked):
            out.append(place.at)
            inside = _both(w, inside, place.inside)
            continue
        rank = len(place.shape)
        if joint < 0:
            joint, axis = axis, axis + rank
        v = place.at(index[joint : joint + rank], 1)
        wide = w.f.convert("sext" if place.dtype.kind == "int" else "zext", v, "i64")
        within = w.f.compare("icmp ult", wide, w.f.number(extent))
        inside = _both(w, inside, within)
        out.append(w.f.select(within, wide, constant("i64", 0)))
    return tuple(out), inside


def _both(w: Writer, a: V | None, b: V | None) -> V | None:
    """Whether both are true; None is."""
    return b if a is None else a if b is None else w.f.binary("and", a, b)


def address(w: Writer, mem: Tensor, at: Index) -> V:
    """Where an element lies."""
    if isinstance(mem.records, Slabs):
        return order.address(w, mem, mem.records, at)
    return w.address(mem.at, at, strides(w, numbers.item(mem.dtype), mem.shape))


def strides(w: Writer, size: int, extents: Index) -> Index:
    """Bytes from one index of each axis to the next, `size` of them along the last."""
    found: list[Number] = [size]
    for extent in reversed(extents[1:]):
        found.insert(0, w.f.times(found[0], extent))
    return tuple(found[: len(extents)])


def element(w: Writer, mem: Tensor, at: Index, lanes: int) -> V:
    """`lanes` elements from `at` on along the last dimension."""
    if isinstance(mem.records, Records):
        return stream.element(w, mem, at, lanes)
    if mem.dtype.bits >= 8 or mem.dtype.kind == "bool":
        return numbers.load(w.f, mem.dtype, address(w, mem, at), lanes)
    return _unpacked(w, mem, at, lanes)


def _unpacked(w: Writer, mem: Tensor, at: Index, lanes: int) -> V:
    """Elements of less than a byte: little-endian bits along the last axis, rows of whole bytes.

    Reads one byte beyond the last element at most, which packed storage always has.
    """
    f, bits = w.f, mem.dtype.bits
    if not mem.shape:  # a scalar is a row of one element
        return _unpacked(w, replace(mem, shape=(1,)), (0,), lanes)
    pitch = -(-fixed(mem.shape[-1], f"elements of {bits} bits") * bits // 8)
    rows = strides(w, pitch, mem.shape[:-1])
    row = w.address(mem.at, at[:-1], rows)
    bit = f.number(f.times(at[-1], bits))
    first = f.pointer(row, f.binary("lshr", bit, constant("i64", 3)))
    if lanes == 1:
        pair = f.convert("zext", f.load("i16", 1, first), "i32")
        away = f.convert("trunc", f.binary("and", bit, constant("i64", 7)), "i32")
        return numbers.from_bits(f, mem.dtype, f.binary("lshr", pair, away))
    if lanes == LANES and "avx512vbmi" in w.features:
        return numbers.from_bits(f, mem.dtype, multishifted(f, bits, first))
    size = max(lanes * bits // 8, 2)
    data = f.load("i8", size, first)
    spread = [min((i * bits >> 3) + j, size - 1) for i in range(lanes) for j in (0, 1)]
    pairs = f.recast(f.shuffle(data, data, spread), "i16", lanes)
    shifted = f.binary("lshr", pairs, vector("i16", [i * bits & 7 for i in range(lanes)]))
    return numbers.from_bits(f, mem.dtype, f.convert("zext", shifted, "i32"))


def multishifted(f: Function, bits: int, at: V) -> V:
    """A vector of codes, each in the low bits of an i32; its other bits are those of others."""
    per = LANES if LANES * bits <= 64 else LANES // 2  # codes of a word
    places = [f.pointer(at, i * bits // 8) for i in range(0, LANES, per)]
    words = [f.splat(f.convert("zext", f.load(f"i{per * bits}", 1, p), "i64"), 8) for p in places]
    wide = (
        words[0] if len(words) == 1 else f.shuffle(words[0], words[-1], [*range(4), *range(12, 16)])
    )
    control = [bits * (i % per) for i in range(LANES) for _ in range(4)]
    moved = f.call("llvm.x86.avx512.pmultishift.qb.512", "i8", 4 * LANES,
                   vector("i8", control), f.recast(wide, "i8", 4 * LANES))  # fmt: skip
    return f.recast(moved, "i32", LANES)
