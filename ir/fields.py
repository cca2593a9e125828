"""Fields of interleaved words as 16-bit floats, by a few instructions for two of them.

A register has two neighbouring words of each kind that a unit has (ir/interleaved.py), one above
the other; what is done moves no bit from one half to the other. Each way to decode is a guess from
the table of values; what is taken is tried on every code in every field, so none needs a proof
(but for bytes, whose only way a test tries).

A whole number is masked into the mantissa of a power of two, and what the power adds is taken away
(Kim et al., "Who Says Elephants Can't Run", arXiv 2211.10017). A float's bits are put where a wider
one has them, and multiplied by a power of two (FP6-LLM, arXiv 2401.14112).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np

from tilec.ir import words
from tilec.ir.bits import from_raw
from tilec.ir.dtype import Array, DType, bf16, e4m3, f16, i8
from tilec.ir.interleaved import WORD, is_minifloat, places, stored, targets
from tilec.ir.ops.packed import rest
from tilec.ir.words import Const, Expr, Word, call, halves, twice

TABLE = 4  # bits of a code that is looked up
SPREAD = 0x9D8C  # a selector: the highest bits of two words' bytes in turn, eight times each
BYTE_ONES, SIGNS = 0x01010101, 0x80808080  # one in each byte, and the highest bit
ONES = 0x00010001  # one in each half
FLOATS = (f16, bf16)
BYTES = 0x3120  # a selector: the first byte of both halves, then the second


@dataclass(frozen=True)
class Decoding:
    """Registers of two floats, one for each field of a unit, or of four bytes, of two registers of
    words; `since` is the first processor (80 for sm_80) that has the instructions."""

    registers: tuple[Expr, ...]
    since: int = 80

    @property
    def cost(self) -> float:
        """Instructions for a register."""
        return sum(x.takes for x in words.calls(self.registers)) / len(self.registers)


@lru_cache(maxsize=256)
def decodings(codes: DType, t: DType, less: int = 0, term: int = 0) -> tuple[Decoding, ...]:
    """The cheapest ways from fields to their values less a number, or to a term of them
    (ir/ops/packed.py), each for older processors than the one before; none where no way is exact.
    """
    if t == i8 and codes.is_integer and codes.bits in (1, 2, 4) and not less and not term:
        return (_in_bytes(codes),)
    if codes.bits > 8 or t not in FLOATS:
        return ()
    values = rest(from_raw(codes, np.arange(1 << codes.bits)).astype(np.float64) - less, t, term)
    ways = _looked_up(codes, t, values) if codes.bits == TABLE else iter(())
    ways = chain(ways, () if term else _ways(codes, t, less))
    found = sorted((d for d in ways if _exact(d, codes, t, values)), key=lambda d: d.cost)
    kept = list[Decoding]()
    for d in found:
        if not kept or d.since < kept[-1].since:
            kept.append(d)
    return tuple(kept)


def _exact(d: Decoding, codes: DType, t: DType, wanted: Array) -> bool:
    """Whether every code in every field becomes its value, rounded, whatever is in the others; of
    zeros the sign does not matter in a product."""
    every, fields = np.arange(1 << codes.bits)[:, None], np.arange(len(places(codes)))
    values, own = t.round(wanted), np.array(stored(codes))
    for units in (every + 0 * fields, every + 7 * fields, fields - every):
        low = units % len(every)
        high = (low + 5 * fields + 3) % len(every)
        given = _units(codes, own[low]) | _units(codes, own[high]) << np.uint32(16)
        with np.errstate(all="ignore"):
            out = words.pairs(t, words.evaluate(d.registers, given))
        if not all(np.array_equal(out[..., i], values[half], equal_nan=True)
                   for i, half in enumerate((low, high))):  # fmt: skip
            return False
    return True


def _units(codes: DType, given: Array) -> Array:
    """Words[..., words] of the bits of codes[..., fields]."""
    count = 1 + max(p // WORD.bits for bits in places(codes) for p in bits)
    out = np.zeros((len(given), count), np.uint32)
    for f, bits in enumerate(places(codes)):
        for b, place in enumerate(bits):
            word, at = divmod(place, WORD.bits)
            out[:, word] |= (given[:, f] >> b & 1).astype(np.uint32) << np.uint32(at)
    return out


def _ways(codes: DType, t: DType, less: int) -> Iterator[Decoding]:
    line = _line(codes)
    if line is not None and codes.bits <= t.mantissa:
        yield from _counted(codes, t, line, less)
    elif line is not None and codes.bits == t.mantissa + 1:
        yield from _in_two(codes, t, line, less)
    if is_minifloat(codes) and codes.exponent <= t.exponent and not less:
        yield from _shifted(codes, t)
    if codes == e4m3 and t == f16 and not less:
        x = call("prmt", Word(0), 0, BYTES)
        yield Decoding((call("f16x2_of_e4m3x2", x), call("f16x2_of_upper_e4m3x2", x)), 89)
    if t == bf16 and codes.bits == 8 and not codes.is_integer:
        for d in decodings(codes, f16, less):
            yield Decoding(tuple(call("bf16x2_of_f16x2", x) for x in d.registers), d.since)


# -- whole numbers --


@dataclass(frozen=True)
class _Line:
    """Values at equal distances: first + step * (number ^ flipped) of what stands for a code."""

    first: float
    step: float
    flipped: int


def _line(codes: DType) -> _Line | None:
    values = from_raw(codes, np.arange(1 << codes.bits)).astype(np.float64)
    for flipped in (0, 1 << codes.bits - 1):
        numbers = np.array(stored(codes)) ^ flipped
        first, second = (values[np.argmax(numbers == i)] for i in (0, 1))
        if second > first and np.array_equal(first + (second - first) * numbers, values):
            return _Line(float(first), float(second - first), flipped)
    return None


def _counted(codes: DType, t: DType, line: _Line, less: int) -> Iterator[Decoding]:
    """Into the mantissa of a power of two, as high as saves shifts and leaves room."""
    moves, registers = _Moves(), list[Expr]()
    top, room = 2.0**t.mantissa, range(t.mantissa - codes.bits + 1)
    taken = [line.step * 2.0 ** (t.mantissa - at) - line.first + less for at in room]
    fit = [at for at in room if float(t.round(np.array(taken[at]))) == taken[at]]
    for bits in places(codes) if fit else ():
        at = min(fit, key=lambda q: moves.cost(bits, range(q, q + codes.bits)))
        magic = twice(t, top) ^ (line.flipped << at) * ONES
        x = moves.moved(bits, range(at, at + codes.bits), magic)
        registers.append(halves(t, "fma", x, line.step / 2.0**at, -taken[at]))
    if registers:
        yield Decoding(tuple(registers))


def _in_two(codes: DType, t: DType, line: _Line, less: int) -> Iterator[Decoding]:
    """A number of one bit more than the mantissa: all but the highest bit in the mantissa of a
    power of two, the highest in the exponent of another, which it doubles."""
    moves, registers = _Moves(), list[Expr]()
    top, first = 2.0**t.mantissa, line.first - less
    falls = bool(line.flipped) and first == -top and line.step == 1
    for bits in places(codes):
        low = moves.moved(bits[:-1], range(codes.bits - 1), twice(t, top))
        flipped = 0 if falls else line.flipped * ONES
        high = moves.moved(bits[-1:], range(t.mantissa, t.mantissa + 1), twice(t, top) ^ flipped)
        if falls:
            registers.append(halves(t, "fma", high, -1.0, low))
            continue
        low = halves(t, "fma", low, line.step, first - 2 * line.step * top)
        registers.append(halves(t, "fma", high, line.step, low))
    yield Decoding(tuple(registers))


# -- bytes --


def _in_bytes(codes: DType) -> Decoding:
    """Of four words in two registers: bytes that have the same field of each word's halves, then
    those of one field side by side. A sign is that of a number less what its highest bit is."""
    each = 8 // codes.bits  # fields of a byte
    half = (1 << codes.bits - 1) * BYTE_ONES
    low, high = list[Expr](), list[Expr]()
    for i in range(each):
        both = list[Expr]()
        for word in (Word(0), Word(1)):
            x, mask = _shift(word, i * codes.bits), ((1 << codes.bits) - 1) * BYTE_ONES
            if codes.kind == "uint":
                both.append(call("and_or", x, mask, 0))
                continue
            above = call("and_xor", x, mask, half | SIGNS)
            less = call("plus", above, -half & 0xFFFFFFFF)
            both.append(call("and_xor", less, 0xFFFFFFFF, SIGNS))
        low.append(call("prmt", *both, 0x6420))
        high.append(call("prmt", *both, 0x7531))
    return Decoding((*low, *high))


# -- tables --


def _looked_up(codes: DType, t: DType, values: Array) -> Iterator[Decoding]:
    """Floats out of tables of 16 bytes: three bits of each field of a word select a byte of a half
    of a table, the highest one between the halves."""
    bits = t.to_storage(t.round(values)).view(np.uint16)
    low = call("and_or", Word(0), 0x77777777, 0)
    pairs = list[tuple[Expr, Expr]]()  # of each word: the floats of two fields, and of the others
    for by in (0, 16):
        # The highest bits of odd fields are those of bytes; a shift makes those of even ones that.
        odd = _shift(Word(0), by)
        mask = call("prmt", odd, _shift(odd, -4), SPREAD)
        found = [_bytes(bits >> shift & 0xFF, _shift(low, by), mask) for shift in (0, 8)]
        pairs.append((call("prmt", *found, 0x5140), call("prmt", *found, 0x7362)))
    (a, b), (c, d) = pairs
    yield Decoding(tuple(call("prmt", *both, which) for both in ((a, c), (b, d))
                         for which in (0x5410, 0x7632)))  # fmt: skip


def _bytes(entries: Array, selector: Expr, mask: Expr) -> Expr:
    """Bytes out of a table; of its second half where the mask is set."""
    table = np.ascontiguousarray(entries.astype(np.uint8)).view(np.uint32)
    first, last = (call("prmt", int(table[i]), int(table[i + 1]), selector) for i in (0, 2))
    return call("chosen", mask, last, first)


# -- floats --


def _shifted(codes: DType, t: DType) -> Iterator[Decoding]:
    """A float's bits as those of a wider one, times a power of two; a NaN that is none there is
    made one."""
    moves = _Moves()
    wanted = targets(codes, t)
    found = [moves.moved(bits, wanted, 0) for bits in places(codes)]
    values = from_raw(codes, np.arange(1 << codes.bits)).astype(np.float64)
    raised = _raised(wanted, t)
    one = int(np.argmax(np.isfinite(values) & (values > 0)))
    power = float(values[one] / raised[one])
    if power == 1:
        yield Decoding(tuple(found))
        return
    if float(t.round(np.array(power))) != power:
        return
    yield Decoding(tuple(halves(t, "fma", x, power, -0.0) for x in found))
    if codes == e4m3 and t == f16:
        body = [moves.moved(bits[:-1], wanted[:-1], 0) for bits in places(codes)]
        yield Decoding(tuple(halves(t, "fma", x, power, _nan(t, y, wanted))
                             for x, y in zip(found, body, strict=True)))  # fmt: skip


def _nan(t: DType, body: Expr, wanted: tuple[int, ...]) -> Expr:
    """NaN where all bits of a body are set, else 0: a bit that a sum carries, times infinity."""
    carried = call("plus", body, (1 << wanted[0]) * ONES)
    bit = call("and_or", carried, (1 << wanted[-2] + 1) * ONES, 0)
    return halves(t, "fma", halves(t, "fma", bit, float(t.high), -0.0), 0.0, 0.0)


def _raised(wanted: tuple[int, ...], t: DType) -> Array:
    """What the bits of each code are as they are put."""
    codes = np.arange(1 << len(wanted), dtype=np.uint32)
    out = np.zeros(len(codes), np.uint32)
    for b, at in enumerate(wanted):
        out |= (codes >> np.uint32(b) & np.uint32(1)) << np.uint32(at)
    return words.pairs(t, out)[:, 0]


class _Moves:
    """Fields that are moved within halves; what is shifted once serves for several."""

    def __init__(self) -> None:
        self.known: set[tuple[int, int]] = set()

    def cost(self, bits: tuple[int, ...], wanted: range) -> int:
        """How many shifts and masks bits take to where they are wanted."""
        runs = set(_runs(bits, wanted))
        return len(runs) + sum(by != 0 and (word, by) not in self.known for word, by in runs)

    def moved(self, bits: tuple[int, ...], wanted: tuple[int, ...] | range, magic: int) -> Expr:
        """The bits where they are wanted, over those of `magic`."""
        masks: dict[tuple[int, int], int] = {}
        for run, at in zip(_runs(bits, wanted), wanted, strict=True):
            masks[run] = masks.get(run, 0) | (1 << at) * ONES
        out: Expr = Const(magic)
        for (word, by), mask in masks.items():
            self.known.add((word, by))
            out = call("and_xor", _shift(Word(word), by), mask, out)
        return out


def _runs(bits: tuple[int, ...], wanted: tuple[int, ...] | range) -> list[tuple[int, int]]:
    """The word of each bit, and by how much it goes to the right."""
    return [(place // WORD.bits, place % WORD.bits - at)
            for place, at in zip(bits, wanted, strict=True)]  # fmt: skip


def _shift(x: Expr, by: int) -> Expr:
    if not by:
        return x
    return call("right", x, by) if by > 0 else call("left", x, -by)
