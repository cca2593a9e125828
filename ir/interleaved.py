"""Interleaved words: a step of k of a row of codes, whose parts lie beside each other in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.bits import raw
from tilec.ir.dtype import Array, DType, u16

WORD = u16


@dataclass(frozen=True)
class Interleaved:
    """Codes[N, K] as 16-bit words[N, K * bits / 16], row by row.

    A step of `step` codes is cut into as many parts as a word has codes; word c of the step holds
    number c of every part, the first in the lowest bits. So field j of neighbouring words is a run
    of codes, and no element changes places when words are decoded.
    """

    codes: DType
    step: int

    @property
    def fields(self) -> int:
        """How many codes a word has."""
        return WORD.bits // self.codes.bits

    @staticmethod
    def fits(codes: DType, step: int, k: int) -> bool:
        """Whether words are full, and steps whole."""
        return WORD.bits % codes.bits == 0 and k % step == 0 == step * codes.bits % WORD.bits

    def words(self, codes: Array) -> Array:
        """The words of codes[N, K] in their carrier."""
        n, k = codes.shape
        parts = raw(self.codes, codes).astype(np.uint16)
        parts = parts.reshape(n, k // self.step, self.fields, -1)
        shifts = (np.arange(self.fields, dtype=np.uint16) * self.codes.bits)[:, None]
        return np.bitwise_or.reduce(parts << shifts.astype(np.uint16), axis=2).reshape(n, -1)

    def pack(self, codes: Array) -> Array:
        """The bytes of codes[N, K] in their carrier."""
        return self.words(codes).view(np.uint8).reshape(-1)
