"""Single bits, 32 k's of a row or column to a lane: packed, or from the words of a stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

import numpy as np

from tilec.codegen.cpu.atoms import BITS, Atom, Rows
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.stream import Panel, Rounds, Words
from tilec.codegen.cpu.tiles import Index, Lazy, Writer
from tilec.ir.dtype import Array
from tilec.ir.stream import Plane, Records

LANE = 32


class Bits(Rounds):
    """Vectors of one bit of every code of a round: its words as they are, or put together."""

    def __init__(self, w: Writer, p: Panel) -> None:
        super().__init__(w, p, LANE // p.records.unit)
        plane = plane_of(p.records, np.asarray(p.values))
        assert plane is not None
        self.plane, self.terms = plane, terms(np.asarray(p.values))

    def step(self, words: Words, t: int) -> tuple[V]:
        """The bits of every column."""
        del t  # a round is one lane
        f, lanes = self.w.f, self.w.lanes
        kept: dict[int, V] = {}

        def bit(i: int) -> V:
            if i not in kept:
                kept[i] = self._bit(words, i - self.plane.low)
            return kept[i]

        out: V | None = None
        for term in self.terms:
            ones = [bit(i) for i in range(term.bit_length()) if term >> i & 1]
            v = reduce(lambda a, b: f.binary("and", a, b), ones) if ones \
                else constant("i32", -1, lanes)  # fmt: skip
            out = v if out is None else f.binary("xor", out, v)
        assert out is not None
        return (out,)

    def _bit(self, words: Words, i: int) -> V:
        """Bit i of the plane's fields: that of word j moved to the j-th place of every field."""
        f, width = self.w.f, self.plane.bits
        out: V | None = None
        for j in range(width):
            v = words(self.plane, j)
            if i != j:
                away = constant("i32", abs(i - j), v.lanes)
                v = f.binary("shl" if j > i else "lshr", v, away)
            if width > 1:
                mask = sum(1 << at for at in range(j, LANE, width))
                v = f.binary("and", v, constant("i32", mask - (mask >> 31 << 32), v.lanes))
            out = v if out is None else f.binary("or", out, v)
        assert out is not None
        return out

    @property
    def plain(self) -> bool:
        """Whether the words are the bits as they lie."""
        return self.panel.records.planes == (Plane(1, 0),) and self.terms == (1,)


def in_order(p: Panel) -> Atom:
    """The product of bits in the order of a panel's."""
    plane = plane_of(p.records, np.asarray(p.values))
    assert plane is not None
    return replace(BITS, width=plane.bits)


def terms(table: Array) -> tuple[int, ...]:
    """The bit that each code has, as a sum modulo 2 of products of the code's bits.

    Each product is said by the set of its bits (the algebraic normal form, by Moebius' transform).
    """
    form = [int(v) for v in table]
    step = 1
    while step < len(form):
        for i in range(len(form)):
            if i & step:
                form[i] ^= form[i ^ step]
        step *= 2
    return tuple(i for i, present in enumerate(form) if present)


def plane_of(records: Records, table: Array) -> Plane | None:
    """The plane of a stream that has all bits of which the table's depend."""
    used = reduce(lambda a, b: a | b, terms(table), 0)
    for plane in records.planes:
        if used and used & ~((1 << plane.bits) - 1 << plane.low) == 0:
            return plane
    return None


def pack_rows(w: Writer, atom: Atom, a: Lazy, to: Rows) -> None:
    """A tile of bits as rows of lanes, the last filled up with zeros."""
    rows, k = a.shape
    sizes = (to.stride, atom.size)

    def row(m: V) -> None:
        _each_lane(w, atom, k, lambda i, n: a.at((m, i), n),
                   lambda line, v: w.f.store(v, w.address(to.at, (m, line), sizes), 1))  # fmt: skip

    w.f.loop(0, rows, 1, row)


def pack_columns(w: Writer, atom: Atom, b: Lazy, to: V, pitch: int) -> None:
    """A tile of bits as rows of lanes, `pitch` columns apart."""
    f, (k, n), across = w.f, b.shape, b.across
    sizes = (pitch * atom.size, atom.size)
    lines = f.divided(f.plus(k, LANE - 1), LANE)[0]

    def put(index: Index, lanes: int) -> None:
        first = f.times(index[0], LANE)
        size = f.least(LANE, f.plus(k, f.times(first, -1)))

        def one(i: V, c: list[V]) -> list[V]:
            away = f.splat(_place(w, atom, i), lanes)
            bit = b.at((f.plus(first, i), index[1]), lanes)
            return [f.binary("or", c[0], f.binary("shl", bit, away))]

        (v,) = f.carry(0, size, 1, [constant("i32", 0, lanes)], one)
        f.store(v, w.address(to, index, sizes), 4)

    if across is None:
        w.each((lines, n), put)
        return

    def column(c: V) -> None:
        _each_lane(w, atom, k, lambda i, lanes: across((i, c), lanes),
                   lambda line, v: f.store(v, w.address(to, (line, c), sizes), 4))  # fmt: skip

    f.loop(0, n, 1, column)


def _each_lane(w: Writer, atom: Atom, k: Number, at: Callable[[Number, int], V],
               put: Callable[[Number, V], None]) -> None:  # fmt: skip
    """put(i, lane) for the lanes of k values, zeros after the last."""
    f = w.f
    whole, rest = f.divided(k, LANE)

    def lane(line: V) -> None:
        first = f.times(line, LANE)
        parts = [f.convert("trunc", at(f.plus(first, i), w.lanes), "i8")
                 for i in range(0, LANE, w.lanes)]  # fmt: skip
        while len(parts) > 1:
            halves = zip(parts[::2], parts[1::2], strict=True)
            parts = [f.shuffle(a, b, range(2 * a.lanes)) for a, b in halves]
        order = sorted(range(LANE), key=atom.place)
        ordered = f.shuffle(parts[0], parts[0], order)
        put(line, f.recast(f.convert("trunc", ordered, "i1"), "i32", 1))

    f.loop(0, whole, 1, lane)
    if rest == 0:
        return
    first = f.times(whole, LANE)

    def one(i: V, c: list[V]) -> list[V]:
        bit = f.binary("shl", at(f.plus(first, i), 1), _place(w, atom, i))
        return [f.binary("or", c[0], bit)]

    def last() -> None:
        put(whole, f.carry(0, rest, 1, [constant("i32", 0)], one)[0])

    f.loop(whole, f.divided(f.plus(k, LANE - 1), LANE)[0], 1, lambda _: last())


def _place(w: Writer, atom: Atom, k: V) -> V:
    """`atom.place` of a number that is not known, as an i32."""
    f = w.f
    word, within = f.divided(k, LANE // atom.width)
    code, half = f.divided(within, 2)
    place = f.plus(f.plus(f.times(half, 16), f.times(code, atom.width)), word)
    return f.convert("trunc", f.number(place), "i32")
