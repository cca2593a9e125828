"""Reductions along one axis, and the matrix product, also of batches."""

from __future__ import annotations

import numpy as np

from tilec.ir.core import Op, Value
from tilec.ir.dtype import Array, DType, boolean, f32, i32, i64
from tilec.ir.errors import TileError
from tilec.ir.ops.arith import computed, tile
from tilec.ir.types import Tile, Type


class Reduction(Op):
    """out[...] = the axis of a combined into one element"""

    a: Value
    axis: int

    def infer(self) -> Type:
        a = tile(self.name, self.a)
        if not 0 <= self.axis < a.rank:
            raise TileError(f"{self.name}: {a} has no axis {self.axis}")
        computed(self.name, a.dtype)
        return self.accept(Tile((*a.shape[: self.axis], *a.shape[self.axis + 1 :]), a.dtype))

    def accept(self, out: Tile) -> Tile:
        """The result's type, from the operand's without the axis."""
        if out.dtype == boolean:
            raise TileError(f"{self.name}: expected numbers, not {out.dtype}")
        return out


class Sum(Reduction, name="sum"):
    """out = sum of a along axis, exact and then rounded once"""

    def evaluate(self, a: Array) -> Array:
        return np.ascontiguousarray(a).sum(self.axis)  # in one order, however `a` lies in memory


class Max(Reduction, name="max"):
    """out = maximum of a along axis; NaN if any is NaN, and of zeros any"""

    def evaluate(self, a: Array) -> Array:
        return a.max(self.axis)


class Min(Reduction, name="min"):
    """out = minimum of a along axis; NaN if any is NaN, and of zeros any"""

    def evaluate(self, a: Array) -> Array:
        return a.min(self.axis)


class Argmax(Reduction, name="argmax"):
    """out = the first index of a's maximum along axis"""

    def accept(self, out: Tile) -> Tile:
        return Tile(out.shape, i32)

    def evaluate(self, a: Array) -> Array:
        return a.argmax(self.axis)


class Dot(Op, name="dot"):
    """out[i, j] = acc[i, j] + row_scale[i] * scale[j] * sum_k a[i, k] * b[k, j], rounded once

    Operands of more than two axes are batches: one such product for each index of the leading axes,
    without scales, and only outside of grids, where a program has whole tensors (`verify`).
    The result has acc's dtype, which the scales have too; a scale that is absent is 1. The operands
    may differ in dtype. Whole numbers of at most 8 bits are summed in i32 whatever acc is: beside
    scales it may be f32. A back end accumulates in an order of its own: it stays within
    K * eps(acc) * |row_scale| * |scale| * sum_k |a||b| of this, and equals it where every partial
    sum is exact.
    """

    a: Value
    b: Value
    acc: Value
    scale: Value | None = None
    row_scale: Value | None = None

    def infer(self) -> Type:
        a, b, acc = (tile("dot", v) for v in (self.a, self.b, self.acc))
        if a.rank < 2 or a.shape[:-2] != b.shape[:-2] or a.rank != b.rank:
            raise TileError(f"dot: expected two matrices, not {a} and {b}")
        if a.shape[-1] != b.shape[-2]:
            raise TileError(
                f"dot: the columns of {a} are not the rows of {b}",
                hint="transpose the second operand with .T" if a.shape[-1] == b.shape[-1] else "",
            )
        whole = Tile((*a.shape[:-1], b.shape[-1]), acc.dtype)
        if acc.shape != whole.shape:
            raise TileError(f"dot: the accumulator {acc} is not {whole}")
        expected = accumulator(a.dtype, b.dtype)
        beside = self.scale is not None or self.row_scale is not None
        if beside and a.rank > 2:
            raise TileError(f"dot: batches such as {a} have no scales")
        scaled = beside and whole_bytes(a.dtype, b.dtype) and acc.dtype == f32
        if acc.dtype != expected and not scaled:
            raise TileError(f"dot: {a.dtype} and {b.dtype} accumulate in "
                            f"{expected}, not {acc.dtype}")  # fmt: skip
        for scale, size in ((self.scale, acc.shape[1:]), (self.row_scale, acc.shape[:1])):
            if scale is not None and scale.type != Tile(size, acc.dtype):
                raise TileError(
                    f"dot: the scale is {scale.type}, not {Tile(size, acc.dtype)}")  # fmt: skip
        return acc

    def evaluate(self, a: Array, b: Array, acc: Array, scale: Array | None = None,
                 row_scale: Array | None = None) -> Array:  # fmt: skip
        product = np.ascontiguousarray(a) @ np.ascontiguousarray(b)
        if scale is not None:
            product = product * scale
        return acc + (product if row_scale is None else product * row_scale[:, None])


def whole_bytes(*types: DType) -> bool:
    """Whether these are all whole numbers of at most 8 bits, whose products are summed in i32."""
    return all(t.is_integer and t.bits <= 8 for t in types)


def accumulator(a: DType, b: DType) -> DType:
    """The dtype in which products of `a` and `b` are summed."""
    if boolean in (a, b):
        raise TileError("dot: expected numbers, not bool")
    computed("dot", a)
    computed("dot", b)
    if a.is_float or b.is_float:
        return max(f32, a, b, key=lambda t: t.bits if t.is_float else 0)
    return i64 if i64 in (a, b) else i32
