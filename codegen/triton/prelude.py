"""Functions that Triton lacks: printed above a kernel that calls them."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
    "clip": '''
@triton.jit
def clip(x, low, high):
    """Into the range of an integer; NaN becomes 0."""
    return tl.minimum(tl.maximum(tl.where(x == x, x, 0.0), low), high)
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


def prelude(lines: Sequence[str]) -> list[str]:
    """The lines of every function here that the lines of a kernel name."""
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    used = [t for name, t in TEXTS.items() if re.search(rf"(?<![\w.]){name}\b", text)]
    return [line for t in used for line in (*t.strip().splitlines(), "", "")]
