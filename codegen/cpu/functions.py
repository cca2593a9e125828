"""Mathematical functions on vectors of floats, by range reduction and polynomials.

exp, log: Cody-Waite reduction (Software Manual for the Elementary Functions, 1980). erf in double:
its series, which does not cancel, times exp(-x^2). Sines and cosines of floats run in double, all
else of floats in floats. f32 results are within a unit of the last place of the nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np

from tilec.codegen.cpu.llvm import Function, V, constant
from tilec.codegen.cpu.quarters import reduced

# Polynomials whose functions have the least relative error, the highest power first; found by least
# squares whose weights are the errors of the step before (Lawson's algorithm). Powers of e and of 2
# up to half of ln 2 and of 1.
EXP = (0.0013814540104697857, 0.008368745195589498, 0.04166839079138325, 0.1666652039831879,
       0.4999999343207684, 1.0, 1.0)  # fmt: skip
EXP2 = (0.00015353258118218574, 0.0013399003573302604, 0.009618438601413856, 0.05550332162676964,
        0.24022647896875263, 0.6931472029850811, 1.0)  # fmt: skip
# tanh(x) = x + x TANH(x^2) and erf(x) = x + x ERF(x^2) up to 1; erfc(x) = exp(ERFC(x)) from 1 to 4.
TANH = (-0.0003533634859101084, 0.0022822972620986665, -0.007917546692032484, 0.02146489874359174,
        -0.05387094507947658, 0.133321603567674, -0.33333278737173705, 0.0)  # fmt: skip
ERF = (7.854024811423906e-05, -0.0008010247162207872, 0.005188334439418727, -0.026853816032080098,
       0.11283585269686183, -0.376126258396058, 0.1283791657322931)  # fmt: skip
ERFC = (0.00018638008414432084, -0.0029476667954637975, 0.021838096963429428, -0.10310682135967675,
        -0.6381447581862191, -1.1270892337672729, -0.0003415125926363509)  # fmt: skip
# log(1 + x) = x + x^2 LOG(x) from sqrt(1/2) - 1 to sqrt(2) - 1.
LOG = (-0.07622773701533522, 0.12905232373502967, -0.13242966165828568, 0.14181682153650751,
       -0.16609065369262244, 0.20001982005511723, -0.25001584238881264, 0.3333332555098575,
       -0.4999998832375802)  # fmt: skip
SHORT = 355 / 512  # near ln 2, and so short that its multiples are exact


def _poly(f: Function, x: V, coefficients: Sequence[float]) -> V:
    """Horner's rule, the highest power first."""
    y = constant(x.type, coefficients[0], x.lanes)
    for c in coefficients[1:]:
        y = f.intrinsic("fma", y, x, constant(x.type, c, x.lanes))
    return y


def _double(f: Function, x: V, body: Callable[[Function, V], V]) -> V:
    """Compute in double and come back: rounding to the value's own type is then nearly exact."""
    return f.convert("fptrunc", body(f, f.convert("fpext", x, "double")), x.type)


def _held(f: Function, x: V, low: float, high: float) -> V:
    """x between two numbers; NaN stays NaN (the second of two operands that do not compare)."""
    for order, limit in (("olt", high), ("ogt", low)):
        c = constant(x.type, limit, x.lanes)
        x = f.select(f.compare(f"fcmp {order}", c, x), c, x)
    return x


def _scaled(f: Function, x: V, n: V) -> V:
    """x * 2**n for whole floats n in [-252, 254], rounded once."""
    if "avx512f" in f.features and x.lanes % 16 == 0:
        every, nearest = V("i16", 1, "-1"), V("i32", 1, "4")
        name = "llvm.x86.avx512.mask.scalef.ps.512"
        pairs = zip(f.parts(x, 16), f.parts(n, 16), strict=True)
        return f.joined([f.call(name, "float", 16, a, b, a, every, nearest) for a, b in pairs])
    whole = f.convert("fptosi", n, "i32")
    half = f.binary("ashr", whole, constant("i32", 1, n.lanes))
    for part in (half, f.binary("sub", whole, half)):
        biased = f.binary("add", part, constant("i32", 127, n.lanes))
        bits = f.binary("shl", biased, constant("i32", 23, n.lanes))
        x = f.binary("fmul", x, f.convert("bitcast", bits, "float"))
    return x


