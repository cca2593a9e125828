"""The fragments of mma as the ISA draws them, lane by lane: an oracle without any numpy tricks."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilec.ir.dtype import Array

KINDS = {
    "f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16),
    "tf32": np.dtype(np.float32), "e4m3": np.dtype(ml_dtypes.float8_e4m3fn),
    "e5m2": np.dtype(ml_dtypes.float8_e5m2), "s8": np.dtype(np.int8), "u8": np.dtype(np.uint8),
    "f64": np.dtype(np.float64),
}  # fmt: skip
BITS = {"f16": 16, "bf16": 16, "tf32": 32, "e4m3": 8, "e5m2": 8, "s8": 8, "u8": 8, "s4": 4,
        "u4": 4, "b1": 1, "f64": 64}  # fmt: skip


def small(t: str, shape: tuple[int, ...], seed: int) -> Array:
    """Numbers that the type holds exactly and whose sums stay exact."""
    rng = np.random.default_rng(seed)
    low, high = {"b1": (0, 1), "u4": (0, 15), "s4": (-8, 7), "u8": (0, 200), "s8": (-128, 127),
                 "e5m2": (-4, 4)}.get(t, (-8, 8))  # fmt: skip
    return rng.integers(low, high, shape, endpoint=True).astype(np.float64)


def code(t: str, value: float) -> int:
    """The bits of a number in a type."""
    if t in KINDS:
        return int.from_bytes(np.array(value).astype(KINDS[t]).tobytes(), "little")
    return int(value) & ((1 << BITS[t]) - 1)


def word(t: str, values: list[float]) -> int:
    """A register: the first number lowest."""
    return sum(code(t, v) << BITS[t] * k for k, v in enumerate(values))


def left(a: Array, t: str) -> Array:
    """A matrix of 16 (or 8) rows as registers x lanes."""
    rows, depth = a.shape
    n = max(32 // BITS[t], 1)
    out: list[list[int]] = []
    for i in range(rows * depth // (32 * n)):
        row, block = (8 * (i % 2), i // 2) if rows == 16 else (0, i)
        out.append([
            word(t, [a[row + lane // 4, block * 4 * n + lane % 4 * n + h] for h in range(n)])
            for lane in range(32)
        ])  # fmt: skip
    return np.array(out, _register(t))


def _register(t: str) -> type:
    return np.uint64 if BITS.get(t) == 64 else np.uint32


def right(b: Array, t: str) -> Array:
    """A matrix of 8 columns as registers x lanes."""
    depth = b.shape[0]
    n = max(32 // BITS[t], 1)
    return np.array([
        [word(t, [b[i * 4 * n + lane % 4 * n + h, lane // 4] for h in range(n)])
         for lane in range(32)]
        for i in range(depth // (4 * n))
    ], _register(t))  # fmt: skip


def sums(c: Array, t: str) -> Array:
    """A matrix of accumulators as registers x lanes; halves go two to a register."""
    rows = c.shape[0]
    numbers = [
        [c[lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2] for lane in range(32)]
        for i in range(4 if rows == 16 else 2)
    ]
    if t == "f16":
        pairs = np.array(numbers).astype(np.float16).view(np.uint16).astype(np.uint32)
        return pairs[::2] | pairs[1::2] << np.uint32(16)
    kind = {"s32": np.int32, "f64": np.float64}.get(t, np.float32)
    return np.array(numbers).astype(kind).view(_register(t))


def metadata(kept: Array, t: str, selector: int) -> Array:
    """Metadata words of 32 lanes for the positions of stored elements: rows x chunks x 1 or 2."""
    words = [0] * 32
    rows, chunks, _ = kept.shape
    for r in range(rows):
        for c in range(chunks):
            if t == "tf32":
                bits = 0b1110 if kept[r, c, 0] else 0b0100
            else:
                bits = int(kept[r, c, 0]) | int(kept[r, c, 1]) << 2
            if BITS[t] >= 16:
                lane = selector if chunks <= 4 else 2 * selector + c // 4
                shift = r // 8 * 16 + c % 4 * 4
            else:
                lane = r // 8 + (2 * selector if chunks <= 8 else 2 * (c // 8))
                shift = c % 8 * 4
            words[r % 8 * 4 + lane] |= bits << shift
    return np.array(words, np.uint32)


def compressed(t: str, m: int, k: int, seed: int) -> tuple[Array, Array, Array]:
    """A sparse matrix, its stored half, and the positions of what is stored."""
    rng = np.random.default_rng(seed)
    values = small(t, (m, k // 2), seed)
    if t == "tf32":
        kept = rng.integers(0, 2, (m, k // 2, 1))
        column = np.arange(k // 2) * 2 + kept[:, :, 0]
    else:
        unit = 2 if BITS[t] == 4 else 1
        chunks = k // (4 * unit)
        kept = np.sort(
            np.array([[rng.choice(4, 2, False) for _ in range(chunks)] for _ in range(m)]), axis=2
        )
        column = (np.arange(chunks)[:, None] * 4 + kept).reshape(m, -1, 1) * unit
        column = (column + np.arange(unit)).reshape(m, -1)
    dense = np.zeros((m, k))
    for r in range(m):
        dense[r, column[r]] = values[r]
    return dense, values, kept
