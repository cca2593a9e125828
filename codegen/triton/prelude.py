"""Functions that Triton lacks: printed above a kernel that calls them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

TEXTS = {
    "rint": '''
@triton.jit
def rint(x):
    """To the nearest whole number, ties to the even one."""
    low = tl.floor(x)
    rest = x - low
    odd = low - 2.0 * tl.floor(low * 0.5)
    return tl.where((rest > 0.5) | ((rest == 0.5) & (odd == 1.0)), low + 1.0, low)
''',
    # Cephes' rational function, where 1 - 2 / (exp(2x) + 1) would cancel.
    "tanh": '''
@triton.jit
def tanh(x):
    """The hyperbolic tangent: a rational function near 0, beyond it by exp."""
    z = x * x
    top = (-0.964399179425052 * z - 99.2877231001919) * z - 1614.68768441708
    bottom = ((z + 112.811678491633) * z + 2235.48839060100) * z + 4844.06305325125
    far = 1.0 - 2.0 / (tl.exp(2.0 * tl.abs(x)) + 1.0)
    return tl.where(tl.abs(x) < 0.625, x + x * z * (top / bottom), tl.where(x < 0, -far, far))
''',
    # Sums of neighbouring fields, twice as wide each time: compilers know it as one instruction.
    "popcount": '''
@triton.jit
def popcount(x):
    """The number of ones among 32 bits."""
    n = x.to(tl.uint32, bitcast=True)
    n = n - ((n >> 1) & 0x55555555)
    n = (n & 0x33333333) + ((n >> 2) & 0x33333333)
    n = (n + (n >> 4)) & 0x0F0F0F0F
    return ((n * 0x01010101) >> 24).to(x.dtype, bitcast=True)
''',
    "clip": '''
@triton.jit
def clip(x, low, high):
    """Into the range of an integer; NaN becomes 0."""
    return tl.minimum(tl.maximum(tl.where(x == x, x, 0.0), low), high)
''',
    "floor_div": '''
@triton.jit
def floor_div(a, b):
    """The quotient rounded down, and 0 where b is 0."""
    by = tl.where(b == 0, 1, b).to(b.dtype)
    down = (a % by != 0) & ((a < 0) != (by < 0))
    return tl.where(b == 0, 0, a // by - down.to(a.dtype)).to(a.dtype)
''',
    "floor_mod": '''
@triton.jit
def floor_mod(a, b):
    """What the quotient rounded down leaves, and 0 where b is 0."""
    by = tl.where(b == 0, 1, b).to(b.dtype)
    down = (a % by != 0) & ((a < 0) != (by < 0))
    return tl.where(b == 0, 0, a % by + tl.where(down, by, 0)).to(a.dtype)
''',
    "whole": '''
@triton.jit
def whole(x):
    """As an int64; what has no place there becomes 0."""
    return tl.where(tl.abs(x) < 9223372036854775808.0, x, 0.0).to(tl.int64)
''',
    "to_e4m3": '''
@triton.jit
def to_e4m3(x):
    """To the nearest e4m3; NaN for what rounds beyond the greatest."""
    return tl.where(tl.abs(x) <= 464.0, x, float("nan")).to(tl.float8e4nv)
''',
    "to_e5m2": '''
@triton.jit
def to_e5m2(x):
    """To the nearest e5m2; infinity for what rounds beyond the greatest."""
    bits = x.to(tl.float8e5).to(tl.uint8, bitcast=True)
    far = tl.abs(x) >= 61440.0
    return tl.where(far, (bits & 0x80) | 0x7C, bits).to(tl.float8e5, bitcast=True)
''',
    "ordered": '''
@triton.jit
def ordered(x, whole: tl.constexpr, most: tl.constexpr):
    """Whole numbers in the order of floats, zeros equal, NaN above all."""
    i = (x + 0.0).to(whole, bitcast=True)
    return tl.where(x != x, most, tl.where(i < 0, i ^ most, i))
''',
    "nan_max": '''
@triton.jit
def nan_max(a, b):
    """The greater, or NaN if either is."""
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)
''',
    "nan_min": '''
@triton.jit
def nan_min(a, b):
    """The lesser, or NaN if either is."""
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)
''',
}


def prelude(lines: Sequence[str], more: Mapping[str, str]) -> list[str]:
    """The lines of every function, here or in `more`, that the lines of a kernel name."""
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    used = [t for name, t in {**TEXTS, **more}.items()
            if re.search(rf"(?<![\w.]){name}\b", text)]  # fmt: skip
    return [line for t in used for line in (*t.strip().splitlines(), "", "")]
