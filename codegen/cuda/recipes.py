"""How codes become the elements that matrix units multiply, by a few instructions for several.

A recipe says where the bits of codes are in memory (ir/fragments.py) and what is done with them.
Each way to make one is a guess, from the table of values alone; what is taken is tried on every
code at every place, so none needs a proof of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tilec.codegen.cuda.gather import Gathered, floats, gathered, wholes
from tilec.ir import words
from tilec.ir.bits import raw
from tilec.ir.dtype import Array, DType, bf16, f16, i8
from tilec.ir.fragments import Arrangement, plain
from tilec.ir.words import Const, Expr, Word, call, halves, masked, turned, twice

BYTES = 0x01010101  # one in each byte
SIGN_BITS = 0x80808080
PAIRS = (0x4140, 0x4342)  # selectors: two bytes of a word, each below one of another
ABOVE = (0x1404, 0x3424)  # each above one of the other word
BESIDE = (0x5140, 0x7362)  # two bytes of a word, each below that of the other word
TABLE = 4  # bits of a code that is looked up
SIGNS = 0xBA98  # selector: the highest bit of each byte, eight times


@dataclass(frozen=True)
class Codes:
    """A code's bits, the value of each, and the fields if they are a float's."""

    bits: int
    values: tuple[float, ...]
    exponent: int = 0
    mantissa: int = 0


@dataclass(frozen=True)
class Recipe:
    """Registers of elements that the words of a unit become; values are `factor` times these."""

    arrangement: Arrangement
    registers: tuple[Expr, ...]
    factor: float = 1.0

    @property
    def cost(self) -> float:
        """Instructions for a register."""
        return sum(x.takes for x in words.calls(self.registers)) / len(self.registers)


@lru_cache(maxsize=256)
def recipe(codes: Codes, t: DType, folded: bool) -> Recipe | None:
    """The cheapest recipe for elements of type t: a float of 16 bits, or of 8, or i8 or u8. With
    `folded` it may leave out a factor. None where there is none that is exact."""
    if t in (f16, bf16):
        ways = _of_floats(codes, t, folded)
    else:
        ways = _of_bytes(codes, t, folded) if t.is_integer else _of_narrow(codes, t)
    exact = (r for r in ways if _exact(r, codes, t))
    return min(exact, key=lambda r: r.cost, default=None)


def _exact(r: Recipe, codes: Codes, t: DType) -> bool:
    """Whether every code at every place becomes its value, whatever is beside it; of zeros the
    sign does not matter in a product."""
    all_ = np.arange(1 << codes.bits)[:, None]
    places = np.arange(r.arrangement.elements)
    values = np.array(codes.values)
    for given in (all_ + 0 * places, all_ + 7 * places, np.where(places % 3 == 1, all_, ~all_)):
        units = (given % len(values)).astype(np.uint32)
        registers = words.evaluate(r.registers, r.arrangement.pack(units))
        found = _elements(registers, t).reshape(units.shape)
        found = found if r.factor == 1 else found * r.factor
        if not np.array_equal(found, values[units], equal_nan=True):
            return False
    return True


def _elements(registers: Array, t: DType) -> Array:
    """The values in registers, lane by lane."""
    if t.bits == 16:
        return words.pairs(t, registers)
    lanes = np.ascontiguousarray(registers).view(t.numpy)
    return t.from_storage(lanes).astype(np.float64)


# -- 16-bit floats --


def _of_floats(codes: Codes, t: DType, folded: bool) -> Iterator[Recipe]:
    line = _line(codes)
    if line is not None:
        for base in (0, 1):
            yield from _in_mantissa(codes, line, t, base)
            yield from _by_bytes(codes, line, t, base)
    if codes.exponent and codes.bits == 1 + codes.exponent + codes.mantissa:
        yield from _shifted(codes, t, folded)
    if t == f16 and codes.bits == 8:
        two = call("f16x2_of_e4m3x2", Word(0)), call("f16x2_of_e4m3x2", turned(Word(0), 16))
        yield Recipe(plain(8), two)
    if codes.bits == TABLE:
        yield from _looked_up(codes, t)
        yield from _upper_bytes(codes, t)
        yield _both_bytes(codes, t)
    narrow = recipe(codes, f16, False) if t == bf16 else None
    if narrow is not None:
        yield Recipe(narrow.arrangement,
                     tuple(call("bf16x2_of_f16x2", x) for x in narrow.registers))  # fmt: skip


@dataclass(frozen=True)
class _Line:
    """Values at equal distances: first + step * the number that is stored for a code."""

    first: float
    step: float
    stored: tuple[int, ...]


def _line(codes: Codes) -> _Line | None:
    values = np.array(codes.values) + 0.0
    if not np.isfinite(values).all():
        return None
    distinct, stored = np.unique(values, return_inverse=True)
    steps = np.unique(np.diff(distinct))
    if len(steps) != 1:
        return None
    return _Line(float(distinct[0]), float(steps[0]), tuple(map(int, stored)))


def _in_mantissa(codes: Codes, line: _Line, t: DType, base: int) -> Iterator[Recipe]:
    """Into the last bits of a power of two whose mantissa counts by ones."""
    planes = wholes(codes.bits, 16, base, t.mantissa)
    if planes is None:
        return
    found = gathered(planes, 16, twice(t, 2.0**t.mantissa))
    registers = [_counted(x, t, line, planes[0].targets[i % len(planes[0].targets)][0])
                 for i, x in enumerate(found.registers)]  # fmt: skip
    yield Recipe(Arrangement(found.places, line.stored), tuple(registers))


def _by_bytes(codes: Codes, line: _Line, t: DType, base: int) -> Iterator[Recipe]:
    """The same of bytes, which are gathered four at a time and spread to halves."""
    planes = wholes(codes.bits, 8, base, min(8, t.mantissa), 1)
    if planes is None:
        return
    found = gathered(planes, 8)
    magic = twice(t, 2.0**t.mantissa) >> 8 & 0xFF
    registers = [_counted(call("prmt", x, magic * BYTES, pair), t, line, base)
                 for x in found.registers for pair in PAIRS]  # fmt: skip
    yield Recipe(Arrangement(found.places, line.stored), tuple(registers))


def _counted(x: Expr, t: DType, line: _Line, place: int) -> Expr:
    """The value of what was put from bit `place` on into the mantissa of 2^mantissa."""
    top, scale = 2.0**t.mantissa, line.step / 2.0**place
    if scale == 1:
        return halves(t, "sub", x, top - line.first)
    return halves(t, "fma", x, scale, line.first - scale * top)


def _shifted(codes: Codes, t: DType, folded: bool) -> Iterator[Recipe]:
    """A float's bits as those of a wider one, times a power of two."""
    if codes.exponent > t.exponent or codes.mantissa > t.mantissa:
        return
    found = gathered(floats(codes.bits, t.mantissa - codes.mantissa), 16)
    raw_, values = _values(found, codes.bits, t), np.array(codes.values)
    one = int(np.argmax(np.isfinite(values) & (values > 0)))
    power, arrangement = float(values[one] / raw_[one]), Arrangement(found.places)
    if power == 1 or (folded and t == f16):  # bf16 would be too near the least f32 without it
        yield Recipe(arrangement, found.registers, power)
    else:
        yield Recipe(arrangement, tuple(halves(t, "mul", x, power) for x in found.registers))


