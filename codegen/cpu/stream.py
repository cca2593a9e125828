"""Codes of a scaled matrix from its stream: one element, or whole vectors for a product.

A pair of k's of a column is a 32-bit lane of the stream and of the decoded vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilec.codegen.cpu import numbers
from tilec.codegen.cpu.llvm import Function, Number, V, constant, vector
from tilec.codegen.cpu.tiles import Coordinates, Index, Tensor, Writer
from tilec.ir.bits import from_raw
from tilec.ir.choices import LINE
from tilec.ir.dtype import Array, DType, bf16
from tilec.ir.stream import COLUMNS, LANES, Plane, Records


def element(w: Writer, mem: Tensor, at: Index, lanes: int) -> V:
    """A code, or `lanes` neighbouring columns of a scale or zero."""
    records = mem.records
    assert isinstance(records, Records)
    f = w.f
    if len(at) == 3:  # of a stack of matrices
        at = f.plus(f.times(at[0], mem.shape[1]), at[1]), at[2]
    block, column = f.divided(at[0], COLUMNS)
    if mem.component != "codes":
        offset = records.inline_offset(mem.component)
        size = numbers.item(mem.dtype)
        place = w.address(mem.at, (block, at[1], column, 1),
                          (records.block_bytes, records.record_bytes, size, offset))  # fmt: skip
        return numbers.load(f, mem.dtype, place, lanes)
    record, rest = f.divided(at[1], records.depth)
    unit, within = f.divided(rest, records.unit)
    pair, half = f.divided(within, 2)
    sizes = (records.block_bytes, records.record_bytes, records.unit_bytes, 4, 2)
    start = w.address(mem.at, (block, record, unit, column, half), sizes)
    code: V | None = None
    for plane in records.planes:
        word, j = f.divided(pair, plane.codes)
        place = w.address(start, (word, 1), (4 * COLUMNS, records.plane_offset(plane)))
        away = f.convert("trunc", f.number(f.times(j, plane.bits)), "i32")
        field = f.binary("lshr", f.convert("zext", f.load("i16", 1, place), "i32"), away)
        field = f.binary("and", field, constant("i32", (1 << plane.bits) - 1))
        field = f.binary("shl", field, constant("i32", plane.low))
        code = field if code is None else f.binary("or", code, field)
    assert code is not None
    return numbers.from_bits(f, mem.dtype, code)


def in_rows(mem: Tensor, places: Sequence[Any]) -> bool:
    """Whether the columns of a vector of an inline component are neighbours."""
    *outer, first, last = places
    return (
        mem.component != "codes"
        and isinstance(first, Coordinates)
        and first.multiple % LANES == 0
        and not any(isinstance(p, Coordinates) or p.shape for p in (*outer, last))
    )


@dataclass(frozen=True)
class Panel:
    """A step of a product's second operand in a stream: blocks of 64 columns, whole units of k."""

    records: Records
    at: V  # the first unit of the first block
    k: Number
    values: tuple[float, ...]  # what each code stands for in the product
    away: tuple[Number, ...]  # bytes from the first block to each

    @property
    def deep(self) -> int:
        """What k is padded to a multiple of."""
        return self.records.unit

    @property
    def codes(self) -> DType:
        """The element type of the codes."""
        assert self.records.codes is not None
        return self.records.codes

    def beside(self, f: Function, at: V, column: int) -> V:
        """An address in the first block, in the block of a column. Columns beyond the last block
        are those of the last: they are padding."""
        return f.pointer(at, self.away[min(column // COLUMNS, len(self.away) - 1)])


def in_blocks(records: Records, n: Coordinates) -> str:
    """What would make the columns of a tile whole blocks of 64, or nothing if they are."""
    if n.multiple % COLUMNS == 0 or records.n <= n.multiple:
        return ""
    return f"a multiple of {COLUMNS} columns a tile, not {n.multiple}"


def blocks(w: Writer, records: Records, n: Coordinates) -> tuple[V, tuple[Number, ...]]:
    """The number of the first block of 64 columns of a tile, and how far on each of them is. Those
    behind the last block that there is are that one."""
    f = w.f
    known = n.size if isinstance(n.size, int) else 0
    count = -(-max(known, min(n.multiple, records.n)) // COLUMNS)
    first = f.number(f.divided(n.start, COLUMNS)[0])
    surely = records.blocks % count == 0 and n.multiple >= count * COLUMNS
    if count in (1, records.blocks) or surely:
        return first, tuple(range(count))
    last = f.plus(records.blocks - 1, f.times(first, -1))
    return first, (0, *(f.least(i, last) for i in range(1, count)))


def scattered(records: Records, n: Coordinates, k: Coordinates) -> str:
    """What would make a step at these coordinates lie in one piece, or nothing if it does."""
    if missing := in_blocks(records, n):
        return missing
    divides = records.depth % k.multiple == 0 or records.groups == 1
    inside = divides and k.multiple % records.unit == 0
    if inside or k.multiple == records.depth or records.k <= k.multiple <= records.depth:
        return ""
    return (
        f"a step of k that is the group of {records.depth}, or that divides it and is a "
        f"multiple of {records.unit}, not {k.multiple}"
    )


def panel(w: Writer, mem: Tensor, n: Coordinates, k: Coordinates, values: Array) -> Panel:
    """The step at these coordinates, which lies in one piece."""
    records = mem.records
    assert isinstance(records, Records)
    f = w.f
    block, numbers_ = blocks(w, records, n)
    record, rest = f.divided(k.start, records.depth)
    unit, _ = f.divided(rest, records.unit)
    sizes = (records.block_bytes, records.record_bytes, records.unit_bytes)
    away = tuple(f.times(i, records.block_bytes) for i in numbers_)
    return Panel(records, w.address(mem.at, (block, record, unit), sizes), k.size,
                 tuple(values.tolist()), away)  # fmt: skip


class Words:
    """The words of units for one vector of columns, each loaded when it is first used."""

    def __init__(self, w: Writer, p: Panel, units: Sequence[V], first: int) -> None:
        self.w, self.panel, self.records, self.units = w, p, p.records, units
        self.first = first
        self.loaded: dict[tuple[Plane, int], V] = {}

    def __call__(self, plane: Plane, i: int) -> V:
        if (plane, i) not in self.loaded:
            unit, word = divmod(i, self.records.words(plane))
            column = word * COLUMNS + self.first % COLUMNS
            offset = self.records.plane_offset(plane) + column * 4
            start = self.panel.beside(self.w.f, self.units[unit], self.first)
            at = self.w.f.pointer(start, offset)
            self.loaded[plane, i] = self.w.f.load("i32", self.w.lanes, at, 4)
        return self.loaded[plane, i]


@dataclass(frozen=True)
class Round:
    """What a decoder reads at once: some units of a panel."""

    number: V
    units: tuple[V, ...]  # their addresses


class Rounds:
    """A decoder's way through a panel, `per` units at once; `offset` is in every decoded value."""

    offset = 0

    def __init__(self, w: Writer, p: Panel, per: int = 1) -> None:
        self.w, self.panel, self.per = w, p, per

    @property
    def deep(self) -> int:
        """k's of a round."""
        return self.per * self.panel.deep

    @property
    def count(self) -> Number:
        """How many rounds the step has."""
        return self.w.f.divided(self.w.f.plus(self.panel.k, self.deep - 1), self.deep)[0]

    def loop(self, init: Sequence[V], body: Callable[[Round, list[V]], list[V]],
             columns: Sequence[int]) -> list[V]:  # fmt: skip
        """carried = body(round, carried) for every round; the last carried values.

        The body decodes the vectors that begin at these columns.
        """
        self.fetch_numbers(self.panel.at, columns)
        return self.w.f.carry(0, self.count, 1, init, lambda i, c: body(self._round(i), c))

    def fetch_numbers(self, record: V, columns: Sequence[int]) -> None:
        """Ask for the scales and zeros behind the codes of a record further on, where a step is a
        whole record: nothing else asks for their lines."""
        records = self.panel.records
        first = records.units * records.unit_bytes
        if records.codes is None or self.panel.k != records.depth:
            return
        for column in columns:
            if column % COLUMNS or column // COLUMNS >= len(self.panel.away):
                continue
            start = self.panel.beside(self.w.f, record, column)
            for offset in range(first, records.record_bytes, LINE):
                self.w.ask_ahead(start, offset)

    def _round(self, number: V) -> Round:
        """The round of a number. A unit beyond the last is the last: there the other operand has
        zeros."""
        w, p = self.w, self.panel
        first = w.f.times(number, self.per)
        places = [w.f.plus(first, i) for i in range(self.per)]
        if self.per > 1:
            count, _ = w.f.divided(w.f.plus(p.k, p.deep - 1), p.deep)
            if not (isinstance(count, int) and count % self.per == 0):
                places = [w.f.least(w.f.plus(count, -1), i) for i in places]
        sizes = (p.records.unit_bytes,)
        return Round(number, tuple(w.address(p.at, (i,), sizes) for i in places))

    def words(self, of: Round, first: int) -> Words:
        """The words of a round, for the columns from `first` on."""
        return Words(self.w, self.panel, of.units, first)

    def vectors(self, of: Round, first: int) -> Callable[[int], tuple[V, ...]]:
        """The decoded vectors of each step of a round, for the columns from `first` on."""
        words = self.words(of, first)
        return lambda t: self.step(words, t)

    def step(self, words: Words, t: int) -> tuple[V, ...]:
        """The t-th vectors of a round."""
        raise NotImplementedError

    def fetch(self, of: Round, part: int, parts: int, column: int) -> None:
        """Ask for some of the lines of a round further on in the stream of a column's block, where
        that is the block's first: one part of several.

        Spread over a round's work, so that no more lines are awaited at once than there are
        buffers.
        """
        lines = self.per * self.panel.records.unit_bytes // LINE
        if column % COLUMNS or column // COLUMNS >= len(self.panel.away):
            return
        start = self.panel.beside(self.w.f, of.units[0], column)
        for line in range(part * lines // parts, (part + 1) * lines // parts):
            self.w.ask_ahead(start, LINE * line)


class Decoder(Rounds):
    """Vectors of decoded pairs of a unit: `pack` 2 as bf16 pairs, 1 as two vectors of floats."""

    def __init__(self, w: Writer, p: Panel, pack: int) -> None:
        super().__init__(w, p)
        self.pack, self.codes, self.values = pack, p.codes, list(p.values)
        self.mid = middle(p.codes, np.asarray(p.values))
        codes, self.planes = p.codes, p.records.planes
        small = codes.bits <= 7 or not codes.is_integer  # bytes convert as fast
        wide = "avx512bw" in w.features and w.lanes == LANES
        self.table = wide and small and exact_in_bf16(self.values)
        self.floats = wide and codes.bits <= 5 and not codes.is_integer

    def step(self, words: Words, t: int) -> tuple[V, ...]:
        """The t-th pair of k: (bf16 pairs as i32,) or (floats of even k, floats of odd k)."""
        f = self.w.f
        if not self.table:
            even, odd = (self._converted(words, t, half) for half in (0, 1))
            if self.pack == 1:
                return even, odd
            low = f.binary("lshr", f.recast(even, "i32", self.w.lanes), _splat(self.w, 16))
            return (f.binary("or", low, f.recast(odd, "i32", self.w.lanes)),)
        both = f.recast(self._looked_up(words, t), "i32", self.w.lanes)
        if self.pack == 2:
            return (both,)
        even = f.binary("shl", both, _splat(self.w, 16))
        odd = f.binary("and", both, _splat(self.w, -65536))
        return f.recast(even, "float", self.w.lanes), f.recast(odd, "float", self.w.lanes)

    def _looked_up(self, words: Words, t: int) -> V:
        """Both halves of every lane through a table; it repeats, so that higher bits may be set."""
        f, bits = self.w.f, self.codes.bits
        index: V | None = None
        for plane in self.planes:
            word, j = divmod(t, plane.codes)
            away = plane.bits * j - plane.low
            field = f.recast(words(plane, word), "i16", 2 * LANES)
            if away:
                amount = constant("i16", abs(away), 2 * LANES)
                field = f.binary("lshr" if away > 0 else "shl", field, amount)
            if index is None:
                index = field
                continue
            mask = (1 << plane.low) - 1
            low = f.binary("and", index, constant("i16", mask, 2 * LANES))
            high = f.binary("and", field, constant("i16", ~mask, 2 * LANES))
            index = f.binary("or", low, high)
        assert index is not None
        return permuted(f, bf16_bits(self.values), bits, index)

    def _converted(self, words: Words, t: int, half: int) -> V:
        """One half of every lane as floats: by shifts, and what turns a code into a float."""
        w, f, codes = self.w, self.w.f, self.codes
        code: V | None = None
        for plane in self.planes:
            word, j = divmod(t, plane.codes)
            away = 16 * half + plane.bits * j - plane.low
            field = f.binary("lshr" if away >= 0 else "shl", words(plane, word),
                             _splat(w, abs(away)))  # fmt: skip
            if code is None:
                code = field
                continue
            low = (1 << plane.low) - 1
            code = f.binary("or", f.binary("and", code, _splat(w, low)),
                            f.binary("and", field, _splat(w, ~low)))  # fmt: skip
        assert code is not None
        if self.floats:  # to which no higher bits matter
            return self._floats(code)
        code = f.binary("and", code, _splat(w, (1 << codes.bits) - 1))
        if not codes.is_integer:
            return numbers.from_bits(f, codes, code)
        whole = numbers.wrap(f, codes, code) if codes.kind == "int" else code
        if self.mid:
            whole = f.binary("sub", whole, _splat(w, self.mid))
        return f.convert("sitofp", whole, "float")

    def _floats(self, code: V) -> V:
        """Codes of at most 5 bits in i32 lanes through a table of floats."""
        f = self.w.f
        table = [*self.values, *self.values] if len(self.values) <= 16 else list(self.values)
        table = table * (32 // len(table))
        low, high = vector("float", table[:LANES]), vector("float", table[LANES:])
        return f.call("llvm.x86.avx512.vpermi2var.ps.512", "float", LANES, low, code, high)


def permuted(f: Function, table: list[int], bits: int, index: V) -> V:
    """The entries at the low bits of every 16-bit lane, of a table in 16 bits."""
    if bits <= 5:
        entries = vector("i16", table * (32 >> bits))
        return f.call("llvm.x86.avx512.permvar.hi.512", "i16", 2 * LANES, entries, index)
    half = len(table) // 2
    if bits == 6:
        low, high = vector("i16", table[:half]), vector("i16", table[half:])
        name = "llvm.x86.avx512.vpermi2var.hi.512"
        return f.call(name, "i16", 2 * LANES, low, index, high)
    low = permuted(f, table[:half], bits - 1, index)
    top = f.binary("and", index, constant("i16", 1 << bits - 1, 2 * LANES))
    if all(a ^ b == -0x8000 for a, b in zip(table[:half], table[half:], strict=True)):
        sign = f.binary("shl", top, constant("i16", 16 - bits, 2 * LANES))
        return f.binary("xor", low, sign)
    high = permuted(f, table[half:], bits - 1, index)
    zero = constant("i16", 0, 2 * LANES)
    return f.select(f.compare("icmp eq", top, zero), low, high)


def _splat(w: Writer, value: int) -> V:
    return constant("i32", value, w.lanes)


def middle(t: DType, values: Array) -> int | None:
    """The whole number that is taken from every code, none from codes that are no integers; None
    where the values are made of the codes in another way."""
    own = from_raw(t, np.arange(1 << t.bits)).astype(np.float64)
    known = np.isfinite(own)
    first = int((own[known] - values[known])[0])
    same = np.array_equal(own - first, values, equal_nan=True)
    return first if same and (t.is_integer or not first) else None


def exact_in_bf16(x: list[float]) -> bool:
    """Whether all these numbers are bf16s."""
    return bool(np.array_equal(bf16.round(np.asarray(x)), x, equal_nan=True))


def bf16_bits(x: list[float]) -> list[int]:
    """The bits of numbers that are bf16s, as signed i16s."""
    return (np.asarray(x, np.float32).view(np.int32) >> 16).tolist()
