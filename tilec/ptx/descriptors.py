"""Matrix descriptors of wgmma: which shared bytes an operand is (PTX ISA, 'Matrix descriptor').

A matrix consists of units of 16 bytes. Along K for a K-major operand (M or N for the other kind)
units follow each other within a swizzled row of 128, 64 or 32 bytes, or at a stride of their own
without swizzle. The swizzle exchanges units by the address bits above them.
"""

from __future__ import annotations

import numpy as np

from tilec.ptx.formats import Array

UNIT = 16
ROW = {0: 16, 1: 128, 2: 64, 3: 32}  # bytes of a row, by the descriptor's swizzle mode
SWIZZLE = {16: 0, 32: 0x10, 64: 0x30, 128: 0x70}  # bits exchanged, by the bytes of a row


def swizzled(addresses: Array, row: int) -> Array:
    """Shared addresses after the swizzle of rows of that many bytes."""
    return addresses ^ (addresses >> 3 & SWIZZLE[row])


def fields(words: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Start, leading offset, stride offset (all in bytes), base offset, swizzle mode."""
    d = words.astype(np.int64)
    return (
        (d & 0x3FFF) << 4, (d >> 16 & 0x3FFF) << 4, (d >> 32 & 0x3FFF) << 4, d >> 49 & 7,
        d >> 62 & 3,
    )  # fmt: skip


def units(words: Array, row: int, rows: int, depth: int, transposed: bool) -> Array:
    """Shared addresses of the units of a matrix of each descriptor.

    `depth` is the bytes of a row of the matrix along K (K-major: descriptors x rows x units), or
    the number of its K steps (transposed: descriptors x K x units along the rows of 2 bytes).
    """
    start, leading, stride, _, _ = (f[:, None, None] for f in fields(words))
    if not transposed:
        r, u = np.arange(rows)[:, None], np.arange(depth // UNIT)[None, :]
        along = u * UNIT if row > UNIT else u * leading
        return swizzled(start + r // 8 * stride + r % 8 * row + along, row)
    k, u = np.arange(depth)[:, None], np.arange(rows * 2 // UNIT)[None, :]
    if row == UNIT:
        return start + u * stride + k // 8 * leading + k % 8 * UNIT
    byte = u * UNIT
    return swizzled(start + byte // row * leading + k // 8 * stride + k % 8 * row + byte % row, row)
