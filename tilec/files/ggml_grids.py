"""What blocks of llama.cpp's grids have that others have not: fields of words, and tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from gguf import quants

from tilec.ir.dtype import Array


@dataclass(frozen=True)
class Words:
    """`count` little-endian words of `size` bytes from `at` on, `pitch` bytes apart; in each, one
    element of `width` bits at every shift: the element's bits from bit `to` on."""

    at: int
    size: int
    count: int
    pitch: int
    width: int
    shifts: tuple[int, ...]
    to: int = 0

    @property
    def _bytes(self) -> Array:
        """Where the bytes of each word are."""
        return self.at + np.arange(self.count)[:, None] * self.pitch + np.arange(self.size)

    def read(self, blocks: Array, elements: Array) -> None:
        words = (blocks[..., self._bytes].astype(np.uint32) << self._places).sum(-1)
        fields = words[..., None] >> np.array(self.shifts) & (1 << self.width) - 1
        found = fields.reshape(elements.shape) << self.to
        elements |= found.astype(elements.dtype)

    def write(self, elements: Array, blocks: Array) -> None:
        fields = elements.astype(np.int64) >> self.to & (1 << self.width) - 1
        apart = fields.reshape(*elements.shape[:-1], self.count, len(self.shifts))
        words = (apart << np.array(self.shifts)).sum(-1)
        blocks[..., self._bytes] |= (words[..., None] >> self._places & 255).astype(np.uint8)

    @property
    def _places(self) -> Array:
        """The bits of a word before each of its bytes."""
        return 8 * np.arange(self.size)


@dataclass(frozen=True)
class Table:
    """The entries that llama.cpp has for a type, in units of `unit`."""

    kind: str
    unit: int = 1

    @cached_property
    def values(self) -> Array:
        """The entries one after the other, as the `gguf` package has them."""
        found: Any = getattr(quants, self.kind)
        found.init_grid()
        return np.asarray(found.grid, np.float64).reshape(-1) / self.unit