def _values(found: Gathered, bits: int, t: DType) -> Array:
    """What the bits of each code are as they were put."""
    units = np.repeat(np.arange(1 << bits, dtype=np.uint32)[:, None], len(found.places), 1)
    registers = words.evaluate(found.registers, Arrangement(found.places).pack(units))
    return words.pairs(t, registers)[:, 0, 0]


def _looked_up(codes: Codes, t: DType) -> Iterator[Recipe]:
    """Whole numbers of a byte, out of a table."""
    values = np.array(codes.values)
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        return
    if values.min() < i8.low or values.max() > i8.high:
        return
    found = _table(values.astype(np.int64) - int(i8.low))
    magic = twice(t, 2.0**t.mantissa) >> 8 & 0xFF
    line = _Line(float(i8.low), 1.0, ())
    yield Recipe(found.arrangement, tuple(
        _counted(call("prmt", x, magic * BYTES, pair), t, line, 0)
        for x in found.registers for pair in PAIRS
    ))  # fmt: skip


def _upper_bytes(codes: Codes, t: DType) -> Iterator[Recipe]:
    """Floats whose lower byte is 0."""
    found = _magnitudes(t.to_storage(t.round(np.array(codes.values))).view(np.uint16) >> 8)
    yield Recipe(found.arrangement, tuple(
        call("prmt", x, 0, pair) for x in found.registers for pair in ABOVE
    ))  # fmt: skip


