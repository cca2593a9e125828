"""Codes of 1 to 8 bits in int32 words, as checkpoints of integer weights store them.

The words of a row are one little-endian stream of bits, so a code may straddle two words. With
three bits that is what AutoGPTQ writes: codes 10 and 21 of every 32 straddle.
"""

from __future__ import annotations

import numpy as np

from tilec.ir.dtype import Array

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which of 8 columns each nibble of a word has


def words_of(count: int, bits: int) -> int:
    """How many words hold that many codes."""
    return -(-count * bits // 32)


def unpack_words(words: Array, bits: int) -> Array:
    """Every code [..., codes] in words [..., W], as bytes."""
    data = np.ascontiguousarray(words).view(np.uint8)
    capacity = data.shape[-1] * 8 // bits
    units = _padded(data, bits).reshape(*data.shape[:-1], -1, bits)
    unit = np.zeros(units.shape[:-1], np.uint64)
    for i in range(bits):  # 8 codes are `bits` bytes
        unit |= units[..., i].astype(np.uint64) << np.uint64(8 * i)
    codes = np.empty((*unit.shape, 8), np.uint8)
    for i in range(8):
        codes[..., i] = unit >> np.uint64(bits * i) & np.uint64((1 << bits) - 1)
    return codes.reshape(*data.shape[:-1], -1)[..., :capacity]


def pack_words(codes: Array, bits: int) -> Array:
    """The words [..., W] of codes [..., count]; what is left of the last word is 0."""
    count = codes.shape[-1]
    groups = _padded(codes, 8).reshape(*codes.shape[:-1], -1, 8)
    unit = np.zeros(groups.shape[:-1], np.uint64)
    for i in range(8):
        unit |= groups[..., i].astype(np.uint64) << np.uint64(bits * i)
    units = np.ascontiguousarray(unit).view(np.uint8).reshape(*unit.shape, 8)[..., :bits]
    data = units.reshape(*codes.shape[:-1], -1)
    size = 4 * words_of(count, bits)
    whole = np.zeros((*codes.shape[:-1], size), np.uint8)
    kept = min(size, data.shape[-1])
    whole[..., :kept] = data[..., :kept]
    return whole.view(np.int32)


def unpack_awq(words: Array) -> Array:
    """The 4-bit codes [..., 8 * W] of AWQ's words [..., W]."""
    nibbles = unpack_words(words, 4).reshape(*words.shape, 8)
    codes = np.empty_like(nibbles)
    codes[..., AWQ_ORDER] = nibbles
    return codes.reshape(*words.shape[:-1], -1)


def pack_awq(codes: Array) -> Array:
    """AWQ's words [..., W] of 4-bit codes [..., 8 * W]."""
    columns = codes.reshape(*codes.shape[:-1], -1, 8)
    return pack_words(columns[..., AWQ_ORDER].reshape(codes.shape), 4)


def _padded(x: Array, unit: int) -> Array:
    """x with zeros after it, to whole units along its last axis."""
    lacking = -x.shape[-1] % unit
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, lacking)]) if lacking else x
