"""The logistic function a / (1 + exp(t)), in the form that does not overflow: sigmoid and silu.

exp(t) may be infinite, and the quotient 0. The derivative by t is -out exp(t) / (1 + exp(t)), and
that last factor is 1 - 1 / (1 + exp(t)).
"""

from __future__ import annotations

from tilec.ir.core import Op, Value
from tilec.ir.ops import arith, shape
from tilec.passes.gradient.memory import Made
from tilec.passes.gradient.rules import Writer


def exponent(op: Op, made: Made) -> Value | None:
    """t, if an op is a / (1 + exp(t))."""
    below = made.get(op.b) if isinstance(op, arith.Div) else None
    if not isinstance(below, arith.Add):
        return None
    for one, other in ((below.a, below.b), (below.b, below.a)):
        exp = made.get(other)
        if isinstance(exp, arith.Exp) and _is_one(one, made):
            return exp.a
    return None


def derivative(op: Op, d: Value, w: Writer) -> tuple[Value, Value]:
    """The gradients of a, d / (1 + exp(t)), and of t."""
    b, out = (w.wide(v) for v in (op.operands[1], op.result))
    one = w.constant(1.0, b)
    share = out if _is_one(op.operands[0], w.made) else w(arith.Div(one, b))
    rest = w(arith.Sub(one, share))
    return w.times(d, share), w(arith.Neg(w.times(w.times(d, out), rest)))


def _is_one(v: Value, made: Made) -> bool:
    op = made.get(v)
    while isinstance(op, shape.Broadcast | shape.Reshape):
        op = made.get(op.a)
    return isinstance(op, shape.Full) and op.value == 1
