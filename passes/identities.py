"""Identities that hold exactly: bit for bit in floats, NaN and signed zeros included, and mod 2**n.

What is missing is missing on purpose: `x + 0.0` is not `x` for -0.0, `x * 0.0` not 0 for NaN.
"""

from __future__ import annotations

import numpy as np

from tilec.ir.core import Op
from tilec.ir.dtype import DType, i32
from tilec.ir.ops import arith, control, shape
from tilec.ir.ops.arith import EACH
from tilec.ir.ops.cast import Bitcast, Cast
from tilec.ir.types import Tile
from tilec.passes.rewrite import Context, Result, Rules, Scalar, number

RULES = Rules()


def _dtype(op: Op) -> DType:
    assert isinstance(op.result.type, Tile)
    return op.result.type.dtype


def _all_ones(t: DType) -> Scalar:
    return -1 if t.kind == "int" else t.high


def _negative_zero(x: Scalar | None) -> bool:
    return repr(x) == "-0.0"


@RULES.pattern(shape.Full)
def rounded(op: shape.Full, c: Context) -> Result:
    """A constant is written as the value of its dtype that it stands for."""
    value = number(op)
    return None if repr(value) == repr(op.value) else c(shape.Full(op.shape, value, op.dtype))


@RULES.pattern(shape.Size)
def size(op: shape.Size, c: Context) -> Result:
    """The size of a dimension that is a number."""
    value = i32.round(np.asarray(op.dim)).item() if isinstance(op.dim, int) else None
    return None if value is None else c(shape.Full((), value, i32))


@RULES.pattern(*(cls for cls in Op.registry.values() if EACH in cls.traits))
def folded(op: Op, c: Context) -> Result:
    """An elementwise op on constants is a constant."""
    constants = [c.constant(v) for v in op.operands]
    types = [v.type for v in op.operands]
    arrays = [
        np.asarray(x, t.dtype.carrier)
        for x, t in zip(constants, types, strict=True)
        if x is not None and isinstance(t, Tile)
    ]
    if len(arrays) < len(types):
        return None
    out = op.result.type
    assert isinstance(out, Tile)
    with np.errstate(all="ignore"):
        value = out.dtype.round(np.asarray(op.evaluate(*arrays)))
    return c(shape.Full(out.shape, value.item(), out.dtype))


@RULES.pattern(shape.Broadcast, shape.Reshape, shape.Transpose)
def uniform(op: shape.Broadcast | shape.Reshape | shape.Transpose, c: Context) -> Result:
    """A constant in another shape."""
    value, out = c.constant(op.a), op.result.type
    assert isinstance(out, Tile)
    return None if value is None else c(shape.Full(out.shape, value, out.dtype))


@RULES.pattern(arith.Mul)
def mul(op: arith.Mul, c: Context) -> Result:
    """x * 1 = x, and 0 * x = 0 of integers."""
    for x, y in ((op.a, op.b), (op.b, op.a)):
        if c.constant(y) == 1:
            return x
        if c.constant(y) == 0 and _dtype(op).is_integer:
            return y
    return None


@RULES.pattern(arith.Div, arith.FloorDiv)
def divided_by_one(op: arith.Div | arith.FloorDiv, c: Context) -> Result:
    """x / 1 = x."""
    return op.a if c.constant(op.b) == 1 else None


@RULES.pattern(arith.Add)
def add(op: arith.Add, c: Context) -> Result:
    """x + 0 = x of integers; x + -0.0 = x of floats."""
    for x, y in ((op.a, op.b), (op.b, op.a)):
        value = c.constant(y)
        if _negative_zero(value) if _dtype(op).is_float else value == 0:
            return x
    return None


@RULES.pattern(arith.Sub)
def sub(op: arith.Sub, c: Context) -> Result:
    """x - 0 = x, in floats for +0.0 only."""
    value = c.constant(op.b)
    return op.a if value == 0 and not _negative_zero(value) else None


