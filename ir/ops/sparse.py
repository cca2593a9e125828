"""Elements of matrices that store some of them, and products with such matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilec.ir.core import Op, Trait, Value
from tilec.ir.dtype import Array, f32, integer, u32
from tilec.ir.errors import TileError
from tilec.ir.extent import ceil_div
from tilec.ir.format import Dense, Format
from tilec.ir.ops.arith import tile
from tilec.ir.ops.reduce import accumulator, whole_bytes
from tilec.ir.scaled import Scaled
from tilec.ir.sparse.bitmap import WORD
from tilec.ir.types import Memory, Span, Tile, Type

PLACE = integer(2, signed=False)  # of an element in its four


class Expand(Op, name="expand", traits=Trait.READS):
    """out[n, k] = values[n, ones of row n of the mask before bit k] where bit k is 1, else 0

    Bit b of mask[n, j] is for column 32 * j + b. What is outside of the matrix is 0. `start`, if
    there is one, has the number of the ones of row n before word j.
    """

    values: Value
    mask: Value
    rows: Value
    columns: Value
    start: Value | None = None

    def infer(self) -> Type:
        values, mask = self.values.type, self.mask.type
        rows, columns = self.rows.type, self.columns.type
        if not (isinstance(values, Memory) and len(values.shape) == 2):
            raise TileError(f"expand: expected a matrix of values, not {values}")
        if not isinstance(rows, Span) or not isinstance(columns, Span):
            raise TileError(f"expand: expected spans of rows and columns, not {rows}, {columns}")
        if rows.dim != values.shape[0]:
            raise TileError(f"expand: the rows run over {rows.dim}, but {values} has other ones")
        words = Memory((rows.dim, ceil_div(columns.dim, WORD)), Dense(u32))
        if mask != words:
            raise TileError(f"expand: the mask is {mask}, not {words}")
        start = words if self.start is None else self.start.type
        if not (isinstance(start, Memory) and start.shape == words.shape):
            raise TileError(f"expand: the starts are {start}, not one for each word of {words}")
        return Tile((rows.size, columns.size), values.dtype)

    @property
    def format(self) -> Format:
        """The format of the matrix of which this is a tile; its groups have columns as they are
        before those that are 0 are left out."""
        values, columns = self.values.type, self.columns.type
        assert isinstance(values, Memory)
        assert isinstance(columns, Span)
        format, dims = values.format, (columns.dim, values.shape[1])
        if not isinstance(format, Scaled) or format.block.columns is None:
            return format
        whole, part = (int(str(d)) for d in dims)
        block = replace(format.block, columns=format.block.columns * whole // part)
        return replace(format, block=block)

    def evaluate(self, values: Array, mask: Array, rows: range, columns: range,
                 start: Array | None = None) -> Array:  # fmt: skip
        bits = mask.astype(np.int64)[..., None] >> np.arange(WORD) & 1
        bits = bits.reshape(len(mask), -1)
        before = np.clip(np.cumsum(bits, 1) - bits, 0, values.shape[1] - 1)
        whole = np.where(bits, np.take_along_axis(values, before, 1), 0)
        out = np.zeros((len(rows), len(columns)), values.dtype)
        found = whole[rows.start : rows.stop, columns.start : columns.stop]
        out[: found.shape[0], : found.shape[1]] = found
        return out


class SparseDot(Op, name="sparse_dot"):
    """out[i, j] = acc[i, j] + row_scale[i] * sum_c values[i, c] * b[c // 2 * 4 + index[i, c], j]

    The first operand has two of every four columns (2:4), at places that rise; the sum is rounded
    once, and a scale that is absent is 1. It is within the bound of `dot`, and equals it where
    every partial sum is exact.
    """

    values: Value
    index: Value
    b: Value
    acc: Value
    row_scale: Value | None = None

    def infer(self) -> Type:
        values, index, b, acc = (
            tile("sparse_dot", v) for v in (self.values, self.index, self.b, self.acc)
        )
        if values.rank != 2 or b.rank != 2:
            raise TileError(f"sparse_dot: expected two matrices, not {values} and {b}")
        if index != Tile(values.shape, PLACE):
            raise TileError(f"sparse_dot: the places are {index}, not {Tile(values.shape, PLACE)}")
        if ceil_div(b.shape[0], 2) != values.shape[1]:
            raise TileError(f"sparse_dot: the columns of {values} are not half the rows of {b}")
        expected = accumulator(values.dtype, b.dtype)
        beside = self.row_scale is not None and whole_bytes(values.dtype, b.dtype)
        t = f32 if beside and acc.dtype == f32 else expected
        if acc != Tile((values.shape[0], b.shape[1]), t):
            raise TileError(f"sparse_dot: the accumulator is {acc}, not "
                            f"{Tile((values.shape[0], b.shape[1]), t)}")  # fmt: skip
        if self.row_scale is not None and self.row_scale.type != Tile(acc.shape[:1], acc.dtype):
            raise TileError(f"sparse_dot: the scale is {self.row_scale.type}, not "
                            f"{Tile(acc.shape[:1], acc.dtype)}")  # fmt: skip
        return acc

    def evaluate(self, values: Array, index: Array, b: Array, acc: Array,
                 row_scale: Array | None = None) -> Array:  # fmt: skip
        columns = np.arange(int(values.shape[1])) // 2 * 4 + index.astype(np.int64)
        whole = np.zeros((len(values), -(-len(b) // 4) * 4), values.dtype)
        np.put_along_axis(whole, columns, values, 1)
        product = whole[:, : len(b)] @ np.ascontiguousarray(b)
        return acc + (product if row_scale is None else product * row_scale[:, None])
