"""How many k's a step of a product has, by what its operands are stored as."""

from __future__ import annotations

from math import gcd

import numpy as np

from tilec.ir.dtype import Array, bf16, f64, i8
from tilec.ir.dynamic import Dynamic
from tilec.ir.extent import Extent
from tilec.ir.format import Dense, Format
from tilec.ir.ops.reduce import whole_bytes
from tilec.ir.scaled import Scaled
from tilec.passes import bit_planes, two_step
from tilec.passes.whole import exact, values

LONGER = 16  # times as many k's where bits are multiplied: a row of them is as long in bytes
LEAST = 32  # k's that divide steps of panels
FEW, SMALL = 6, 16  # for so few rows, codes of larger groups are not decoded in two steps


def step(a: Format, b: Format, rows: Extent, most: int, planes: int) -> int:
    """A step for the product of [rows, K] stored as `a` and of [N, K], turned, stored as `b`.

    It divides the groups whose scales move to the accumulator, and has at most `most` k's, or 16
    times as many for whole codes of p and q bits with p * q up to `planes`: lower-formats, which
    has that option too, multiplies them bit by bit.
    """
    x, w = whole_numbers(a), whole_numbers(b)
    bits = [bit_planes.digits(v) for v in (x, w) if v is not None]
    pairs = [len(e.weights) for e in bits if e is not None]
    if len(pairs) == 2 and pairs[0] * pairs[1] <= planes:
        most *= LONGER
    groups = [g for g in (a.group, _bound(b, x, rows)) if g is not None]
    return gcd(*(_divisor(g, most) for g in groups)) or most


def panelled(a: Format, b: Format, most: int, panel: int, pairs: bool) -> int:
    """The most k's of a step, if a column of a dense second operand of floats has `panel` bytes of
    a cache: they are multiplied as f32 or f64, but bf16 with `pairs` as it is."""
    if not (isinstance(a, Dense) and isinstance(b, Dense)) or not b.dtype.is_float:
        return most
    types = a.dtype, b.dtype
    size = 2 if pairs and all(map(bf16.holds, types)) else 8 if f64 in types else 4
    return min(most, max(LEAST, panel // size // LEAST * LEAST))


def whole_numbers(format: Format) -> Array | None:
    """The whole numbers that an operand of codes stands for beside its scales (of dense integers
    the extremes); None where it has none."""
    inner = format.inner if isinstance(format, Dynamic) else format
    if isinstance(inner, Scaled):
        return values(inner)
    if isinstance(inner, Dense) and whole_bytes(inner.dtype):
        return np.array([inner.dtype.low, inner.dtype.high])
    return None


def _bound(format: Format, beside: Array | None, rows: Extent) -> int | None:
    """Elements that have one scale on the accumulator: a group, or all that share an outer scale
    where bytes are decoded in two steps.

    Two steps cost five instructions for 64 codes and save a scaling a group: on a Zen 5 they are
    1.4 to 6 times as fast for groups of 16 and 32, and as fast at least for 128, but for few rows
    0.6 times.
    """
    e = two_step.expansion(format) if isinstance(format, Scaled) else None
    if e is None or e.dtype is None or beside is None or not exact(beside, i8):
        return format.group
    few = isinstance(rows, int) and rows <= FEW
    return format.group if few and (format.group or 0) > SMALL else e.block.columns


def _divisor(group: int, most: int) -> int:
    """The group, or its largest divisor that is not too deep."""
    if group <= most:
        return group
    return max((d for d in range(1, most + 1) if group % d == 0), key=lambda d: (d % 32 == 0, d))