def _both_bytes(codes: Codes, t: DType) -> Recipe:
    """Floats out of two tables, of their lower and of their upper bytes."""
    bits = t.to_storage(t.round(np.array(codes.values))).view(np.uint16)
    low, high = (_table(x) for x in (bits & 0xFF, bits >> 8))
    return Recipe(low.arrangement, tuple(
        call("prmt", x, y, pair)
        for x, y in zip(low.registers, high.registers, strict=True) for pair in BESIDE
    ))  # fmt: skip


# Of four codes the lowest three bits are selectors of prmt; the highest ones are those of bytes.
_SELECTORS = Arrangement(
    tuple((*range(4 * k, 4 * k + 3), 8 * (k % 4) + 7 - k // 4 * 4) for k in range(8))
)


def _selected() -> Iterator[tuple[Expr, Expr]]:
    """Selectors, and the word that has the highest bits in their bytes, of each four codes."""
    low = masked(Word(0), 0x77777777)
    for half in range(2):
        yield turned(low, 16 * half), turned(Word(0), 28 * half)


def _table(entries: Array) -> Recipe:
    """Bytes out of a table of 16: the highest bits choose between its halves."""
    table = [Const(int(x)) for x in entries.astype(np.uint8).view(np.uint32)]
    registers: list[Expr] = []
    for selector, highest in _selected():
        first, last = (call("prmt", *table[i : i + 2], selector) for i in (0, 2))
        registers.append(call("chosen", call("prmt", highest, highest, SIGNS), last, first))
    return Recipe(_SELECTORS, tuple(registers))


def _magnitudes(entries: Array) -> Recipe:
    """Bytes out of a table of 8, the highest bits of the codes being theirs."""
    table = [Const(int(x)) for x in entries[:8].astype(np.uint8).view(np.uint32)]
    registers = [masked(highest, SIGN_BITS, call("prmt", *table, selector))
                 for selector, highest in _selected()]  # fmt: skip
    return Recipe(_SELECTORS, tuple(registers))


# -- bytes --


def _of_narrow(codes: Codes, t: DType) -> Iterator[Recipe]:
    """Floats of a byte."""
    values = np.array(codes.values)
    if codes.bits == 8:
        yield Recipe(Arrangement(plain(8).places, tuple(map(int, raw(t, values)))), (Word(0),))
    if codes.bits == TABLE:
        yield _table(raw(t, values))
        yield _magnitudes(raw(t, values))


def _of_bytes(codes: Codes, t: DType, folded: bool) -> Iterator[Recipe]:
    values = np.array(codes.values)
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        return
    whole = values.astype(np.int64)
    if codes.bits == 8:
        stored = tuple(int(x) & 0xFF for x in whole)
        yield Recipe(Arrangement(plain(8).places, stored), (Word(0),))
        return
    if whole.min() >= 0 and whole.max() < 1 << codes.bits:
        yield _byte_fields(codes, whole, 0)
    if whole.min() < -(1 << codes.bits - 1) or whole.max() >= 1 << codes.bits - 1:
        return
    if folded:
        yield _byte_fields(codes, whole & (1 << codes.bits) - 1, 8 - codes.bits)
    half = 1 << codes.bits - 1
    found = _byte_fields(codes, whole + half, 0, SIGN_BITS)
    yield Recipe(found.arrangement, tuple(
        call("and_xor", call("minus", x, half * BYTES), 0xFFFFFFFF, SIGN_BITS)
        for x in found.registers
    ))  # fmt: skip


def _byte_fields(codes: Codes, stored: Array, place: int, magic: int = 0) -> Recipe:
    """What is stored from a bit of bytes on, which is times a power of two."""
    planes = wholes(codes.bits, 8, place, 8, 1)
    assert planes is not None
    found = gathered(planes, 8, magic)
    arrangement = Arrangement(found.places, tuple(map(int, stored)))
    return Recipe(arrangement, found.registers, 2.0**-place)
