"""How tiles lie in rings in shared memory."""

from __future__ import annotations

from math import prod

from tilec.ir.ops.machine import Shared

SWIZZLES = (128, 64, 32)  # bytes


def widest(op: Shared, most: int) -> int:
    """The widest swizzle up to `most` bytes that the rows of a ring have; 0 if there is none."""
    rows, bits = prod(op.sizes[1:-1]), op.sizes[-1] * op.dtype.bits
    fits = [n for n in SWIZZLES if n <= most and rows % 8 == 0 and bits % (8 * n) == 0]
    return fits[0] if fits else 0
