"""Rows of bf16 as whole numbers of three digits to the base 256, for products of bytes with codes.

Where a processor multiplies bytes much faster than floats, a few rows times codes that are whole
numbers are three products of bytes, one for each digit, and exact sums of them:

    x = unit * (d0 + 256 * d1 + 65536 * d2), digits from -128 to 127, one unit for a row and step

The unit is 2**-21 times the power of two in the greatest number of the row's step. So numbers down
to 2**-14 of that are exact, and what is rounded of smaller ones is less than rounding sums of f32.
Rows with numbers that are not finite, or that are all too small, have the unit NaN: floats multiply
those.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tilec.codegen.cpu.atoms import QUADS, Atom, Rows, pairs
from tilec.codegen.cpu.llvm import Number, V, constant
from tilec.codegen.cpu.quads import BYTES_OF_VECTOR, Quads, unsigned
from tilec.codegen.cpu.registers import RegisterTile
from tilec.codegen.cpu.stream import Panel, Round
from tilec.codegen.cpu.tiles import Lazy, Writer

COUNT = 3  # digits
FRACTION = 21  # bits of the greatest number behind its first one
BEHIND = 8 * COUNT  # bytes behind the digits of a row: the unit of each digit, and their sums
SIDE = 4  # rows, each with a sum for every digit of two vectors
MOST, MOST_LOOKED_UP = 16, 8  # rows; where a table has the numbers of codes
HALVES = 4  # values may be whole numbers times 2**-HALVES
LEAST, TOP = 1 + FRACTION + HALVES, 254  # exponents of f32 that the greatest number may have


class _Digits(Atom):
    """Rows of k with three digits: all first ones, all second ones, all third ones, and BEHIND."""

    def bytes(self, k: int) -> int:
        """Bytes of a row of so many values of k."""
        return COUNT * k + BEHIND


DIGITS = _Digits("i32", 4)


@dataclass(frozen=True)
class Whole:
    """A first operand as digits, and the panel whose values times 2**shift are whole numbers."""

    rows: Rows
    panel: Panel
    shift: int

    @property
    def deep(self) -> int:
        """Bytes of a digit of a row."""
        return (self.rows.stride - BEHIND) // COUNT


def pays(w: Writer) -> bool:
    """Whether products of three digits are faster than those of floats.

    On Emerald Rapids a product of 64 bytes takes half a cycle, one of 32 bf16 two (measured), and
    16 floats half of one and the decoding of 16 codes. Before there were products of bf16 it is the
    same. On Zen 4 and 5 those take one and half a cycle, and are as fast.
    """
    return w.lanes == 16 and w.features >= QUADS and not pairs(w.cpu, w.features)


def whole(panel: Panel, rows: int) -> tuple[Panel, int] | None:
    """A panel of values times 2**shift that are whole numbers of 8 bits, if there is one and it
    pays for so many rows.

    They are multiplied some at a time, each time with codes that are decoded anew: by a table that
    is no faster for 16 rows (emeraldrapids: 0.9 times; 1.06 to 1.25 without one, and 1.0 for 64).
    """
    for shift in range(HALVES + 1):
        values = np.asarray(panel.values) * 2.0**shift
        way = unsigned(values)
        if way is not None:
            most = MOST_LOOKED_UP if way.table else MOST
            return (replace(panel, values=tuple(values.tolist())), shift) if rows <= most else None
    return None


def side(rows: int) -> RegisterTile:
    """The register tile of a product of so many rows: 12 sums at least, 24 at most, of which each
    number of a row is multiplied with as many vectors as there is room for."""
    return RegisterTile(min(rows, SIDE), 4 if rows == 1 else 2)


def pack_rows(w: Writer, a: Lazy, to: Rows) -> None:
    """A tile of floats as rows of digits; behind its k's a row has zeros."""
    f, (rows, k) = w.f, a.shape
    deep = (to.stride - BEHIND) // COUNT

    def row(m: V) -> None:
        line = to.row(w, m)
        if k != deep:
            zeros = constant("i8", 0, w.lanes)
            f.loop(0, COUNT * deep, w.lanes, lambda i: f.store(zeros, f.pointer(line, i)))
        top = _greatest(w, a, m, k)
        usual = f.binary("sub", top, constant("i32", LEAST))
        usual = f.compare("icmp ule", usual, constant("i32", TOP - LEAST))
        top = f.select(usual, top, constant("i32", 127))
        scale = f.binary("shl", f.binary("sub", constant("i32", 254 + FRACTION), top),
                         constant("i32", 23))  # fmt: skip
        times = f.splat(f.convert("bitcast", scale, "float"), w.lanes)
        sums = _digits(w, a, (m, k), times, (line, deep))
        first = f.binary("shl", f.binary("sub", top, constant("i32", FRACTION)),
                         constant("i32", 23))  # fmt: skip
        unit = f.select(usual, f.convert("bitcast", first, "float"), constant("float", np.nan))
        behind = f.pointer(line, COUNT * deep)
        for i, total in enumerate(sums):
            f.store(f.binary("fmul", unit, constant("float", 256.0**i)), f.pointer(behind, 4 * i))
            total = f.call(f"llvm.vector.reduce.add.v{w.lanes}i32", "i32", 1, total)
            f.store(total, f.pointer(behind, 4 * (COUNT + i)))

    f.loop(0, rows, 1, row)


