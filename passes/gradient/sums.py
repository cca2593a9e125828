"""Sums that gradients need, written so that less is computed and less is read.

What is the same along the axis is multiplied behind the sum. Where p v is a product of the function
that is differentiated, sum_j (d v')_ij p_ij = sum_k d_ik (p v)_ik: softmax before a product needs
this sum, and has it without another pass over the keys (Dao, "FlashAttention-2", 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce as fold

from tilec.ir.core import Value
from tilec.ir.ops import arith, reduce, shape
from tilec.ir.ops.arith import tile
from tilec.ir.ops.cast import Cast
from tilec.passes.gradient.rules import Writer


def summed(v: Value, axis: int, w: Writer) -> Value:
    """The sum of a gradient along an axis."""
    product = _Product(axis, w)
    product.take(v)
    inner = _contracted(product.factors, axis, w)
    if not product.factors or (inner is None and not product.moved):
        return w(reduce.Sum(v, axis))
    if inner is None:
        inner = w(reduce.Sum(fold(w.times, product.factors), axis))
    return product.behind(inner)


@dataclass
class _Product:
    """The factors that a gradient is made of: along an axis, and the same everywhere along it."""

    axis: int
    w: Writer
    factors: list[Value] = field(default_factory=list[Value])
    times: list[Value] = field(default_factory=list[Value])
    over: list[Value] = field(default_factory=list[Value])
    negative: bool = False

    @property
    def moved(self) -> bool:
        """Whether something can stand behind the sum."""
        return bool(self.times or self.over or self.negative)

    def take(self, v: Value) -> None:
        """Take a value apart as far as it is a product that was written for a gradient."""
        op, same = self.w.written.get(v), _without(v, self.axis, self.w)
        if same is not None:
            self.times.append(same)
        elif isinstance(op, arith.Neg):
            self.negative = not self.negative
            self.take(op.a)
        elif isinstance(op, arith.Mul):
            self.take(op.a)
            self.take(op.b)
        elif isinstance(op, arith.Div) and (by := _without(op.b, self.axis, self.w)) is not None:
            self.over.append(by)
            self.take(op.a)
        else:
            self.factors.append(v)

    def behind(self, v: Value) -> Value:
        """A sum of the factors, times the rest."""
        v = fold(self.w.times, self.times, v)
        v = fold(lambda a, b: self.w(arith.Div(a, b)), self.over, v)
        return self.w(arith.Neg(v)) if self.negative else v


def _without(v: Value, axis: int, w: Writer) -> Value | None:
    """A value that is the same along an axis, without that axis; None if it may not be."""
    op, t = w.maker(v), tile("sum", v)
    out = (*t.shape[:axis], *t.shape[axis + 1 :])
    if isinstance(op, shape.Full):
        return w(shape.Full(out, op.value, op.dtype))
    if not isinstance(op, shape.Broadcast) or t.shape[axis] == 1:
        return None
    a = tile("sum", op.a)
    at = axis - (t.rank - a.rank)
    if at >= 0 and a.shape[at] != 1:
        return None
    found = op.a if at < 0 else w(shape.Reshape(op.a, (*a.shape[:at], *a.shape[at + 1 :])))
    return found if tile("sum", found).shape == out else w(shape.Broadcast(found, out))


def _contracted(factors: list[Value], axis: int, w: Writer) -> Value | None:
    """sum_k d_ik (p v)_ik for the factors d v' and p, if the function has the product p v."""
    if len(factors) != 2 or axis != tile("sum", factors[0]).rank - 1:
        return None
    for left, p in (factors, factors[::-1]):
        dot = w.written.get(left)
        turned = w.written.get(dot.b) if isinstance(dot, reduce.Dot) else None
        if isinstance(dot, reduce.Dot) and isinstance(turned, shape.Transpose):
            found = _product(p, turned.a, w)
            if found is not None:
                d = w.wide(dot.a)
                return w(reduce.Sum(w.times(d, w.cast(found, tile("sum", d).dtype)), axis))
    return None


def _product(p: Value, v: Value, w: Writer) -> Value | None:
    """The product p v of the function; p may be rounded before."""
    for op in w.made.values():
        if isinstance(op, reduce.Dot) and op.b is v and len(op.operands) == 3:
            zero, a = w.maker(op.acc), w.maker(op.a)
            same = op.a is p or (isinstance(a, Cast) and a.a is p)
            if same and isinstance(zero, shape.Full) and not zero.value:
                return op.result
    return None
