"""Moving rows of bytes between an array of bytes and one row per thread."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ptx.formats import Array

_CARRIER: dict[int, type[Any]] = {
    1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128,
}  # fmt: skip


def gather(memory: Array, offsets: Array, size: int) -> Array:
    """`size` bytes at every offset, as rows of uint8."""
    carrier = _CARRIER.get(size)
    if carrier is None or (offsets % size).any():
        return memory[offsets[:, None] + np.arange(size)]
    return memory.view(carrier)[offsets // size].view(np.uint8).reshape(-1, size)


def scatter(memory: Array, offsets: Array, rows: Array) -> None:
    """Rows of uint8 to every offset; of equal offsets the last wins."""
    size = rows.shape[1]
    carrier = _CARRIER.get(size)
    if carrier is None or (offsets % size).any():
        memory[offsets[:, None] + np.arange(size)] = rows
    else:
        memory.view(carrier)[offsets // size] = np.ascontiguousarray(rows).view(carrier)[:, 0]


def bounds(offsets: Array, size: int, limit: int) -> Array | None:
    """Where accesses of `size` bytes stay in `limit` bytes; None where all do."""
    if int(offsets.min()) >= 0 and int(offsets.max()) + size <= limit:
        return None
    return (offsets >= 0) & (offsets + size <= limit)