def _nearest(f: Function, x: V, factor: float) -> V:
    """The whole number nearest to x * factor, for |x * factor| < 2**22: added to a number so great
    that its last place is 1, which costs no instruction of its own."""
    great = constant("float", 1.5 * 2**23, x.lanes)
    near = f.intrinsic("fma", x, constant("float", factor, x.lanes), great)
    return f.binary("fsub", near, great)


def _single_exp2(f: Function, x: V) -> V:
    """2**whole * 2**rest, the rest in [-1/2, 1/2]: its polynomial errs by less than 2**-28."""
    x = _held(f, x, -151, 129)
    whole = _nearest(f, x, 1.0)
    return _scaled(f, _poly(f, f.binary("fsub", x, whole), EXP2), whole)


def _single_exp(f: Function, x: V) -> V:
    return _natural(f, _held(f, x, -105, 89))


def _natural(f: Function, x: V) -> V:
    """exp of floats from -105 to 89, as exp2; what is left of x is found in two steps, for ln 2 has
    more bits than a float."""
    whole = _nearest(f, x, 1 / math.log(2))
    rest = f.intrinsic("fma", whole, constant("float", -SHORT, x.lanes), x)
    rest = f.intrinsic("fma", whole, constant("float", SHORT - math.log(2), x.lanes), rest)
    return _scaled(f, _poly(f, rest, EXP), whole)


def _single_tanh(f: Function, x: V) -> V:
    """As tanh; near 0 a polynomial of x^2."""

    def far(a: V) -> V:
        one, two = constant("float", 1, x.lanes), constant("float", 2, x.lanes)
        grown = f.binary("fadd", _natural(f, f.binary("fadd", a, a)), one)
        return f.binary("fsub", one, f.binary("fdiv", two, grown))

    return _odd(f, x, 10, TANH, far)


def _single_erf(f: Function, x: V) -> V:
    """A polynomial of x^2 near 0, and 1 - erfc(|x|)."""
    one = constant("float", 1, x.lanes)
    return _odd(f, x, 4, ERF, lambda a: f.binary("fsub", one, _natural(f, _poly(f, a, ERFC))))


def _odd(f: Function, x: V, limit: float, series: Sequence[float], far: Callable[[V], V]) -> V:
    """An odd function: x + x series(x^2) up to 1, `far` of |x| beyond, at most of `limit`."""
    a, most = f.intrinsic("fabs", x), constant("float", limit, x.lanes)
    near = f.intrinsic("fma", _poly(f, f.binary("fmul", a, a), series), a, a)
    beyond = far(f.select(f.compare("fcmp ogt", a, most), most, a))
    small = f.compare("fcmp olt", a, constant("float", 1, x.lanes))
    return f.intrinsic("copysign", f.select(small, near, beyond), x)


def _power(f: Function, x: V, n: V) -> V:
    """x * 2**n for whole n in [-2044, 2046], in two steps so that both factors are normal."""
    half = f.binary("ashr", n, constant("i64", 1, n.lanes))
    for part in (half, f.binary("sub", n, half)):
        bits = f.binary(
            "shl",
            f.binary("add", part, constant("i64", 1023, n.lanes)),
            constant("i64", 52, n.lanes),
        )
        x = f.binary("fmul", x, f.convert("bitcast", bits, "double"))
    return x


def _exp2(f: Function, x: V) -> V:
    n = x.lanes
    capped = f.intrinsic(
        "minnum",
        f.intrinsic("maxnum", x, constant("double", -1100, n)),
        constant("double", 1025, n),
    )
    whole = f.intrinsic("roundeven", capped)
    rest = f.binary("fsub", capped, whole)
    terms = [math.log(2) ** k / math.factorial(k) for k in range(12, -1, -1)]
    value = _power(f, _poly(f, rest, terms), f.convert("fptosi", whole, "i64"))
    return f.select(f.compare("fcmp uno", x, x), x, value)


