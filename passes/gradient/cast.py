"""The derivative of a cast between floats: rounding is taken for the identity."""

from __future__ import annotations

from tilec.ir.core import Value
from tilec.ir.ops import arith
from tilec.ir.ops.arith import tile
from tilec.ir.ops.cast import Cast
from tilec.passes.gradient.rules import Given, Writer, derivative, width


@derivative(Cast)
def cast(op: Cast, d: Value, w: Writer) -> Given:
    """d; 0 beyond the range of the dtype where the cast saturates, as one to codes does"""
    a = tile("cast", op.a)
    d = w.cast(d, width(a.dtype))
    if op.saturate or op.dtype.kind == "code":
        x = w.wide(op.a)
        low, high = (w.constant(float(v), x) for v in (op.dtype.low, op.dtype.high))
        inside = w(arith.And(w(arith.Le(low, x)), w(arith.Le(x, high))))
        d = w.chosen(inside, d)
    return (d, None) if op.random is not None else (d,)
