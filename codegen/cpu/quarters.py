"""Angles as a number of quarter turns and a rest: by Cody and Waite, or Payne and Hanek if large.

The latter multiplies by those bits of 2/pi alone that make no whole turns, so it is exact for every
double (M. Payne and R. Hanek, Radian reduction for trigonometric functions, SIGNUM 1983).
"""

from __future__ import annotations

import math
from functools import cache

from tilec.codegen.cpu.llvm import Function, V, constant

HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)  # as a sum
LARGE = 2.0**30  # quarter turns from which the bits of 2/pi are needed
_FIRST = 1013  # the exponent field at which they are read from the first on
_WORDS = 20  # of 64 bits of 2/pi, behind one of zeros
_PAIR = "{ double, i64 }"
_TABLE = "two.over.pi"
_NAME = "quarters"


def reduced(f: Function, x: V) -> tuple[V, V]:
    """A double as rest + k pi / 2, the rest from -pi/4 to pi/4, or NaN if x is not finite."""
    n = x.lanes
    whole = f.intrinsic("roundeven", f.binary("fmul", x, constant("double", 2 / math.pi, n)))
    rest = x
    for part in HALF_PI:
        rest = f.intrinsic("fma", whole, constant("double", -part, n), rest)
    large = constant("double", LARGE, n)
    near = f.compare("fcmp olt", f.intrinsic("fabs", whole), large)
    k = f.convert("fptosi", f.select(near, whole, constant("double", 0, n)), "i64")
    far = f.compare("fcmp oge", f.intrinsic("fabs", whole), large)
    some = far if n == 1 else f.call(f"llvm.vector.reduce.or.v{n}i1", "i1", 1, far)
    count = f.select(some, constant("i64", n), constant("i64", 0))
    rest, k = f.carry(0, count, 1, [rest, k], lambda i, found: _exactly(f, x, far, i, found))
    finite = f.compare("fcmp olt", f.intrinsic("fabs", x), constant("double", math.inf, n))
    return f.select(finite, rest, constant("double", math.nan, n)), k


def _exactly(f: Function, x: V, far: V, i: V, found: list[V]) -> list[V]:
    """The rest and k with one lane, if its angle is large, from the bits of 2/pi."""

    def lane(v: V) -> V:
        text = f"extractelement {v.spelled} {v.text}, i64 {i.text}"
        return v if v.lanes == 1 else f.op(v.type, 1, text)

    def put(v: V, new: V) -> V:
        text = f"insertelement {v.spelled} {v.text}, {new.type} {new.text}, i64 {i.text}"
        return new if v.lanes == 1 else f.op(v.type, v.lanes, text)

    f.declared.add(_function(f.declared))
    large = lane(far)
    angle = f.select(large, lane(x), constant("double", 4 * LARGE))
    pair = f.op(_PAIR, 1, f"call {_PAIR} @{_NAME}(double {angle.text})")
    new = (f.op(t, 1, f"extractvalue {_PAIR} {pair.text}, {j}") for j, t in
           enumerate(("double", "i64")))  # fmt: skip
    return [put(v, f.select(large, to, lane(v))) for v, to in zip(found, new, strict=True)]


