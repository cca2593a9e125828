"""Formats that store some of a tensor's elements; all others are 0.

Values lie in a tensor of their own, in any format that holds one. An element that is not stored
adds nothing to a product, whatever it is multiplied with: 0 times infinity is 0 here.
"""

from tilec.ir.dtype import DType, f16
from tilec.ir.format import Dense, Format
from tilec.ir.sparse.bitmap import Bitmap
from tilec.ir.sparse.block import Blocks
from tilec.ir.sparse.coo import Coo
from tilec.ir.sparse.csr import Csr
from tilec.ir.sparse.indirect import Grouped, Hashed, Paged, Ragged
from tilec.ir.sparse.nm import NM, VNM, Channels
from tilec.ir.sparse.stored import Sparse

Inner = Format | DType


def nm(n: int, m: int, inner: Inner = f16) -> NM:
    """n elements of every m along the last axis: nm(2, 4), nm(1, 4, int4(group=32))."""
    return NM(_format(inner), n, m)


def vnm(v: int, n: int, m: int, inner: Inner = f16) -> VNM:
    """Of every m columns four for v rows at once, and n of these in each row: vnm(64, 2, 8)."""
    return VNM(_format(inner), v, n, m)


def channels(count: int, inner: Inner = f16) -> Channels:
    """So many columns, the same in all rows."""
    return Channels(_format(inner), count)


def block(rows: int, columns: int, inner: Inner = f16) -> Blocks:
    """Blocks that are stored whole (BSR): block(64, 64)."""
    return Blocks(_format(inner), rows, columns)


def bitmap(inner: Inner = f16) -> Bitmap:
    """A bit for every element, and those that have a 1."""
    return Bitmap(_format(inner))


def csr(inner: Inner = f16) -> Csr:
    """Elements row by row, each with the number of its column."""
    return Csr(_format(inner))


def coo(inner: Inner = f16) -> Coo:
    """Elements in a list, each with its row and column."""
    return Coo(_format(inner))


def _format(of: Inner) -> Format:
    return Dense(of) if isinstance(of, DType) else of


__all__ = [
    "NM", "VNM", "Bitmap", "Blocks", "Channels", "Coo", "Csr", "Grouped", "Hashed", "Paged",
    "Ragged", "Sparse", "bitmap", "block", "channels", "coo", "csr", "nm", "vnm",
]  # fmt: skip
