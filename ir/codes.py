"""The element types that are tables: small floats, scales of powers of two, and codebooks.

A float eEmM has a sign, E bits of exponent with the bias 2**(E-1) - 1 and M of mantissa. Its kind
says what the largest exponent means: `finite` (numbers as any other, the kind of OCP MX; the
default below 8 bits), `ieee` (infinities and NaN), `fn` (all ones are NaN, the kind of OCP fp8's
e4m3) or `fnuz` (the code of -0 is NaN, and the bias is one more).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from tilec.ir.dtype import BY_NAME, DType
from tilec.ir.table import Table


def _value(code: int, e: int, m: int, bias: int) -> float:
    """What a code means if no exponent is special."""
    mantissa, exponent = code & (1 << m) - 1, code >> m & (1 << e) - 1
    sign = -1.0 if code >> e + m & 1 else 1.0
    if exponent == 0:
        return sign * math.ldexp(mantissa, 1 - bias - m)
    return sign * math.ldexp((1 << m) + mantissa, exponent - bias - m)


def _special(code: int, e: int, m: int, kind: str) -> float | None:
    """Infinity or NaN, if the code is one."""
    body, top = code & (1 << e + m) - 1, (1 << e) - 1 << m
    match kind:
        case "ieee" if body >= top:
            sign = -1.0 if code >> e + m else 1.0
            return sign * math.inf if body == top else math.nan
        case "fn" if body == (1 << e + m) - 1:
            return math.nan
        case "fnuz" if code == 1 << e + m:
            return math.nan
        case _:
            return None


def small_float(e: int, m: int, kind: str, bias: int | None = None) -> Table:
    """The table of a float of 1 + e + m bits."""
    if bias is None:
        bias = (1 << e - 1) - 1 + (kind == "fnuz")
    values: list[float] = []
    for code in range(1 << 1 + e + m):
        special = _special(code, e, m, kind)
        values.append(_value(code, e, m, bias) if special is None else special)
    high = max(v for v in values if math.isfinite(v))
    last = max(math.frexp(high)[1] - 1, 1 - bias) - m
    return Table(values, None if kind == "finite" else high + math.ldexp(1.0, last))


def _code(name: str, bits: int, table: Table, e: int = 0, m: int = 0) -> DType:
    return DType(name, "code", bits, "uint8", e, m, table.infinite, table)


def _floats() -> list[DType]:
    """Every float of 2 to 8 bits, finite and IEEE; those that BY_NAME has keep their names."""
    found: list[DType] = []
    for bits in range(2, 9):
        for e in range(1, bits):
            m = bits - 1 - e
            plain = f"e{e}m{m}"
            finite = f"{plain}_finite" if plain in BY_NAME else plain
            found.append(_code(finite, bits, small_float(e, m, "finite"), e, m))
            if plain != "e5m2" and not (e == 1 and m == 0):  # nothing finite but 0 is left
                found.append(_code(f"{plain}_ieee", bits, small_float(e, m, "ieee"), e, m))
    for name, e, m, bias in (("e4m3_fnuz", 4, 3, 8), ("e5m2_fnuz", 5, 2, 16),
                             ("e4m3_b11fnuz", 4, 3, 11)):  # fmt: skip
        found.append(_code(name, 8, small_float(e, m, "fnuz", bias), e, m))
    return found


def normal_float(bits: int) -> Table:
    """Quantiles of the normal distribution from -1 to 1 with one at 0, as the paper of NF4 makes
    them (Dettmers et al., arXiv 2305.14314)."""
    half, end, quantile = 1 << bits - 1, 0.9677083, NormalDist().inv_cdf
    positive = [quantile(end + (0.5 - end) * i / half) for i in range(half)]
    negative = [-quantile(end + (0.5 - end) * i / (half - 1)) for i in range(half - 1)]
    values = np.sort(np.array([*positive, 0.0, *negative]))
    return Table((values / values[-1]).astype(np.float32).tolist())


# The published constants: the formula above in the paper's own mixture of precisions.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
# bitsandbytes' fp4: as e2m1, but for the code of its least value and the order of the others.
FP4 = tuple(sign * v / 12 for sign in (1.0, -1.0) for v in (0.0, 0.0625, 8, 12, 4, 6, 2, 3))
# llama.cpp's IQ4_NL, found there by clustering weights.
IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


def sign_magnitude(bits: int) -> Table:
    """A sign and a whole number."""
    half = 1 << bits - 1
    return Table([*map(float, range(half)), *(-float(i) for i in range(half))])


def _tables() -> list[DType]:
    """The types that are neither integers nor floats."""
    scale = Table([*(math.ldexp(1.0, c - 127) for c in range(255)), math.nan], math.ldexp(1.0, 128))
    found = [
        _code("e8m0", 8, scale, 8),
        _code("fixed8", 8, Table([((c ^ 128) - 128) / 64 for c in range(256)])),
        _code("ternary", 2, Table([-1.0, 0.0, 1.0, -0.0])),
        _code("nf2", 2, normal_float(2)),
        _code("nf3", 3, normal_float(3)),
        _code("nf4", 4, Table(NF4)),
        _code("iq4", 4, Table(IQ4)),
        _code("fp4", 4, Table(np.array(FP4, np.float32).tolist())),
    ]
    for bits in range(1, 9):
        most = (1 << bits) - 1
        found.append(
            _code(f"bipolar{bits}", bits, Table([2.0 * c - most for c in range(most + 1)]))
        )
        if bits > 1:
            found.append(_code(f"sm{bits}", bits, sign_magnitude(bits)))
    return found


CODES = {t.name: t for t in (*_floats(), *_tables())}


def element(name: str) -> DType | None:
    """The element type of that name, tables included."""
    return BY_NAME.get(name) or CODES.get(name)
