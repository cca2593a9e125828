"""Derivatives of rankings."""

from __future__ import annotations

from tilec.ir.core import Value
from tilec.ir.ops import arith, reduce, shape
from tilec.ir.ops.arith import tile
from tilec.ir.ops.top import Argtop, Top
from tilec.passes.gradient.rules import Given, Writer, derivative


@derivative(Top)
def largest(op: Top, d: Value, w: Writer) -> Given:
    """d at the places of the largest, as argtop has them; 0 for the others"""
    of = tile("top", op.a).shape
    to = (*of, op.count)  # for each element, whether it is one of these
    first = w(shape.Reshape(w(Argtop(op.a, op.count)), (*of[:-1], 1, op.count)))
    lined = w(shape.Reshape(w(shape.Iota(of[-1])), (*(1 for _ in of[:-1]), of[-1], 1)))
    here = w(arith.Eq(w(shape.Broadcast(lined, to)), w(shape.Broadcast(first, to))))
    return (w(reduce.Sum(w.chosen(here, w.stretched(d, len(of) - 1, to)), len(of))),)
