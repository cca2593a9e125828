"""Products of whole numbers of few bits as sums of products of their bits.

With x = c + sum_i u_i X_i and w = d + sum_j v_j W_j for bits X_i and W_j,

    sum_k x w = sum_ij u_i v_j #(X_i & W_j) + d sum_i u_i #X_i + c sum_j v_j #W_j + c d K,

where # counts the k of a step at which there is a one. In two's complement the greatest
bit's weight is negative and c = 0; where values are 2 apart, as bipolar ones are, c is the least
(arXiv 2106.12169 for signs and unsigned numbers, arXiv 2409.17870 for bipolar ones).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilec.ir.core import Builder, Value
from tilec.ir.dtype import Array, f32, i32, integer
from tilec.ir.ops import arith, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Shape
from tilec.passes.parts import tile

BIT = integer(1, signed=False)


@dataclass(frozen=True)
class Digits:
    """value = constant + sum_j weights[j] * (bit j of (value - constant) >> away)."""

    constant: int
    away: int
    weights: tuple[int, ...]


def digits(values: Array) -> Digits | None:
    """The binary digits of numbers, given all of them; None where they are not whole."""
    if not np.isfinite(values).all() or (values != np.rint(values)).any():
        return None
    low, high = int(values.min()), int(values.max())
    step = int(np.gcd.reduce((values - low).astype(np.int64)))
    away = (step & -step).bit_length() - 1  # the power of two in it
    if away > 0:
        bits = (high - low >> away).bit_length()
        return Digits(low, away, tuple(1 << away + j for j in range(bits)))
    if low >= 0:
        return Digits(0, 0, tuple(1 << j for j in range(high.bit_length())))
    top = max((-low - 1).bit_length(), high.bit_length())
    return Digits(0, 0, (*(1 << j for j in range(top)), -(1 << top)))


@dataclass(frozen=True)
class Factor:
    """An operand [rows, k] of a product: `read` writes the ops for it anew, in i32.

    Each bit is read for itself, so that no other has to be kept for it.
    """

    read: Callable[[Builder], Value]
    digits: Digits
    shape: Shape

    def bit(self, j: int, b: Builder) -> Value:
        """Bit j of every element."""
        d, x = self.digits, self.read(b)
        if d.constant:
            x = b(arith.Sub(x, _all(x, d.constant, b)))
        return b(Cast(b(arith.Shr(x, _all(x, d.away + j, b))), BIT))


def _all(x: Value, n: int, b: Builder) -> Value:
    """A number for every element of a tile."""
    return b(shape.Full(tile(x).shape, n, tile(x).dtype))


def product(x: Factor, w: Factor, out: Shape, b: Builder) -> Value:
    """sum_k x[i, k] * w[j, k] in i32, exactly."""
    c, d = x.digits.constant, w.digits.constant
    total = b(shape.Full(out, 0, i32))
    for i, u in enumerate(x.digits.weights):
        for j, v in enumerate(w.digits.weights):
            total = _counted(x.bit(i, b), _turned(w.bit(j, b), b), total, u * v, b)
    if d:
        rows = b(shape.Full((out[0], 1), 0, i32))
        for i, u in enumerate(x.digits.weights):
            rows = _counted(x.bit(i, b), _ones((x.shape[1], 1), b), rows, d * u, b)
        total = b(arith.Add(total, b(shape.Broadcast(rows, out))))
    if c:
        depth = b(arith.Mul(b(shape.Size(w.shape[1])), b(shape.Full((), c * d, i32))))
        columns = b(shape.Broadcast(depth, (1, out[1])))
        for j, v in enumerate(w.digits.weights):
            ones = _ones((1, w.shape[1]), b)
            columns = _counted(ones, _turned(w.bit(j, b), b), columns, c * v, b)
        total = b(arith.Add(total, b(shape.Broadcast(columns, out))))
    return total


def _turned(v: Value, b: Builder) -> Value:
    return b(shape.Transpose(v, (1, 0)))


def _ones(size: Shape, b: Builder) -> Value:
    return b(shape.Full(size, 1, BIT))


def _counted(x: Value, w: Value, total: Value, weight: int, b: Builder) -> Value:
    """total + weight * the number of k at which both are 1."""
    scale = None if weight == 1 else b(shape.Full(tile(total).shape[1:], weight, i32))
    return b(reduce.Dot(x, w, total, scale))


def onto(acc: Value, total: Value, scale: Value, row_scale: Value | None, b: Builder) -> Value:
    """acc + total * row_scale[i] * scale[j], as a product with these scales has it."""
    out = tile(acc).shape
    found = b(Cast(total, f32))
    if row_scale is not None:
        column = b(shape.Reshape(row_scale, (out[0], 1)))
        found = b(arith.Mul(found, b(shape.Broadcast(column, out))))
    return b(arith.Fma(found, b(shape.Broadcast(scale, out)), acc))