def _exp(f: Function, x: V) -> V:
    n = x.lanes
    capped = f.intrinsic(
        "minnum", f.intrinsic("maxnum", x, constant("double", -760, n)), constant("double", 711, n)
    )
    whole = f.intrinsic(
        "roundeven", f.binary("fmul", capped, constant("double", 1 / math.log(2), n))
    )
    high, low = 6.93147180369123816490e-01, 1.90821492927058770002e-10
    rest = f.intrinsic("fma", whole, constant("double", -high, n), capped)
    rest = f.intrinsic("fma", whole, constant("double", -low, n), rest)
    terms = [1 / math.factorial(k) for k in range(13, -1, -1)]
    value = _power(f, _poly(f, rest, terms), f.convert("fptosi", whole, "i64"))
    return f.select(f.compare("fcmp uno", x, x), x, value)


def _split(f: Function, x: V) -> tuple[V, V]:
    """m - 1 and e as floats, with x = m 2**e and m in [sqrt(1/2), sqrt 2), for positive x."""
    n, t, double = x.lanes, x.type, x.type == "double"
    whole, places, least = ("i64", 52, -1022) if double else ("i32", 23, -126)
    middle = 0x3FE6A09E667F3BCD if double else 0x3F3504F3  # sqrt(1/2)
    tiny = f.compare("fcmp olt", x, constant(t, 2.0**least, n))
    lifted = f.binary("fmul", x, constant(t, 2.0 ** (places + 2), n))
    bits = f.convert("bitcast", f.select(tiny, lifted, x), whole)
    e = f.binary("ashr", f.binary("sub", bits, constant(whole, middle, n)),
                 constant(whole, places, n))  # fmt: skip
    raised = f.binary("shl", e, constant(whole, places, n))
    m = f.convert("bitcast", f.binary("sub", bits, raised), t)
    power = f.convert("sitofp", e, t)
    power = f.select(tiny, f.binary("fsub", power, constant(t, places + 2, n)), power)
    return f.binary("fsub", m, constant(t, 1, n)), power


def _logarithm(series: Callable[[Function, V, V], V]) -> Callable[[Function, V], V]:
    """log x as a series of m - 1 and e, and what it is of 0, negative numbers, inf and NaN."""

    def log(f: Function, x: V) -> V:
        y = series(f, *_split(f, x))
        for order, at, found in (("oeq", math.inf, math.inf), ("oeq", 0, -math.inf),
                                 ("ult", 0, math.nan)):  # fmt: skip
            there = f.compare(f"fcmp {order}", x, constant(x.type, at, x.lanes))
            y = f.select(there, constant(x.type, found, x.lanes), y)
        return y

    return log


@_logarithm
def _log(f: Function, less: V, e: V) -> V:
    """2 atanh((m - 1) / (m + 1)) + e ln 2."""
    n = e.lanes
    s = f.binary("fdiv", less, f.binary("fadd", less, constant("double", 2, n)))
    series = _poly(f, f.binary("fmul", s, s), [2 / k for k in range(21, 0, -2)])
    return f.intrinsic("fma", e, constant("double", math.log(2), n), f.binary("fmul", s, series))


@_logarithm
def _single_log(f: Function, less: V, e: V) -> V:
    """m - 1 + (m - 1)^2 LOG(m - 1) + e ln 2, of which the greater part is short."""
    n, square = e.lanes, f.binary("fmul", less, less)
    low = f.binary("fmul", e, constant("float", math.log(2) - SHORT, n))
    rest = f.intrinsic("fma", _poly(f, less, LOG), square, low)
    return f.intrinsic("fma", e, constant("float", SHORT, n), f.binary("fadd", less, rest))


@_logarithm
def _single_log2(f: Function, less: V, e: V) -> V:
    """As log, times 1 / ln 2; what rounding takes from the first product is added to the rest."""
    n, square, whole = e.lanes, f.binary("fmul", less, less), float(np.float32(1 / math.log(2)))
    by = constant("float", whole, n)
    first = f.binary("fmul", less, by)
    lost = f.intrinsic("fma", less, by, f.negative(first))
    rest = f.intrinsic("fma", less, constant("float", 1 / math.log(2) - whole, n), lost)
    series = f.binary("fmul", _poly(f, less, LOG), square)
    rest = f.intrinsic("fma", series, by, rest)
    return f.binary("fadd", e, f.binary("fadd", first, rest))


