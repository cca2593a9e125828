"""Structured sparsity of a matrix A: which columns its stored elements stand in.

Metadata has 4 bits for each chunk of a row. A chunk is four elements of which two are stored (two
2-bit positions), for tf32 two of which one is, for 4-bit types eight, stored and placed in pairs.
Of a quad's four lanes the selector names those that hold it (PTX ISA, 'Sparse matrix storage').
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tilec.ptx.formats import Array
from tilec.ptx.types import Type


def chunk(t: Type) -> int:
    """Elements of a chunk."""
    return 2 if t.bits == 32 else 8 if t.bits == 4 else 4


@lru_cache(maxsize=64)
def _where(t: Type, columns: int, rows: int, selector: int) -> tuple[Array, Array]:
    """The lane (of a warp) and the lowest bit of the metadata of each row and chunk."""
    chunks = columns // chunk(t)
    r, c = np.arange(rows)[:, None], np.arange(chunks)[None, :]
    if t.bits >= 16:
        quad = selector + 0 * c if chunks <= 4 else 2 * selector + c // 4
        bit = r // 8 * 16 + c % 4 * 4
    else:
        quad = r // 8 + (2 * selector + 0 * c if chunks <= 8 else 2 * (c // 8))
        bit = c % 8 * 4 + 0 * r
    lane = r % 8 * 4 + quad
    return np.broadcast_to(lane, (rows, chunks)), np.broadcast_to(bit, (rows, chunks))


def codes(words: Array, t: Type, columns: int, selector: int) -> Array:
    """The metadata of every row (16) and chunk from warps x lanes: warps x rows x chunks."""
    lane, bit = _where(t, columns, 16, selector)
    return words[:, lane] >> bit.astype(np.uint32) & np.uint32(15)


def broken(code: Array, t: Type, ordered: bool) -> Array:
    """Which metadata has no meaning; ordered metadata must also ascend."""
    if t.bits == 32:
        return (code != 0b1110) & (code != 0b0100)
    first, second = code & 3, code >> 2
    return first >= second if ordered else first == second


def spread(stored: Array, code: Array, t: Type) -> Array:
    """The matrix with its zeros: warps x rows x twice the stored columns."""
    batch, rows, many = stored.shape
    dense = np.zeros((batch, rows, 2 * many))
    column: Array
    if t.bits == 32:
        column = np.add(np.arange(0, 2 * int(many), 2), np.equal(code, 0b1110))
    else:
        unit = 2 if t.bits == 4 else 1
        pair = np.stack([code & 3, code >> 2], axis=-1).astype(np.int64)
        start = np.arange(0, 4 * int(code.shape[-1]), 4)
        place = np.add(start[:, None], pair).reshape(batch, rows, many // unit, 1)
        column = np.add(place * unit, np.arange(unit)).reshape(batch, rows, many)
    np.put_along_axis(dense, column, stored, axis=2)
    return dense
