"""What code for processors leaves open. A schedule fills it in; codegen reads it."""

from __future__ import annotations

from dataclasses import dataclass

LINE = 64  # bytes of a cache line
AHEAD = 8192  # bytes; nearer stalls, measured on Zen 5


@dataclass(frozen=True)
class Choices:
    """Ways to write code that computes the same.

    `ahead` is how many bytes behind what is read of a stream are asked for; 0: none are. A product
    sums up tiles of `rows` rows and `vectors` vectors in registers; 0: as the registers allow. With
    `nontemporal` 1, results go past the caches, to memory.
    """

    ahead: int = AHEAD
    rows: int = 0
    vectors: int = 0
    nontemporal: int = 0