def _greatest(w: Writer, a: Lazy, m: V, k: Number) -> V:
    """The greatest exponent of a row, as f32 have it; that of 1 if all numbers are 0."""
    f = w.f

    def larger(i: V, c: list[V]) -> list[V]:
        bits = f.convert("bitcast", f.intrinsic("fabs", a.at((m, i), w.lanes)), "i32")
        return [f.intrinsic("umax", c[0], bits)]

    (most,) = f.carry(0, k, w.lanes, [constant("i32", 0, w.lanes)], larger)
    top = f.call(f"llvm.vector.reduce.umax.v{w.lanes}i32", "i32", 1, most)
    none = f.compare("icmp eq", top, constant("i32", 0))
    return f.select(none, constant("i32", 127), f.binary("lshr", top, constant("i32", 23)))


def _digits(w: Writer, a: Lazy, at: tuple[V, Number], times: V, to: tuple[V, int]) -> list[V]:
    """Write the digits of a row's numbers times some, and add up those of each place."""
    f, (m, k), (line, deep) = w.f, at, to

    def some(i: V, c: list[V]) -> list[V]:
        x = f.binary("fmul", a.at((m, i), w.lanes), times)
        rest, out = f.convert("fptosi", f.intrinsic("roundeven", x), "i32"), list[V]()
        for place in range(COUNT):
            digit = f.convert("trunc", rest, "i8")
            f.store(digit, w.address(line, (i, 1), (1, place * deep)))
            out.append(f.binary("add", c[place], f.convert("sext", digit, "i32")))
            up = f.binary("add", rest, constant("i32", 128, w.lanes))
            rest = f.binary("ashr", up, constant("i32", 8, w.lanes))
        return out

    return f.carry(0, k, w.lanes, [constant("i32", 0, w.lanes)] * COUNT, some)


def unless_usual(w: Writer, lines: Sequence[V], deep: int, usual: Callable[[], None],
                 other: Callable[[], None]) -> None:  # fmt: skip
    """Do one thing if all rows at these addresses have units, else another."""
    f = w.f
    odd = constant("i1", 0)
    for line in lines:
        unit = f.load("float", 1, f.pointer(line, COUNT * deep), 4)
        odd = f.binary("or", odd, f.compare("fcmp uno", unit, unit))
    floats, digits, done = f.labels("floats", "digits", "multiplied")
    f.branch(odd, floats, digits)
    for label, part in ((floats, other), (digits, usual)):
        f.place(label)
        part()
        f.emit(f"br label %{done}")
    f.place(done)


def sums(w: Writer, left: Whole, lines: Sequence[V], columns: Sequence[int]) -> list[V]:
    """rows @ panel in floats: a vector for each row and for the columns from each of these on."""
    f, deep = w.f, left.deep
    decoder, n = Quads(w, left.panel), len(columns)
    starts = _starts(w, lines, deep, decoder.offset)

    def one(of: Round, c: list[V]) -> list[V]:
        xs = [w.address(line, (of.number,), (decoder.deep,)) for line in lines]
        vectors = [decoder.vectors(of, column) for column in columns]
        out = list(c)
        for t in range(decoder.deep // 4):
            for column in columns:
                decoder.fetch(of, t, decoder.deep // 4, column)
            bs = [vector(t)[0] for vector in vectors]
            for i in range(len(lines) * COUNT):
                r, place = divmod(i, COUNT)
                # one after the other: beside the sums there is no room for more
                x = f.splat(f.load("i32", 1, f.pointer(xs[r], place * deep + 4 * t), 1), w.lanes)
                for v, b in enumerate(bs, i * n):
                    out[v] = _product(w, out[v], b, x)
        return out

    partial = decoder.loop([s for s in starts for _ in columns], one, columns)
    return [_joined(w, partial[r * COUNT * n + v :: n][:COUNT],
                    f.pointer(line, COUNT * deep), left.shift)
            for r, line in enumerate(lines) for v in range(n)]  # fmt: skip


def _starts(w: Writer, lines: Sequence[V], deep: int, offset: int) -> list[V]:
    """What sums start from: -offset times the sum of a row's digits of each place."""
    f, out = w.f, list[V]()
    for line in lines:
        for place in range(COUNT):
            total = f.load("i32", 1, f.pointer(line, COUNT * deep + 4 * (COUNT + place)), 4)
            out.append(f.splat(f.binary("mul", total, constant("i32", -offset)), w.lanes))
    return out if offset else [constant("i32", 0, w.lanes)] * len(out)


def _product(w: Writer, c: V, codes: V, digits: V) -> V:
    x, y = (w.f.recast(v, "i8", BYTES_OF_VECTOR) for v in (codes, digits))
    return w.f.call("llvm.x86.avx512.vpdpbusd.512", "i32", w.lanes, c, x, y)


def _joined(w: Writer, places: Sequence[V], units: V, shift: int) -> V:
    """The sum of all places, each times its unit."""
    f, out = w.f, None
    for i, v in enumerate(places):
        unit = f.load("float", 1, f.pointer(units, 4 * i), 4)
        if shift:
            unit = f.binary("fmul", unit, constant("float", 2.0**-shift))
        number, unit = f.convert("sitofp", v, "float"), f.splat(unit, w.lanes)
        out = f.binary("fmul", number, unit) if out is None \
            else f.intrinsic("fma", number, unit, out)  # fmt: skip
    assert out is not None
    return out