def _log2(f: Function, x: V) -> V:
    return f.binary("fmul", _log(f, x), constant("double", 1 / math.log(2), x.lanes))


def _tanh(f: Function, x: V) -> V:
    """1 - 2 / (exp(2|x|) + 1); near 0 the series at |x| / 8, doubled three times."""
    n = x.lanes
    a = f.intrinsic("fabs", x)
    one, two = constant("double", 1, n), constant("double", 2, n)
    e = _exp(f, f.binary("fmul", a, two))
    far = f.binary("fsub", one, f.binary("fdiv", two, f.binary("fadd", e, one)))
    eighth = f.binary("fmul", a, constant("double", 0.125, n))
    series = [21844 / 6081075, -1382 / 155925, 62 / 2835, -17 / 315, 2 / 15, -1 / 3, 1.0]
    near = f.binary("fmul", eighth, _poly(f, f.binary("fmul", eighth, eighth), series))
    for _ in range(3):
        near = f.binary("fdiv", f.binary("fmul", near, two), f.intrinsic("fma", near, near, one))
    y = f.select(f.compare("fcmp olt", a, constant("double", 0.55, n)), near, far)
    return f.intrinsic("copysign", y, x)


def _erf(f: Function, x: V) -> V:
    """2/sqrt(pi) exp(-x^2) x sum (2 x^2)^k / (2k + 1)!!, up to |x| = 6, where erf is 1."""
    n = x.lanes
    a = f.intrinsic("fabs", x)
    capped = f.intrinsic("minnum", a, constant("double", 6, n))
    square = f.binary("fmul", capped, capped)
    odd = accumulate(range(3, 300, 2), lambda c, k: c * 2 / k, initial=1.0)
    series = _poly(f, square, list(odd)[::-1])
    unit = constant("double", 2 / math.sqrt(math.pi), n)
    decay = f.binary("fmul", _exp(f, f.negative(square)), unit)
    y = f.intrinsic("copysign", f.binary("fmul", f.binary("fmul", capped, decay), series), x)
    return f.select(f.compare("fcmp uno", x, x), x, y)


def _turn(f: Function, x: V, quarter: int) -> V:
    """sin(x + quarter * pi / 2), from the sine and cosine of the rest of a quarter turn."""
    n = x.lanes
    rest, k = reduced(f, x)
    k = f.binary("add", k, constant("i64", quarter, n))
    square = f.binary("fmul", rest, rest)
    sine = [(-1) ** k / math.factorial(2 * k + 1) for k in range(8, -1, -1)]
    cosine = [(-1) ** k / math.factorial(2 * k) for k in range(9, -1, -1)]
    odd = f.compare("icmp ne", f.binary("and", k, constant("i64", 1, n)), constant("i64", 0, n))
    y = f.select(odd, _poly(f, square, cosine), f.binary("fmul", rest, _poly(f, square, sine)))
    flip = f.compare("icmp ne", f.binary("and", k, constant("i64", 2, n)), constant("i64", 0, n))
    return f.select(flip, f.negative(y), y)


def _either(single: Callable[[Function, V], V], double: Callable[[Function, V], V]
            ) -> Callable[[Function, V], V]:  # fmt: skip
    """A function that has one way for floats and another for doubles."""
    return lambda f, x: (single if x.type == "float" else double)(f, x)


def _wrapped(body: Callable[[Function, V], V]) -> Callable[[Function, V], V]:
    return _either(lambda f, x: _double(f, x, body), body)


FUNCTIONS: dict[str, Callable[[Function, V], V]] = {
    "exp": _either(_single_exp, _exp),
    "exp2": _either(_single_exp2, _exp2),
    "log": _either(_single_log, _log),
    "log2": _either(_single_log2, _log2),
    "tanh": _either(_single_tanh, _tanh),
    "erf": _either(_single_erf, _erf),
    "sin": _wrapped(lambda f, x: _turn(f, x, 0)),
    "cos": _wrapped(lambda f, x: _turn(f, x, 1)),
}
