"""Derivatives of element-wise ops: d is the gradient of the result."""

from __future__ import annotations

import math

from tilec.ir.core import Value
from tilec.ir.ops import arith
from tilec.passes.gradient.rules import FLAT, Given, Writer, derivative


@derivative(arith.Add)
def add(op: arith.Add, d: Value, w: Writer) -> Given:
    """d, d"""
    return d, d


@derivative(arith.Sub)
def sub(op: arith.Sub, d: Value, w: Writer) -> Given:
    """d, -d"""
    return d, w(arith.Neg(d))


@derivative(arith.Mul)
def mul(op: arith.Mul, d: Value, w: Writer) -> Given:
    """d b, d a"""
    return w.times(d, w.wide(op.b)), w.times(d, w.wide(op.a))


@derivative(arith.Div)
def div(op: arith.Div, d: Value, w: Writer) -> Given:
    """d / b, -d / b * out"""
    part = w(arith.Div(d, w.wide(op.b)))
    return part, w(arith.Neg(w.times(part, w.wide(op.result))))


@derivative(arith.Fma)
def fma(op: arith.Fma, d: Value, w: Writer) -> Given:
    """d b, d a, d"""
    return w.times(d, w.wide(op.b)), w.times(d, w.wide(op.a)), d


@derivative(arith.Neg)
def neg(op: arith.Neg, d: Value, w: Writer) -> Given:
    """-d"""
    return (w(arith.Neg(d)),)


@derivative(arith.Abs)
def absolute(op: arith.Abs, d: Value, w: Writer) -> Given:
    """d for positive numbers, -d for negative ones, 0 for 0"""
    zero = w.constant(0.0, op.a)
    below = w(arith.Lt(op.a, zero))
    return (w(arith.Where(below, w(arith.Neg(d)), w.chosen(w(arith.Lt(zero, op.a)), d))),)


@derivative(arith.Maximum)
def maximum(op: arith.Maximum, d: Value, w: Writer) -> Given:
    """d to the greater; half to each of equals, as (a + b + |a - b|) / 2 has it"""
    return _shared(w(arith.Lt(op.b, op.a)), w(arith.Lt(op.a, op.b)), d, w)


@derivative(arith.Minimum)
def minimum(op: arith.Minimum, d: Value, w: Writer) -> Given:
    """d to the lesser; half to each of equals, as (a + b - |a - b|) / 2 has it"""
    return _shared(w(arith.Lt(op.a, op.b)), w(arith.Lt(op.b, op.a)), d, w)


def _shared(first: Value, second: Value, d: Value, w: Writer) -> tuple[Value, Value]:
    half, zero = w.times(d, 0.5), w.constant(0.0, d)
    a = w(arith.Where(first, d, w(arith.Where(second, zero, half))))
    return a, w(arith.Where(second, d, w(arith.Where(first, zero, half))))


@derivative(arith.Where)
def where(op: arith.Where, d: Value, w: Writer) -> Given:
    """d to the one that is the result"""
    return None, w.chosen(op.condition, d), w(arith.Where(op.condition, w.constant(0.0, d), d))


@derivative(arith.Exp)
def exp(op: arith.Exp, d: Value, w: Writer) -> Given:
    """d out"""
    return (w.times(d, w.wide(op.result)),)


@derivative(arith.Exp2)
def exp2(op: arith.Exp2, d: Value, w: Writer) -> Given:
    """d out ln 2"""
    return (w.times(w.times(d, w.wide(op.result)), math.log(2.0)),)


@derivative(arith.Log)
def log(op: arith.Log, d: Value, w: Writer) -> Given:
    """d / a"""
    return (w(arith.Div(d, w.wide(op.a))),)


@derivative(arith.Log2)
def log2(op: arith.Log2, d: Value, w: Writer) -> Given:
    """d / a / ln 2"""
    return (w.times(w(arith.Div(d, w.wide(op.a))), 1.0 / math.log(2.0)),)


@derivative(arith.Sqrt)
def sqrt(op: arith.Sqrt, d: Value, w: Writer) -> Given:
    """d / (2 out)"""
    return (w(arith.Div(w.times(d, 0.5), w.wide(op.result))),)


@derivative(arith.Rsqrt)
def rsqrt(op: arith.Rsqrt, d: Value, w: Writer) -> Given:
    """-d / 2 * out**3"""
    out = w.wide(op.result)
    return (w.times(w.times(d, -0.5), w.times(w.times(out, out), out)),)


@derivative(arith.Sin)
def sin(op: arith.Sin, d: Value, w: Writer) -> Given:
    """d cos a"""
    return (w.times(d, w(arith.Cos(w.wide(op.a)))),)


@derivative(arith.Cos)
def cos(op: arith.Cos, d: Value, w: Writer) -> Given:
    """-d sin a"""
    return (w(arith.Neg(w.times(d, w(arith.Sin(w.wide(op.a)))))),)


@derivative(arith.Tanh)
def tanh(op: arith.Tanh, d: Value, w: Writer) -> Given:
    """d (1 - out**2)"""
    out = w.wide(op.result)
    return (w.times(d, w(arith.Sub(w.constant(1.0, out), w.times(out, out)))),)


@derivative(arith.Erf)
def erf(op: arith.Erf, d: Value, w: Writer) -> Given:
    """d 2 / sqrt(pi) * exp(-a**2)"""
    a = w.wide(op.a)
    bell = w(arith.Exp(w(arith.Neg(w.times(a, a)))))
    return (w.times(w.times(d, bell), 2.0 / math.sqrt(math.pi)),)


@derivative(*FLAT)
def flat(op: arith.Unary, d: Value, w: Writer) -> Given:
    """0"""
    return (None,)
