"""The derivative of a running sum."""

from __future__ import annotations

from tilec.ir.core import Value
from tilec.ir.ops import scan
from tilec.passes.gradient.rules import Given, Writer, derivative


@derivative(scan.Cumsum)
def cumsum(op: scan.Cumsum, d: Value, w: Writer) -> Given:
    """the running sum of d from the other end"""
    return (w(scan.Cumsum(d, op.axis, not op.reverse)),)
