"""The matrix product of codes with scales, which some matrix units compute as they lie."""

from __future__ import annotations

import numpy as np

from tilec.ir.core import Func, Op, Value
from tilec.ir.dtype import Array, f32
from tilec.ir.errors import TileError
from tilec.ir.extent import ceil_div
from tilec.ir.ops.arith import tile
from tilec.ir.ops.cast import Bitcast
from tilec.ir.ops.memory import Load
from tilec.ir.ops.shape import Transpose
from tilec.ir.types import Tile, Type

FP8 = ("e4m3", "e5m2")
CODES = (*FP8, "e2m1")
SCALES = {"e8m0": 32, "e4m3": 16}  # the codes along k that share a scale
SIDES = (128, 64, 16)  # the least rows, k's and columns that units have instructions for


class ScaledDot(Op, name="scaled_dot"):
    """out[i, j] = acc[i, j] + sum_k a[i, k] * a_scale[i, g] * b[k, j] * b_scale[j, g], rounded once

    g is k // 32 for scales in e8m0 (OCP MX) and k // 16 for e4m3 (NVFP4, whose codes are e2m1);
    scales are not negative. Each b_scale stands in the row of its column of b, as in memory.
    A back end accumulates in f32 in an order of its own: it stays within K * eps(f32) * sum_k of
    the products' magnitudes of this, and equals it where every partial sum is exact.
    """

    a: Value
    a_scale: Value
    b: Value
    b_scale: Value
    acc: Value

    def infer(self) -> Type:
        a, b, acc = (tile("scaled_dot", v) for v in (self.a, self.b, self.acc))
        if a.rank != 2 or b.rank != 2:
            raise TileError(f"scaled_dot: expected two matrices, not {a} and {b}")
        if a.shape[1] != b.shape[0]:
            raise TileError(f"scaled_dot: the columns of {a} are not the rows of {b}")
        if acc != Tile((a.shape[0], b.shape[1]), f32):
            raise TileError(
                f"scaled_dot: the accumulator {acc} is not {Tile((a.shape[0], b.shape[1]), f32)}"
            )
        scales = [tile("scaled_dot", v) for v in (self.a_scale, self.b_scale)]
        group = self._group(a, b, *scales)
        for scale, rows in zip(scales, (a.shape[0], b.shape[1]), strict=True):
            expected = Tile((rows, ceil_div(a.shape[1], group)), scale.dtype)
            if scale != expected:
                raise TileError(f"scaled_dot: the scales are {scale}, not {expected}")
        return acc

    def _group(self, a: Tile, b: Tile, *scales: Tile) -> int:
        """The codes that share a scale, from the dtypes."""
        names, codes = {s.dtype.name for s in scales}, (a.dtype.name, b.dtype.name)
        if len(names) != 1 or not names <= SCALES.keys():
            raise TileError(
                f"scaled_dot: expected scales in e8m0 or e4m3, not {' and '.join(sorted(names))}"
            )
        known = CODES if names == {"e8m0"} else ("e2m1",)
        for name in codes:
            if name not in known:
                raise TileError(f"scaled_dot: beside scales in {names.pop()} expected codes in "
                                f"{', '.join(known)}, not {name}")  # fmt: skip
        return SCALES[names.pop()]

    @property
    def group(self) -> int:
        """The codes along k that share a scale."""
        return SCALES[tile("scaled_dot", self.a_scale).dtype.name]

    def evaluate(self, a: Array, a_scale: Array, b: Array, b_scale: Array, acc: Array) -> Array:
        left = a * np.repeat(a_scale, self.group, 1)[:, : a.shape[1]]
        right = b.T * np.repeat(b_scale, self.group, 1)[:, : b.shape[0]]
        return acc + np.ascontiguousarray(left) @ np.ascontiguousarray(right.T)


def taken(func: Func) -> set[Load]:
    """The loads of what products with scales take as it lies in memory, or transposed; scales may
    be read from their bits."""
    made = {v: op for op in func.walk() for v in op.results}
    found: set[Load] = set()
    for op in func.walk():
        for v in (op.a, op.a_scale, op.b, op.b_scale) if isinstance(op, ScaledDot) else ():
            maker = made.get(v)
            load = made.get(maker.a) if isinstance(maker, Transpose | Bitcast) else maker
            if isinstance(load, Load):
                found.add(load)
    return found
