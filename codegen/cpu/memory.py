"""Loads and stores: whole vectors where a span runs along the last dimension, else by element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tilec.codegen.cpu import atomics, numbers, stream
from tilec.codegen.cpu import lanes as order
from tilec.codegen.cpu.consecutive import inside
from tilec.codegen.cpu.llvm import Number, V, constant, vector
from tilec.codegen.cpu.tiles import At, Coordinates, Index, Lazy, Tensor, Writer, fixed
from tilec.codegen.cpu.views import gathered
from tilec.ir.choices import LINE
from tilec.ir.dtype import bf16, e4m3, e5m2, f16, f32, f64, i32
from tilec.ir.lanes import Slabs
from tilec.ir.stream import Records

WORDS = (f32, f64, bf16, i32)  # values that are at once what registers have
Place = Coordinates | Lazy


@dataclass(frozen=True)
class Picked:
    """A scalar index that has been looked at: where it is in memory, and whether it lies inside
    (None: surely)."""

    at: Number
    inside: V | None
    shape: Index = ()


Found = Coordinates | Lazy | Picked


def load(w: Writer, mem: Tensor, indices: tuple[Place, ...], shape: Index) -> Lazy:
    """mem[indices] as a tile that is read when it is used."""
    reads = frozenset({mem.param}).union(*(p.reads for p in indices if isinstance(p, Lazy)))
    places = picked(w, mem, indices)
    checked = not all(isinstance(p, Coordinates) or surely_inside(p) for p in places)
    counted = _counted(mem, places)

    apart = _apart(w, mem, places)

    def at(index: Index, lanes: int) -> V:
        if lanes == 1 or not _in_vectors(mem, places, lanes):
            if _side_by_side(w, mem, places, lanes):
                return _masked(w, mem, places, index, lanes)
            if _in_gathers(w, mem, places, lanes):
                return _gathered(w, mem, places, index, lanes)
            return apart(index, lanes)
        at, inside = positions(w, mem, places, index)
        if counted:
            w.ask_ahead(address(w, mem, at))
        value = element(w, mem, at, lanes)
        if inside is None:
            return value
        return w.f.select(w.f.splat(inside, lanes), value, constant(value.type, 0, lanes))

    in_rows = _in_vectors(mem, places, w.lanes)
    long = not (_side_by_side(w, mem, places, w.lanes) or _in_gathers(w, mem, places, w.lanes))
    alone = all(isinstance(p, Coordinates | Picked) for p in places)
    direct = in_rows and alone and mem.records is None
    raw = _words(w, mem, places, shape) if direct and mem.dtype == bf16 else None
    wide = direct and not checked and mem.dtype in (f32, bf16)
    asked = direct and mem.dtype.bits >= 8
    return Lazy(shape, mem.dtype, at, None, reads, reads, None, long and not in_rows, raw,
                plain=not checked and mem.records is None and mem.dtype in WORDS, wide=wide,
                fetch=_fetch(w, mem, places) if asked else None, solid=_solid(mem, places, shape),
                later=_later(w, mem, places, shape) if wide else None)  # fmt: skip


def _apart(w: Writer, mem: Tensor, places: tuple[Found, ...]) -> At:
    """Elements that are read one by one; floats of a byte are decoded when they are together."""
    f, small = w.f, mem.records is None and mem.dtype in (e4m3, e5m2)

    def one(index: Index) -> V:
        at, inside = positions(w, mem, places, index)
        if small:
            value = f.convert("zext", f.load("i8", 1, address(w, mem, at)), "i32")
        else:
            value = element(w, mem, at, 1)
        return value if inside is None else f.select(inside, value, constant(value.type, 0))

    def at(index: Index, lanes: int) -> V:
        found = gathered(w, index, lanes, one)
        return numbers.from_bits(f, mem.dtype, found) if small else found

    return at


def _later(w: Writer, mem: Tensor, places: tuple[Found, ...], shape: Index
           ) -> Callable[[Index, int], None] | None:  # fmt: skip
    """What asks for a vector of the rows behind those of a tile, where its rows are whole."""
    if len(places) != 2 or shape[-1] != mem.shape[-1] or not w.choices.ahead:
        return None
    rows, size = places[0], numbers.item(mem.dtype)
    if not isinstance(rows, Coordinates):
        return None

    def ask(index: Index, lanes: int) -> None:
        behind = (w.f.plus(index[0], rows.size), index[1])
        at = address(w, mem, positions(w, mem, places, behind)[0])
        for line in range(0, lanes * size, LINE):
            w.f.prefetch(w.f.pointer(at, line))

    return ask


def _fetch(w: Writer, mem: Tensor, places: tuple[Found, ...]) -> Callable[[Index, int], None]:
    """What asks for an element, into a cache."""
    return lambda at, to: w.f.prefetch(address(w, mem, positions(w, mem, places, at)[0]), to)


def _solid(mem: Tensor, places: tuple[Found, ...], shape: Index) -> bool:
    """Whether what is read are rows that lie one after the other."""
    rows = len(places) > 1 and isinstance(places[-2], Coordinates)
    return rows and mem.records is None and shape[-1] == mem.shape[-1]


def _words(w: Writer, mem: Tensor, places: tuple[Found, ...], shape: Index) -> Lazy:
    """A tile of bf16 as it is stored; zeros where a number that chooses it is of none. Of rows that
    lie one after the other, which a loop goes through, those further on are asked for."""
    ahead = _solid(mem, places, shape)

    def at(index: Index, lanes: int) -> V:
        at, inside = positions(w, mem, places, index)
        place = address(w, mem, at)
        if ahead and 2 * lanes >= LINE:
            w.ask_ahead(place)
        v = w.f.load("i16", lanes, place, 2)
        if inside is None:
            return v
        return w.f.select(w.f.splat(inside, lanes), v, constant("i16", 0, lanes))

    return Lazy(shape, mem.dtype, at, fetch=_fetch(w, mem, places))


def _counted(mem: Tensor, places: tuple[Found, ...]) -> bool:
    """Whether what is read lies behind what was read before, and before what will be."""
    last = places[-1] if places and mem.records is None else None
    return isinstance(last, Coordinates) and last.counted


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


def _in_vectors(mem: Tensor, places: tuple[Found, ...], lanes: int) -> bool:
    """Whether neighbours along the last axis of a tile are neighbours in memory, and so many of
    them whole bytes."""
    if isinstance(mem.records, Records):
        return stream.in_rows(mem, places)
    if mem.records is not None:
        return False
    bytes_ = mem.dtype.bits >= 8 or mem.dtype.kind == "bool"
    while bytes_ and places and isinstance(places[-1], Picked) and mem.shape[-1] == 1:
        places, mem = places[:-1], replace(mem, shape=mem.shape[:-1])
    if not places or not isinstance(places[-1], Coordinates):
        return False
    if bytes_:
        return True
    return places[-1].multiple % 8 == 0 and lanes * mem.dtype.bits % 8 == 0


def _in_gathers(w: Writer, mem: Tensor, places: tuple[Found, ...], lanes: int) -> bool:
    """Whether the last dimension is picked by an index tile, and one instruction picks a vector."""
    *rows, last = places or (None,)
    picked = isinstance(last, Lazy) and bool(last.shape) and last.dtype.bits <= 32
    alone = all(isinstance(p, Coordinates) or not p.shape for p in rows)
    words = mem.records is None and (mem.dtype in (f32, i32, f16, bf16))
    wide = "avx2" in w.features and lanes == w.lanes
    return picked and alone and words and wide and mem.shape[-1] not in (0, 1)


def _side_by_side(w: Writer, mem: Tensor, places: tuple[Found, ...], lanes: int) -> bool:
    """Whether the last dimension is picked by consecutive numbers, and an instruction reads those
    of a vector that are places."""
    last = places[-1] if places else None
    consecutive = isinstance(last, Lazy) and len(last.shape) == 1 and last.first is not None
    alone = all(isinstance(p, Coordinates) or not p.shape for p in places[:-1])
    words = mem.records is None and mem.dtype in (f32, i32, f16, bf16)
    return consecutive and alone and words and "avx512bw" in w.features and lanes == w.lanes


def _masked(w: Writer, mem: Tensor, places: tuple[Found, ...], index: Index, lanes: int) -> V:
    """A vector of consecutive elements, 0 where they are beyond the row."""
    f, bits = w.f, 8 * numbers.item(mem.dtype)
    last = places[-1]
    assert isinstance(last, Lazy)
    assert last.first is not None
    rows, within = positions(w, replace(mem, shape=mem.shape[:-1]), places[:-1], index[:-1])
    first, extent = f.plus(last.first, index[-1]), mem.shape[-1]
    if isinstance(first, int) and isinstance(extent, int) and 0 <= first <= extent - lanes:
        found = element(w, mem, (*rows, first), lanes)
        if within is None:
            return found
        return f.select(f.splat(within, lanes), found, constant(found.type, 0, lanes))
    mask = inside(w, first, lanes, extent)
    if within is not None:
        mask = f.binary("and", mask, f.splat(within, lanes))
    found = f.masked(f"i{bits}", lanes, address(w, mem, (*rows, first)), mask)
    if bits == 16:
        return numbers.from_bits(f, mem.dtype, f.convert("zext", found, "i32"))
    return f.convert("bitcast", found, numbers.register(mem.dtype))


def _gathered(w: Writer, mem: Tensor, places: tuple[Found, ...], index: Index, lanes: int) -> V:
    """A vector of elements at the places of an index tile; halves of words are read as words that
    lie inside the row."""
    f, size = w.f, numbers.item(mem.dtype)
    *rows, last = places
    assert isinstance(last, Lazy)
    start, axis = list[Number](), 0
    inside: V | None = None
    for p in rows:
        if isinstance(p, Coordinates):
            start.append(f.plus(p.start, index[axis]))
            axis += 1
            continue
        assert isinstance(p, Picked)
        start.append(p.at)
        inside = _both(w, inside, p.inside)
    wanted = last.at(index[axis:], lanes)
    within = f.compare("icmp ult", wanted, f.narrow(mem.shape[-1], lanes))
    inside = within if inside is None else f.binary("and", within, f.splat(inside, lanes))
    at = f.binary("mul", wanted, constant("i32", size, lanes))
    first = f.compare("icmp eq", wanted, constant("i32", 0, lanes))
    if size == 2:
        at = f.select(first, at, f.binary("sub", at, constant("i32", 2, lanes)))
    row = address(w, mem, (*start, 0))
    kind = "float" if mem.dtype == f32 else "i32"
    found = f.gather(kind, row, f.convert("sext", at, "i64"), inside)
    if size == 4:
        return found
    high = f.binary("lshr", found, constant("i32", 16, lanes))
    half = f.binary("and", found, constant("i32", 0xFFFF, lanes))
    return numbers.from_bits(f, mem.dtype, f.select(first, half, high))


def store(w: Writer, mem: Tensor, places: tuple[Place, ...], value: Lazy) -> None:
    """mem[places] = value, where the coordinates lie inside."""
    along = bool(places) and isinstance(places[-1], Coordinates)
    tiles = any(isinstance(p, Lazy) and p.shape for p in places)
    vectors = along and mem.records is None and not tiles

    def act(v: V, at: V) -> None:
        numbers.store(w.f, mem.dtype, v, at, past=w.choices.nontemporal > 0 and v.lanes > 1)

    _written(w, mem, places, _paired(w, value) if vectors else value, vectors, act)


def _paired(w: Writer, value: Lazy) -> Lazy:
    """A tile of which two vectors or more at a time are words."""
    source = value.rounds
    if source is None or not numbers.pairs_bf16(w.features, w.lanes):
        return replace(value, rounds=None)

    def at(index: Index, lanes: int) -> V:
        if lanes <= w.lanes:
            return value.at(index, lanes)
        if source.wide:
            return numbers.bf16_words(w.f, source.at(index, lanes))
        places = ((*index[:-1], w.f.plus(index[-1], i)) for i in range(0, lanes, w.lanes))
        return numbers.bf16_words(w.f, w.f.joined([source.at(i, w.lanes) for i in places]))

    return replace(value, at=at)


def accumulate(w: Writer, mem: Tensor, places: tuple[Place, ...], value: Lazy) -> None:
    """mem[places] += value, one element after the other, each in one step for other threads."""
    _written(w, mem, places, value, False, lambda v, at: atomics.add(w.f, mem.dtype, v, at))


def _written(w: Writer, mem: Tensor, indices: tuple[Place, ...], value: Lazy, vectors: bool,
             act: Callable[[V, V], None]) -> None:  # fmt: skip
    """Do something with values and the addresses of those of their places that lie inside."""
    places = picked(w, mem, indices)

    def write(index: Index, lanes: int) -> None:
        v = value.at(index, lanes)
        if vectors or lanes == 1:
            return put(index, v)
        for i in range(lanes):
            put((*index[:-1], w.f.plus(index[-1], i)), w.f.lane(v, i))

    def put(index: Index, v: V) -> None:
        at, inside = positions(w, mem, places, index)
        if inside is None:
            act(v, address(w, mem, at))
            return
        yes, no = w.f.labels("inside", "outside")
        w.f.branch(inside, yes, no)
        w.f.place(yes)
        act(v, address(w, mem, at))
        w.f.emit(f"br label %{no}")
        w.f.place(no)

    side = max(w.side(value), 2 if value.rounds is not None else 1) if vectors else 1
    w.each(value.shape, write, apart=value.joined, side=side)


def _both(w: Writer, a: V | None, b: V | None) -> V | None:
    """Whether both are true; None is."""
    return b if a is None else a if b is None else w.f.binary("and", a, b)


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
    size = max(lanes * bits // 8, 2)
    data = f.load("i8", size, first)
    spread = [min((i * bits >> 3) + j, size - 1) for i in range(lanes) for j in (0, 1)]
    pairs = f.recast(f.shuffle(data, data, spread), "i16", lanes)
    shifted = f.binary("lshr", pairs, vector("i16", [i * bits & 7 for i in range(lanes)]))
    return numbers.from_bits(f, mem.dtype, f.convert("zext", shifted, "i32"))
