"""Derivatives of reductions and of the matrix product."""

from __future__ import annotations

from tilec.ir.core import Value
from tilec.ir.errors import TileError
from tilec.ir.ops import arith, reduce, shape
from tilec.ir.ops.arith import tile
from tilec.passes.gradient.rules import Given, Writer, derivative, smooth


@derivative(reduce.Sum)
def total(op: reduce.Sum, d: Value, w: Writer) -> Given:
    """d for every element"""
    return (w.stretched(d, op.axis, tile("sum", op.a).shape),)


@derivative(reduce.Max, reduce.Min)
def extreme(op: reduce.Max | reduce.Min, d: Value, w: Writer) -> Given:
    """d for the first element that is the result, as argmax has it; 0 for the others"""
    to = tile(op.name, op.a).shape
    a = op.a if isinstance(op, reduce.Max) else w(arith.Neg(op.a))
    first = w.stretched(w(reduce.Argmax(a, op.axis)), op.axis, to)
    lined = (*(1 for _ in to[: op.axis]), to[op.axis], *(1 for _ in to[op.axis + 1 :]))
    places = w(shape.Broadcast(w(shape.Reshape(w(shape.Iota(to[op.axis])), lined)), to))
    return (w.chosen(w(arith.Eq(places, first)), w.stretched(d, op.axis, to)),)


@derivative(reduce.Dot)
def dot(op: reduce.Dot, d: Value, w: Writer) -> Given:
    """d b', a' d, d"""
    if op.scale is not None or op.row_scale is not None:
        raise TileError("gradient: a product with scales has no derivative here",
                        hint="multiply by the scales outside of the product")  # fmt: skip
    left = _product(_beside(op.b, d, w), _turned(op.b, w), op.a, w) if _has(op.a) else None
    right = _product(_turned(op.a, w), _beside(op.a, d, w), op.b, w) if _has(op.b) else None
    return left, right, d


def _has(v: Value) -> bool:
    return smooth(tile("dot", v).dtype)


def _beside(other: Value, d: Value, w: Writer) -> Value:
    """The gradient as a product with another operand reads it."""
    t = tile("dot", other).dtype
    return w.cast(d, t) if w.rounded and t.is_float and t.bits == 16 else d


def _turned(v: Value, w: Writer) -> Value:
    """Every matrix transposed."""
    *lead, m, n = range(tile("dot", v).rank)
    return w(shape.Transpose(v, (*lead, n, m)))


def _product(a: Value, b: Value, of: Value, w: Writer) -> Value:
    """a b, the gradient of an operand: as (b' a')' where that is a transposed tile."""
    if isinstance(w.made.get(of), shape.Transpose):
        return _turned(_multiplied(_turned(b, w), _turned(a, w), w), w)
    return _multiplied(a, b, w)


def _multiplied(a: Value, b: Value, w: Writer) -> Value:
    x, y = tile("dot", a), tile("dot", b)
    zero = shape.Full((*x.shape[:-1], y.shape[-1]), 0, reduce.accumulator(x.dtype, y.dtype))
    return w(reduce.Dot(a, b, w(zero)))
