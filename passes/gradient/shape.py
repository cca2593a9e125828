"""Derivatives of ops that give a tile another shape: what went to several places is summed."""

from __future__ import annotations

from tilec.ir.core import Value
from tilec.ir.extent import Extent
from tilec.ir.ops import shape
from tilec.ir.ops.arith import tile
from tilec.ir.types import Shape
from tilec.passes.gradient.rules import Given, Writer, derivative
from tilec.passes.gradient.sums import summed


@derivative(shape.Broadcast)
def broadcast(op: shape.Broadcast, d: Value, w: Writer) -> Given:
    """d summed over the dims that were added or stretched"""
    a = tile("broadcast", op.a)
    lead = len(op.shape) - a.rank
    stretched = [i + lead for i, n in enumerate(a.shape) if n == 1 and op.shape[i + lead] != 1]
    for axis in (*reversed(stretched), *reversed(range(lead))):
        d = summed(d, axis, w)
    return (d if tile("broadcast", d).shape == a.shape else w(shape.Reshape(d, a.shape)),)


@derivative(shape.Reshape)
def reshape(op: shape.Reshape, d: Value, w: Writer) -> Given:
    """d in the shape of a"""
    return (w(shape.Reshape(d, tile("reshape", op.a).shape)),)


@derivative(shape.Transpose)
def transpose(op: shape.Transpose, d: Value, w: Writer) -> Given:
    """d with its dims where they were"""
    order = sorted(range(len(op.order)), key=op.order.__getitem__)
    return (w(shape.Transpose(d, tuple(order))),)


@derivative(shape.Slice)
def cut(op: shape.Slice, d: Value, w: Writer) -> Given:
    """d, and 0 before and behind it"""
    a = tile("slice", op.a)
    behind = a.shape[op.axis] - op.stop
    parts = [*_zeros(d, op.axis, op.start, w), d, *_zeros(d, op.axis, behind, w)]
    return (d if len(parts) == 1 else w(shape.Join(tuple(parts), op.axis)),)


def _zeros(d: Value, axis: int, size: Extent, w: Writer) -> list[Value]:
    """So many zeros along an axis; nothing for none."""
    t = tile("slice", d)
    whole: Shape = (*t.shape[:axis], size, *t.shape[axis + 1 :])
    return [] if size == 0 else [w(shape.Full(whole, 0, t.dtype))]


@derivative(shape.Join)
def join(op: shape.Join, d: Value, w: Writer) -> Given:
    """the part of d that stands where each part does"""
    start: Extent = 0
    found: list[Value] = []
    for p in op.parts:
        stop = start + tile("join", p).shape[op.axis]
        found.append(w(shape.Slice(d, op.axis, start, stop)))
        start = stop
    return tuple(found)
