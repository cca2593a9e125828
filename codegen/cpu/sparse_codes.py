"""Codes in a stream of values and bits: expanded as bytes, then turned into what they stand for.

Two words of bits are expanded at once: the bytes of a lane are those of two rows, in turns, so that
a shift by a byte gives the second vector.
"""

from __future__ import annotations

import numpy as np

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.lanes import Expanding, Stored
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.stream import Round, bf16_bits, exact_in_bf16, permuted
from tilec.codegen.cpu.tiles import Writer
from tilec.ir.bits import from_raw
from tilec.ir.choices import LINE
from tilec.ir.masked import UNIT, Masked
from tilec.ir.stream import COLUMNS, LANES

TWO = 2 * LANES  # rows of two words
BITS = 2 * TWO  # of two words


class SparseCodes(Expanding):
    """Vectors of pairs of codes of 4 or 8 bits; `pack` 0 gives them as they are, 16 bits each."""

    again = 8  # what two words cost is more

    def __init__(self, w: Writer, p: Stored, pack: int) -> None:
        super().__init__(w, p, pack)
        assert isinstance(p.order, Masked)
        self.codes = t = p.order.dtype
        self.values: list[float] = from_raw(t, np.arange(1 << t.bits)).astype(float).tolist()
        wide = "avx512bw" in w.features and w.lanes == LANES
        few = t.bits == 4 or not t.is_integer  # bytes convert as fast
        self.table = wide and few and exact_in_bf16(self.values)
        self.twos: list[tuple[V, V]] = []  # both words of a pair, and where their codes are
        self.found: dict[int, V] = {}  # by number: a vector of bytes, or where they are
        rooms = 0 if self.direct else BITS * COLUMNS // TWO
        self.bytes = w.f.pointer(w.base, w.scratch.take(rooms)) if rooms else p.at

    def stored(self, of: Round, first: int, t: int) -> tuple[V, ...]:
        if first == self.columns[0]:
            self.twos, self.found = self._starts(of, t), {}
        number, row = divmod(first, TWO)
        if number not in self.found:
            word, at = self.twos[number]
            self.found[number] = self._together(word, at, number)
        return self._decoded(self._lanes(self.found[number], row % LANES), 8 * (row // LANES))

    def _starts(self, of: Round, t: int) -> list[tuple[V, V]]:
        """The words of a pair, by two, and where the codes of each two begin."""
        f, start, count = self.w.f, self.next, COLUMNS // TWO
        out: list[tuple[V, V]] = []
        before: Number = 0
        for i in range(count):
            word = f.load("i64", 1, f.pointer(of.units[0], BITS // 8 * (count * t + i)))
            out.append((word, f.pointer(start, before)))
            ones = f.intrinsic("ctpop", word)
            if self.codes.bits == 4:
                ones = f.binary("lshr", f.binary("add", ones, constant("i64", 1)),
                                constant("i64", 1))  # fmt: skip
            before = f.plus(before, ones)
        self.next = f.pointer(start, before)
        for line in range(-(-self.panel.lines // (UNIT // 2))):
            self.w.ask_ahead(self.next, LINE * line)
        return out

    def _together(self, word: V, at: V, number: int) -> V:
        """The codes of two words as bytes, 0 where the bit is 0: in a vector, or in memory."""
        f = self.w.f
        if not self.direct:
            return self._in_memory(word, at, f.pointer(self.bytes, BITS * number))
        mask, zero = f.recast(word, "i1", BITS), constant("i8", 0, BITS)
        if self.codes.bits == 8:
            name = f"llvm.masked.expandload.v{BITS}i8"
            return f.call(name, "i8", BITS, at, mask, zero)
        pairs = f.convert("zext", f.load("i8", BITS // 2, at), "i16")
        high = f.binary("shl", pairs, constant("i16", 4, BITS // 2))
        both = f.binary("and", f.binary("or", pairs, high), constant("i16", 0x0F0F, BITS // 2))
        given = f.recast(both, "i8", BITS)
        return f.call(f"llvm.x86.avx512.mask.expand.v{BITS}i8", "i8", BITS, given, zero, mask)

    def _in_memory(self, word: V, at: V, to: V) -> V:
        """The same one by one."""
        f, bits = self.w.f, self.codes.bits
        one, zero = constant("i64", 1), constant("i64", 0)

        def element(i: V, c: list[V]) -> list[V]:
            number, rest = c
            code = f.load("i8", 1, self.w.address(at, (number,), (1,)))
            if bits == 4:
                byte = self.w.address(at, (f.binary("lshr", number, one),), (1,))
                odd = f.convert("trunc", f.binary("and", number, one), "i8")
                away = f.binary("shl", odd, constant("i8", 2))
                code = f.binary("and", f.binary("lshr", f.load("i8", 1, byte), away),
                                constant("i8", 15))  # fmt: skip
            bit = f.binary("and", rest, one)
            there = f.compare("icmp ne", bit, zero)
            f.store(f.select(there, code, constant("i8", 0)), self.w.address(to, (i,), (1,)))
            return [f.binary("add", number, bit), f.binary("lshr", rest, one)]

        f.carry(0, BITS, 1, [zero, word], element)
        return to

    def _lanes(self, found: V, first: int) -> V:
        """Lanes of four bytes from a row on."""
        f, lanes = self.w.f, self.w.lanes
        if self.direct:
            return f.recast(found, "i32", lanes)
        return f.load("i32", lanes, f.pointer(found, 4 * first))

    def _decoded(self, four: V, byte: int) -> tuple[V, ...]:
        """The codes at bit `byte` of both halves of every lane, as the product reads them."""
        f, lanes = self.w.f, self.w.lanes
        if self.pack == 0:
            away = f.binary("lshr", four, constant("i32", byte, lanes)) if byte else four
            mask = (1 << self.codes.bits) - 1
            return (f.binary("and", away, constant("i32", mask << 16 | mask, lanes)),)
        if not self.table:
            return self._packed(*(self._converted(four, 16 * half + byte) for half in (0, 1)))
        index = f.recast(four, "i16", 2 * lanes)
        if byte:
            index = f.binary("lshr", index, constant("i16", byte, 2 * lanes))
        pairs = permuted(f, bf16_bits(self.values), self.codes.bits, index)
        both = f.recast(pairs, "i32", lanes)
        if self.pack == 2:
            return (both,)
        even = f.binary("shl", both, constant("i32", 16, lanes))
        odd = f.binary("and", both, constant("i32", -65536, lanes))
        return f.recast(even, "float", lanes), f.recast(odd, "float", lanes)

    def _packed(self, even: V, odd: V) -> tuple[V, ...]:
        f, lanes = self.w.f, self.w.lanes
        if self.pack == 1:
            return even, odd
        low = f.binary("lshr", f.recast(even, "i32", lanes), constant("i32", 16, lanes))
        return (f.binary("or", low, f.recast(odd, "i32", lanes)),)

    def _converted(self, four: V, at: int) -> V:
        """The codes at a bit of every lane as floats."""
        f, t, lanes = self.w.f, self.codes, self.w.lanes
        if t.kind == "int":
            top = f.binary("shl", four, constant("i32", 32 - t.bits - at, lanes))
            whole = f.binary("ashr", top, constant("i32", 32 - t.bits, lanes))
            return f.convert("sitofp", whole, "float")
        code = f.binary("lshr", four, constant("i32", at, lanes))
        code = f.binary("and", code, constant("i32", (1 << t.bits) - 1, lanes))
        value = numbers.from_bits(f, t, code)
        return f.convert("uitofp", value, "float") if t.is_integer else value

    def _of_kind(self, found: tuple[V, ...]) -> tuple[V, ...]:
        return found  # they are of the kind already
