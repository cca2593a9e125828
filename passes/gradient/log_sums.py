"""The logarithm of a sum of exponentials, in the form that does not overflow."""

from __future__ import annotations

from collections.abc import Callable

from tilec.ir.core import Op, Value
from tilec.ir.ops import arith, reduce, shape
from tilec.ir.ops.arith import tile
from tilec.passes.gradient.memory import Made
from tilec.passes.gradient.rules import Writer


def log_sum_exp(op: Op, made: Made) -> reduce.Sum | None:
    """The sum of exp(s - m) if an op is m + log of it, for any m that is the same along its axis.

    The op is then log(sum(exp(s))), and its derivative exp(s - out): with that of the function
    itself there is one exponential, and no sum is needed where the op's result is kept.
    """
    if not isinstance(op, arith.Add):
        return None
    for m, other in ((op.a, op.b), (op.b, op.a)):
        log = made.get(base(other, made))
        total = made.get(base(log.a, made)) if isinstance(log, arith.Log) else None
        if isinstance(total, reduce.Sum) and shifted(total, m, made) is not None:
            return total
    return None


def derivative(op: Op, total: reduce.Sum, d: Value, w: Writer) -> tuple[Value, Value]:
    """What gets a gradient, s, and d exp(s - out)."""
    less = shifted(total, None, w.made)
    assert less is not None
    p = w(arith.Exp(w(arith.Sub(w.wide(less.a), stretched(w.wide(op.results[0]), total, w)))))
    return less.a, w.times(stretched(d, total, w), p)


def stretched(v: Value, total: reduce.Sum, write: Callable[[Op], Value]) -> Value:
    """A value of a sum's elements, repeated along the axis of the sum."""
    to, out = tile("sum", total.a).shape, tile("sum", total.result).shape
    flat = v if tile("sum", v).shape == out else write(shape.Reshape(v, out))
    one = (*to[: total.axis], 1, *to[total.axis + 1 :])
    return write(shape.Broadcast(write(shape.Reshape(flat, one)), to))


def shifted(total: reduce.Sum, m: Value | None, made: Made) -> arith.Sub | None:
    """s - m, of which a sum is of the exponentials."""
    exp = made.get(total.a)
    sub = made.get(exp.a) if isinstance(exp, arith.Exp) else None
    spread = made.get(sub.b) if isinstance(sub, arith.Sub) else None
    if not isinstance(sub, arith.Sub) or not isinstance(spread, shape.Broadcast):
        return None
    one, to = tile("sum", spread.a).shape, spread.shape
    along = len(one) == len(to) and all(
        n == (1 if i == total.axis else to[i]) for i, n in enumerate(one))  # fmt: skip
    same = m is None or base(m, made) is base(spread.a, made)
    return sub if along and same else None


def base(v: Value, made: Made) -> Value:
    """What a value is in another shape."""
    while isinstance(op := made.get(v), shape.Reshape):
        v = op.a
    return v
