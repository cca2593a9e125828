"""Elements as bits: codes of less than a byte share bytes, and arrays start at a cache line."""

from __future__ import annotations

import numpy as np

from tilec.ir.dtype import Array, DType
from tilec.ir.format import Component

LINE = 64  # bytes of a cache line, the alignment of everything stored


def aligned(size: int) -> Array:
    """That many zero bytes on a line of their own, with a line to read beyond them."""
    whole = np.zeros(size + 2 * LINE, np.uint8)
    start = -whole.ctypes.data % LINE
    return whole[start : start + size]


def raw(t: DType, x: Array) -> Array:
    """The bits of elements of at most 8, in bytes."""
    if t.is_integer:
        return (np.asarray(x).astype(np.int64) & (1 << t.bits) - 1).astype(np.uint8)
    return t.to_storage(x).view(np.uint8)


def from_raw(t: DType, codes: Array) -> Array:
    """The carriers of elements that have these bits."""
    if t.kind == "uint":
        return codes.astype(np.int64)
    if t.is_integer:
        half = np.int64(1 << t.bits - 1)
        return (codes.astype(np.int64) ^ half) - half
    return t.from_storage(np.ascontiguousarray(codes, np.uint8).view(t.numpy))


def pack_rows(t: DType, x: Array) -> Array:
    """Elements x[..., K] of less than a byte as bytes[..., ceil(K * bits / 8)].

    Little-endian: element 0 has the lowest bits of byte 0. Each row starts at a byte.
    """
    codes = raw(t, x)
    bits = np.unpackbits(codes[..., None], axis=-1, count=t.bits, bitorder="little")
    return np.packbits(bits.reshape(*codes.shape[:-1], -1), axis=-1, bitorder="little")


def unpack_rows(t: DType, packed: Array, k: int) -> Array:
    """The carriers of elements that `pack_rows` packed, K of them a row."""
    bits = np.unpackbits(packed, axis=-1, count=k * t.bits, bitorder="little")
    codes = np.packbits(bits.reshape(*packed.shape[:-1], k, t.bits), axis=-1, bitorder="little")
    return from_raw(t, codes[..., 0])


def is_packed(t: DType) -> bool:
    """Whether elements share bytes in memory."""
    return t.bits < 8 and (t.is_integer or t.kind == "code")


def stored(c: Component, x: Array) -> Array:
    """A component in its carrier as bytes on a line of their own."""
    data = pack_rows(c.dtype, np.atleast_1d(x)) if is_packed(c.dtype) else c.dtype.to_storage(x)
    flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    out = aligned(flat.size)
    out[:] = flat
    return out


def restored(c: Component, data: Array) -> Array:
    """The carriers that `stored` stored."""
    shape = tuple(int(str(d)) for d in c.shape)
    if is_packed(c.dtype):
        rows = shape or (1,)
        return unpack_rows(c.dtype, data.reshape(*rows[:-1], -1), rows[-1]).reshape(shape)
    return c.dtype.from_storage(data.view(c.dtype.numpy).reshape(shape))