def _function(declared: set[str]) -> str:
    """The function of a large angle: its rest and quarter turns.

    With |x| = m 2**e, m of 53 bits, the product of m and 192 bits of 2/pi is |x| 2/pi mod 4 in
    units of 2**-190, of which the upper 128 bits are used.
    """
    f = Function(_NAME, "double %x", declared)
    x = V("double", 1, "%x")
    bits = f.convert("bitcast", f.intrinsic("fabs", x), "i64")
    at = f.binary("sub", f.binary("lshr", bits, constant("i64", 52)), constant("i64", _FIRST))
    m = f.binary("and", bits, constant("i64", (1 << 52) - 1))
    m = f.binary("or", m, constant("i64", 1 << 52))
    high, middle, low = _bits(f, at)
    wide = [f.convert("zext", v, "i128") for v in (m, middle, low)]
    word = constant("i128", 64)
    lower = f.binary("lshr", f.binary("mul", wide[0], wide[2]), word)
    lower = f.binary("add", f.binary("mul", wide[0], wide[1]), lower)
    top = f.binary("shl", f.convert("zext", f.binary("mul", m, high), "i128"), word)
    turns = f.binary("add", lower, top)  # in quarters of 2**126
    half = f.binary("add", turns, constant("i128", 1 << 125))
    k = f.binary("lshr", half, constant("i128", 126))
    rest = f.binary("sub", turns, f.binary("shl", k, constant("i128", 126)))
    rest, k = _double(f, rest), f.convert("trunc", k, "i64")
    minus = f.compare("fcmp olt", x, constant("double", 0.0))
    rest = f.select(minus, f.negative(rest), rest)
    k = f.select(minus, f.binary("sub", constant("i64", 0), k), k)
    pair = f.op(_PAIR, 1, f"insertvalue {_PAIR} poison, double {rest.text}, 0")
    pair = f.op(_PAIR, 1, f"insertvalue {_PAIR} {pair.text}, i64 {k.text}, 1")
    body = "\n".join(f.lines)
    head = f"define internal {_PAIR} @{_NAME}(double %x) noinline"
    return f"{head} {{\nentry:\n{body}\n  ret {_PAIR} {pair.text}\n}}\n"


def _bits(f: Function, at: V) -> list[V]:
    """192 bits of 2/pi from a place on, in words."""
    kind = f"[{_WORDS} x i64]"
    entries = ", ".join(f"i64 {w}" for w in two_over_pi())
    f.declared.add(f"@{_TABLE} = private unnamed_addr constant {kind} [{entries}]")
    first = f.binary("lshr", at, constant("i64", 6))
    place = f.op("ptr", 1, f"getelementptr i64, ptr @{_TABLE}, i64 {first.text}")
    words = [f.load("i64", 1, f.pointer(place, 8 * i), 8) for i in range(4)]
    return [f.intrinsic("fshl", words[i], words[i + 1], at) for i in range(3)]


def _double(f: Function, rest: V) -> V:
    """A rest in quarters of 2**126 as a double in radians."""
    zero = constant("i128", 0)
    minus = f.compare("icmp slt", rest, zero)
    size = f.select(minus, f.binary("sub", zero, rest), rest)
    size = f.binary("or", size, constant("i128", 1))
    clear = f.call("llvm.ctlz.i128", "i128", 1, size, constant("i1", 0))
    top = f.binary("lshr", f.binary("shl", size, clear), constant("i128", 64))
    digits = f.convert("uitofp", f.convert("trunc", top, "i64"), "double")
    field = f.binary("sub", constant("i64", 1023 - 62), f.convert("trunc", clear, "i64"))
    unit = f.convert("bitcast", f.binary("shl", field, constant("i64", 52)), "double")
    y = f.binary("fmul", f.binary("fmul", digits, unit), constant("double", math.pi / 2))
    return f.select(minus, f.negative(y), y)


@cache
def two_over_pi() -> tuple[int, ...]:
    """A word of zeros, then the bits of 2/pi behind the point; pi is by Machin's formula."""
    bits = 64 * (_WORDS - 1)
    one = 1 << bits + 64
    pi = 16 * _inverse_tangent(5, one) - 4 * _inverse_tangent(239, one)
    value = (2 * one << bits) // pi
    words = [value >> 64 * i & (1 << 64) - 1 for i in range(_WORDS - 1)]
    return (0, *reversed(words))


def _inverse_tangent(n: int, one: int) -> int:
    """atan(1 / n) in units of 1 / one."""
    power, total, k = one // n, 0, 1
    while power:
        total += power // k if k % 4 == 1 else -(power // k)
        power //= n * n
        k += 2
    return total
