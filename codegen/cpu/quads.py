"""Codes of a stream as bytes, four k's of a column to a 32-bit lane, for products of bytes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.codegen.cpu.llvm import V, constant, vector
from tilec.codegen.cpu.stream import Panel, Rounds, Words
from tilec.codegen.cpu.tiles import Writer
from tilec.ir.dtype import Array
from tilec.ir.stream import Plane

BYTES_OF_VECTOR = 64
_LOOKUPS = {  # tables of bytes by the bits of their index
    6: "llvm.x86.avx512.permvar.qi.512",
    7: "llvm.x86.avx512.vpermi2var.qi.512",
}


@dataclass(frozen=True)
class Unsigned:
    """How codes become unsigned bytes, each the value plus `offset`.

    The byte is the code with some bits turned, or what a table has for it.
    """

    offset: int
    turned: int = 0
    table: tuple[int, ...] = ()


def unsigned(found: Array) -> Unsigned | None:
    """The way for the values of all codes; None where they are no 8-bit whole numbers."""
    if not np.isfinite(found).all() or (found != np.round(found)).any():
        return None
    codes = np.arange(len(found))
    for turned in (0, len(found) // 2):
        offsets = (codes ^ turned) - found
        if (offsets == offsets[0]).all():
            return Unsigned(int(offsets[0]), turned)
    offset = int(-found.min())
    if found.max() + offset > 255:
        return None
    return Unsigned(offset, table=tuple(int(v) + offset for v in found))


class Quads(Rounds):
    """Vectors of decoded fours of units: unsigned bytes, in the order of k."""

    def __init__(self, w: Writer, p: Panel, per: int = 1) -> None:
        super().__init__(w, p, per)
        way = unsigned(np.asarray(p.values))
        assert way is not None
        self.codes, self.way = p.codes, way
        self.offset = way.offset

    def step(self, words: Words, t: int) -> tuple[V]:
        """k = 4 t to 4 t + 3 of every column."""
        f, (first, *others) = self.w.f, self.panel.records.planes
        code = self._bytes(words, first, t)
        for plane in others:
            low = (1 << plane.low) - 1
            high = f.binary("and", self._bytes(words, plane, t), every(255 - low))
            code = f.binary("or", f.binary("and", code, every(low)), high)
        if self.way.table:  # which no higher bits matter to
            code = self._looked_up(list(self.way.table), self.codes.bits, code)
        elif self.codes.bits < 8:
            code = f.binary("and", code, every((1 << self.codes.bits) - 1))
        if self.way.turned:
            code = f.binary("xor", code, every(self.way.turned))
        return (f.recast(code, "i32", self.w.lanes),)

    def _bytes(self, words: Words, plane: Plane, t: int) -> V:
        """A plane's bits of four codes at their place in the byte of each, among others."""
        word, first = divmod(2 * t, plane.codes)
        places = [16 * half + plane.bits * (first + pair) for pair in (0, 1) for half in (0, 1)]
        control = [(32 * odd + at - plane.low) % 64 for odd in (0, 1) for at in places]
        repeated = vector("i8", [_signed(c) for c in control] * 8)
        lanes = self.w.f.recast(words(plane, word), "i8", BYTES_OF_VECTOR)
        name = "llvm.x86.avx512.pmultishift.qb.512"
        return self.w.f.call(name, "i8", BYTES_OF_VECTOR, repeated, lanes)

    def _looked_up(self, table: list[int], bits: int, index: V) -> V:
        f = self.w.f
        if bits <= 7:
            entries = [_signed(v) for v in table * ((1 << max(bits, 6)) // len(table))]
            half = entries[:BYTES_OF_VECTOR], entries[BYTES_OF_VECTOR:]
            parts = (vector("i8", half[0]), index, *(vector("i8", h) for h in half[1:] if h))
            return f.call(_LOOKUPS[max(bits, 6)], "i8", BYTES_OF_VECTOR, *parts)
        low = self._looked_up(table[:128], 7, index)
        high = self._looked_up(table[128:], 7, index)
        return f.select(f.compare("icmp slt", index, every(0)), high, low)


def every(value: int) -> V:
    """A byte with these lowest bits in every lane."""
    return constant("i8", _signed(value & 255), BYTES_OF_VECTOR)


def _signed(byte: int) -> int:
    """The signed byte with these bits."""
    return byte - 256 if byte > 127 else byte
