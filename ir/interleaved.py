"""Interleaved words: a step of k of a row of codes, whose parts lie beside each other in words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np

from tilec.ir.bits import from_raw, raw
from tilec.ir.dtype import Array, DType, f16, u16

WORD = u16
SIGN = 15  # the place of a 16-bit float's sign

Places = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Interleaved:
    """Codes[..., K] as 16-bit words[..., K * bits / 16], row by row.

    A step of `step` codes is cut into as many parts as a unit has fields; unit c of the step holds
    number c of every part. So a field of neighbouring units is a run of codes, and no element
    changes places when words are decoded. A unit is one word, or several that share what is left
    of them; those stand apart in a row, the first of every unit before the second of any.
    """

    codes: DType
    step: int

    @property
    def words(self) -> int:
        """Words of a unit."""
        return self.codes.bits // gcd(self.codes.bits, WORD.bits)

    @property
    def fields(self) -> int:
        """How many codes a unit has."""
        return self.words * WORD.bits // self.codes.bits

    @staticmethod
    def fits(codes: DType, step: int, k: int) -> bool:
        """Whether units are full, and steps whole."""
        return k % step == 0 == step % Interleaved(codes, step).fields

    def columns(self, k: int) -> int:
        """Words of a row of k codes."""
        return k // self.fields * self.words

    def packed(self, codes: Array) -> Array:
        """The words of codes[..., K] in their carrier."""
        k = codes.shape[-1]
        n = codes.size // k
        parts = np.array(stored(self.codes), np.uint16)[raw(self.codes, codes)]
        parts = parts.reshape(n, k // self.step, self.fields, -1)
        out = np.zeros((n, self.words, k // self.step, self.step // self.fields), np.uint16)
        for part, bits in zip(np.moveaxis(parts, 2, 0), places(self.codes), strict=True):
            for b, place in enumerate(bits):
                word, at = divmod(place, WORD.bits)
                out[:, word] |= (part >> np.uint16(b) & np.uint16(1)) << np.uint16(at)
        return out.reshape(*codes.shape[:-1], -1)

    def pack(self, codes: Array) -> Array:
        """The bytes of codes[..., K] in their carrier."""
        return self.packed(codes).view(np.uint8).reshape(-1)


@lru_cache(maxsize=256)
def stored(codes: DType) -> tuple[int, ...]:
    """The number that stands for each code in words: its own, but of a table whose values have
    equal distances the place of its value among them."""
    every = np.arange(1 << codes.bits)
    if codes.kind == "code" and not codes.exponent:
        distinct, found = np.unique(from_raw(codes, every) + 0.0, return_inverse=True)
        if np.isfinite(distinct).all() and len(np.unique(np.diff(distinct))) == 1:
            return tuple(map(int, found))
    return tuple(range(len(every)))


@lru_cache(maxsize=256)
def places(codes: DType) -> Places:
    """The bits of each field of a unit: bit b of field f is bit places[f][b] of its words.

    Words hold as many whole codes as they can; what is left of them together holds the others. A
    float's bits are as far from each other as in a 16-bit float, if there is room.
    """
    order = Interleaved(codes, 1)
    wanted = targets(codes, f16) if codes.bits < 8 else tuple(range(codes.bits))
    found = list[tuple[int, ...]]()
    rest = list[int]()
    for word in range(order.words):
        free = set(range(WORD.bits))
        for _ in range(WORD.bits // codes.bits):
            field = _placed(wanted, free)
            free -= set(field)
            found.append(tuple(WORD.bits * word + at for at in field))
        rest += [WORD.bits * word + at for at in sorted(free)]
    for first in range(0, len(rest), codes.bits):
        found.append(tuple(rest[first : first + codes.bits]))
    return tuple(found)


def is_minifloat(codes: DType) -> bool:
    """Whether a code is a sign, an exponent and a mantissa."""
    return codes.exponent > 0 and codes.bits == 1 + codes.exponent + codes.mantissa


def targets(codes: DType, t: DType) -> tuple[int, ...]:
    """Where the bits of a code stand in a 16-bit float: those of a float of no more exponent and
    mantissa, or a whole number in the lowest bits of the mantissa."""
    lowest = t.mantissa - codes.mantissa
    if is_minifloat(codes) and lowest >= 0 and codes.exponent <= t.exponent:
        return (*range(lowest, lowest + codes.bits - 1), SIGN)
    return tuple(range(codes.bits))


def _placed(wanted: tuple[int, ...], free: set[int]) -> tuple[int, ...]:
    """Free places of a code: all its bits moved as little as can be, or all but the last."""
    moves = sorted(range(-SIGN, WORD.bits), key=abs)
    for count in (len(wanted), len(wanted) - 1):
        for by in moves:
            moved = [at + by for at in wanted[:count]]
            if free.issuperset(moved):
                left = sorted(free - set(moved), reverse=True)
                return (*moved, *left[: len(wanted) - count])
    return tuple(sorted(free)[: len(wanted)])
