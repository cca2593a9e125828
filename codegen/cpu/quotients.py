"""Quotients of the elements of a row by one number: a division a row, and exact all the same.

With z the float nearest to 1 / b, q = a * z and r = a - b * q, the float nearest to q + r * z is
that nearest to a / b (Brisebarre, Muller, Raina: Accelerating correctly rounded floating-point
division when the divisor is known in advance, 2004), where r has no bits too small for a float.
That holds of divisors and quotients of common size; others are divided.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from tilec.codegen.cpu import views
from tilec.codegen.cpu.llvm import Function, V, constant
from tilec.codegen.cpu.tiles import Index, Lazy, Writer
from tilec.ir.core import Op
from tilec.ir.dtype import f32
from tilec.ir.ops import arith
from tilec.ir.ops.shape import Broadcast
from tilec.ir.types import Tile

FEW = 4  # vectors of a row that are divided one by one
DIVISOR = (2.0**-20, 2.0**100)  # of common size
QUOTIENT = 2.0**-80  # the least: then a is at least 2**-100, and r, 2**48 times less, has all bits


def by_rows(w: Writer, op: Op, a: Lazy, made: Op | None, b: Lazy, x: Lazy) -> Lazy:
    """`x` = a / b, whose vectors are multiplied with an inverse if b has one number for a row.

    `made` is the op that b comes from, and `b` is what that spreads.
    """
    if not isinstance(op, arith.Div) or not isinstance(made, Broadcast):
        return x
    t = made.a.type
    assert isinstance(t, Tile)
    last = x.shape[-1] if x.shape else 0
    one = not t.rank or t.shape[-1] == 1 != last
    short = isinstance(last, int) and last < FEW * w.lanes
    if not one or short or t.dtype != f32 or "fma" not in w.features:
        return x
    rows = Lazy(b.shape, f32, lambda i, _: _inverse(w.f, b.at(i, 1)), None, b.reads, b.beside)
    inverse = views.emit(w, made, w.settled(rows, t))
    divisor = views.emit(w, made, b)

    def at(index: Index, lanes: int) -> V:
        if lanes == 1:
            return x.at(index, 1)
        f, given, by = w.f, a.at(index, lanes), divisor.at(index, lanes)
        found = _quotient(f, given, by, inverse.at(index, lanes))
        limit = constant("float", QUOTIENT, w.lanes)
        small = [f.compare("fcmp ult", f.intrinsic("fabs", v), limit)
                 for v in f.parts(found, w.lanes)]  # fmt: skip
        any_small = reduce(lambda a, b: f.binary("or", a, b), small)
        return f.unless(any_small, found, lambda: f.binary("fdiv", given, by))

    return replace(x, at=at, reads=x.reads | inverse.reads, beside=x.beside | inverse.beside)


def _inverse(f: Function, b: V) -> V:
    """1 / b; NaN where b is of no common size, for then no quotient is."""
    least, most = (f.compare(f"fcmp {order}", f.intrinsic("fabs", b), constant("float", limit))
                   for order, limit in zip(("oge", "ole"), DIVISOR, strict=True))  # fmt: skip
    inverse = f.binary("fdiv", constant("float", 1.0), b)
    return f.select(f.binary("and", least, most), inverse, constant("float", float("nan")))


def _quotient(f: Function, a: V, b: V, inverse: V) -> V:
    """a / b, exact unless it is small or NaN."""
    near = f.binary("fmul", a, inverse)
    rest = f.intrinsic("fma", f.negative(near), b, a)
    return f.intrinsic("fma", rest, inverse, near)
