"""The largest elements of rows as numbers of 64 bits: an element's order above, its place below.

Such keys differ from each other, and the larger one is what a ranking has first: the element that
is larger, of equal ones the first. The best so far lie in no order. Of a tile, those that are
larger than the least of them take its place, the largest first; few tiles have any.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilec.ir.core import Block, Builder, Value
from tilec.ir.dtype import DType, f32, i32, i64
from tilec.ir.extent import Extent
from tilec.ir.ops import arith, control, reduce, shape
from tilec.ir.ops.arith import tile
from tilec.ir.ops.cast import Bitcast, Cast

BITS = 32  # of an element at most, and of its place
PLACES = 2**BITS - 1  # the lower half of a key, less the place
HALF = 2 ** (BITS - 1)  # below this lie the lower halves of what is not there
MAGNITUDE = HALF - 1  # the bits of a float but the sign
UNKNOWN = 0x7FC00000  # NaN, whose order is above infinity's
NONE = -(2**63)  # below every key
TILE = 256  # elements of a step


def start(count: Extent, dtype: DType, b: Builder) -> Value:
    """The best of nothing: keys below those of every element, which differ."""
    least = order(least_of(dtype)) if dtype.is_float else int(dtype.low) - shift(dtype)
    below = b(Cast(b(shape.Iota(count)), i64))
    return b(arith.Add(below, b(shape.Full((count,), least << BITS, i64))))


def least_of(dtype: DType) -> float:
    """The least float."""
    return float("-inf") if dtype.infinite else float(dtype.low)


def order(x: float) -> int:
    """A whole number that is larger for larger floats."""
    bits = int(np.array(x, np.float32).view(np.int32))
    return bits ^ MAGNITUDE if bits < 0 else bits


def shift(dtype: DType) -> int:
    """What is taken from whole numbers, so that each is one of 32 bits with a sign."""
    return 0 if int(dtype.low) < 0 else HALF


def merged(best: Value, x: Value, at: Value, b: Builder) -> Value:
    """The best with the elements of a tile that are among them: keys, x[n], places i32[n]."""
    least, most = b(reduce.Min(best, 0)), b(reduce.Max(x, 0))
    above = b(arith.Shr(least, _number(BITS, least, b)))
    then, none = Builder(loc=b.loc), Block((), (), (best,))
    keys = _keys(x, at, then)
    found = _inserted(best, least, keys, then)
    some = b(arith.Not(b(arith.Lt(_ordered(most, b), above))))
    whole = control.If(some, Block((), tuple(then.ops), (found,)), none)
    return b(whole)


def _keys(x: Value, at: Value, b: Builder) -> Value:
    high = _ordered(x, b)
    low = b(arith.Sub(_number(PLACES, high, b), b(Cast(at, i64))))
    return b(arith.Add(b(arith.Shl(high, _number(BITS, high, b))), low))


def _ordered(x: Value, b: Builder) -> Value:
    """The upper halves of keys, i64."""
    t = tile("top", x).dtype
    if not t.is_float:
        wide = b(Cast(x, i64))
        return b(arith.Sub(wide, _number(shift(t), wide, b)))
    wide = x if t == f32 else b(Cast(x, f32))
    wide = b(arith.Add(wide, _number(0.0, wide, b)))  # of zeros there is one
    bits = b(Bitcast(wide, i32))
    sign = b(arith.Shr(bits, _number(BITS - 1, bits, b)))
    turned = b(arith.Xor(bits, b(arith.And(sign, _number(MAGNITUDE, bits, b)))))
    known = b(arith.Eq(wide, wide))
    return b(Cast(b(arith.Where(known, turned, _number(UNKNOWN, bits, b))), i64))


def _inserted(best: Value, least: Value, keys: Value, b: Builder) -> Value:
    """The best, with the keys that are larger than their least in its place."""
    init = (best, keys, b(reduce.Max(keys, 0)), least)
    test = _block(init, lambda c, w: (w(arith.Lt(c[3], c[2])),))

    def step(c: tuple[Value, ...], w: Builder) -> tuple[Value, ...]:
        old, left, top, worst = c
        gone = _everywhere(arith.Eq, old, worst, w)
        new = w(arith.Where(gone, _like(top, old, w), old))
        taken = _everywhere(arith.Eq, left, top, w)
        rest = w(arith.Where(taken, _number(NONE, left, w), left))
        return new, rest, w(reduce.Max(rest, 0)), w(reduce.Min(new, 0))

    return b.add(control.While(init, test, _block(init, step))).results[0]


Body = Callable[[tuple[Value, ...], Builder], tuple[Value, ...]]


def _block(carried: tuple[Value, ...], body: Body) -> Block:
    params, b = tuple(Value(v.type) for v in carried), Builder()
    results = body(params, b)
    return Block(params, tuple(b.ops), results)


def _everywhere(of: type[arith.Comparison], x: Value, scalar: Value, b: Builder) -> Value:
    return b(of(x, _like(scalar, x, b)))


def _like(scalar: Value, x: Value, b: Builder) -> Value:
    return b(shape.Broadcast(scalar, tile("top", x).shape))


def _number(value: float | int, like: Value, b: Builder) -> Value:
    t = tile("top", like)
    return b(shape.Full(t.shape, value, t.dtype))
