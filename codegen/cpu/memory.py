"""Loads and stores: whole vectors where a span runs along the last dimension, else by element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tilec.codegen.cpu import atomics, numbers, picks, stream, windows
from tilec.codegen.cpu.llvm import V, constant
from tilec.codegen.cpu.places import (
    Found,
    Picked,
    Place,
    address,
    element,
    picked,
    positions,
    surely_inside,
)
from tilec.codegen.cpu.tiles import At, Coordinates, Index, Lazy, Tensor, Writer
from tilec.codegen.cpu.views import gathered
from tilec.ir.choices import LINE
from tilec.ir.dtype import bf16, e4m3, e5m2, f32, f64, i32
from tilec.ir.stream import Records

WORDS = (f32, f64, bf16, i32)  # values that are at once what registers have


def load(w: Writer, mem: Tensor, indices: tuple[Place, ...], shape: Index) -> Lazy:
    """mem[indices] as a tile that is read when it is used."""
    reads = frozenset({mem.param}).union(*(p.reads for p in indices if isinstance(p, Lazy)))
    places = picked(w, mem, indices)
    checked = not all(isinstance(p, Coordinates) or surely_inside(p) for p in places)
    counted = _counted(mem, places)

    apart = _apart(w, mem, places)

    def at(index: Index, lanes: int) -> V:
        if lanes == 1 or not _in_vectors(mem, places, lanes):
            by = picks.vectors(w, mem, places, lanes)
            return apart(index, lanes) if by is None else by(index)
        at, inside = positions(w, mem, places, index)
        if counted:
            w.ask_ahead(address(w, mem, at))
        value = element(w, mem, at, lanes)
        if inside is None:
            return value
        return w.f.select(w.f.splat(inside, lanes), value, constant(value.type, 0, lanes))

    in_rows = _in_vectors(mem, places, w.lanes)
    long = picks.vectors(w, mem, places, w.lanes) is None
    alone = all(isinstance(p, Coordinates | Picked) for p in places)
    direct = in_rows and alone and mem.records is None
    raw = _words(w, mem, places, shape) if direct and mem.dtype == bf16 else None
    wide = direct and not checked and mem.dtype in (f32, bf16)
    asked = direct and mem.dtype.bits >= 8
    return Lazy(shape, mem.dtype, at, None, reads, reads, None, long and not in_rows, raw,
                plain=not checked and mem.records is None and mem.dtype in WORDS, wide=wide,
                fetch=_fetch(w, mem, places) if asked else None, solid=_solid(mem, places, shape),
                later=_later(w, mem, places, shape) if wide else None,
                window=windows.of_codes(mem.dtype))  # fmt: skip


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