@RULES.pattern(arith.Or, arith.Xor, arith.And)
def bits(op: arith.Or | arith.Xor | arith.And, c: Context) -> Result:
    """x | 0 = x ^ 0 = x & ~0 = x, and x & 0 = 0."""
    conjunction = isinstance(op, arith.And)
    neutral = _all_ones(_dtype(op)) if conjunction else 0
    for x, y in ((op.a, op.b), (op.b, op.a)):
        value = c.constant(y)
        if value is not None and value == neutral:
            return x
        if conjunction and value == 0:
            return y
    return None


@RULES.pattern(arith.Shl, arith.Shr)
def shifted_by_nothing(op: arith.Shl | arith.Shr, c: Context) -> Result:
    """x << 0 = x >> 0 = x."""
    return op.a if c.constant(op.b) == 0 and _dtype(op).is_integer else None


@RULES.pattern(arith.Maximum, arith.Minimum, arith.And, arith.Or)
def idempotent(op: arith.Binary, c: Context) -> Result:
    """max(x, x) = min(x, x) = x & x = x | x = x."""
    return op.a if op.a is op.b else None


@RULES.pattern(arith.Neg, arith.Not)
def twice(op: arith.Neg | arith.Not, c: Context) -> Result:
    """-(-x) = x, ~~x = x."""
    inner = c.made.get(op.a)
    return inner.operands[0] if inner is not None and type(inner) is type(op) else None


@RULES.pattern(arith.Where)
def where(op: arith.Where, c: Context) -> Result:
    """A known condition, or two equal sides."""
    if op.a is op.b:
        return op.a
    match c.constant(op.condition):
        case None:
            return None
        case chosen:
            return op.a if chosen else op.b


@RULES.pattern(Cast)
def cast(op: Cast, c: Context) -> Result:
    """x as its own dtype, and back from a dtype that holds every value of x's."""
    if op.saturate and op.dtype.kind in ("float", "code"):  # takes infinities to finite values
        return None
    source = op.a.type
    if source == op.result.type:
        return op.a
    inner = c.made.get(op.a)
    if isinstance(inner, Cast) and inner.a.type == op.result.type:
        lossless = inner.dtype.holds(op.dtype) and not inner.saturate
        return inner.a if lossless else None
    return None


@RULES.pattern(Bitcast)
def bitcast(op: Bitcast, c: Context) -> Result:
    """Bits as their own dtype; bits that were read as another dtype in between, which need not keep
    those of a NaN."""
    if op.a.type == op.result.type:
        return op.a
    inner = c.made.get(op.a)
    return c(Bitcast(inner.a, op.dtype)) if isinstance(inner, Bitcast) else None


@RULES.pattern(shape.Transpose)
def transpose(op: shape.Transpose, c: Context) -> Result:
    """A permutation of a permutation is one; that of nothing is none."""
    if op.order == tuple(range(len(op.order))):
        return op.a
    inner = c.made.get(op.a)
    if isinstance(inner, shape.Transpose):
        return c(shape.Transpose(inner.a, tuple(inner.order[i] for i in op.order)))
    return None


@RULES.pattern(shape.Broadcast, shape.Reshape)
def reshaped(op: shape.Broadcast | shape.Reshape, c: Context) -> Result:
    """To its own shape, or in two steps of one kind."""
    if op.a.type == op.result.type:
        return op.a
    inner = c.made.get(op.a)
    if isinstance(inner, shape.Broadcast | shape.Reshape) and type(inner) is type(op):
        return c(type(op)(inner.a, op.shape))
    return None


@RULES.pattern(shape.Slice)
def whole_slice(op: shape.Slice, c: Context) -> Result:
    """All of an axis."""
    return op.a if op.start == 0 and op.a.type == op.result.type else None


@RULES.pattern(shape.Join)
def single(op: shape.Join, c: Context) -> Result:
    """One part."""
    return op.parts[0] if len(op.parts) == 1 else None


@RULES.pattern(control.If)
def decided(op: control.If, c: Context) -> Result:
    """A branch on a known condition is that branch."""
    condition = c.constant(op.condition)
    if condition is None:
        return None
    branch = op.then if condition else op.otherwise
    c.builder.ops.extend(branch.ops)
    return branch.results
