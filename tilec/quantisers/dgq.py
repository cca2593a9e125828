"""DGQ: integer group scales over a channel's, such that groups expand to 8-bit integers.

The rule is the two-phase search of Zhang et al., "Dual Grained Quantization", arXiv 2310.04836,
section 3.2, with the grids of the authors' code: first the range of each group, then the scale of
each channel, for which group scales are rounded to integers and codes kept where code - zero times
the group's integer is a number of 8 bits. Then each group's integer and zero move by at most one
where that is nearer. The inputs weigh the columns by their mean squares; products of different
columns, which the paper's output error has too, are left out.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, DType, f32
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format
from tilec.ir.granularity import CHANNEL
from tilec.ir.scaled import Scaled
from tilec.quantisers.arguments import matrix, samples, scaled
from tilec.runtime.tensor import PackedTensor, packed

LOW, HIGH = -128, 127  # of the expanded integers
GROUPS = tuple(1 - i / 50 for i in range(16))  # parts of a group's range
CHANNELS = tuple(1.02 - i / 100 for i in range(81))  # parts of a channel's


def dgq(weight: Any, format: Format | str = "dgq", inputs: Any = None) -> PackedTensor:
    """Weights [N, K] with integer group scales over one scale a row, near in squared error.

    (code - zero) * scale_code is within -128 to 127 everywhere. With inputs[samples, K], errors
    count by the mean square of their column's inputs. Raises TileError for numbers that are not
    finite, shapes that do not fit, formats other than integer codes with zero=int and groups whose
    scales are unsigned integers over a float scale for each channel, and rows whose scale is out of
    that float's range.
    """
    x = matrix("dgq", weight)
    target = scaled("dgq", format)
    levels, channel_type = _two_levels(target)
    moment = np.ones((1, x.shape[1]))
    if inputs is not None:
        moment = np.square(samples("dgq", inputs, x)).mean(0)[None]
    weights, valid = target.block.split(moment)
    groups = _Groups(target, target.block.split(x)[0], weights * valid, levels)
    scale, zero = groups.ranges()
    channel = groups.channel(scale, zero, channel_type)
    level, zero = groups.moved(groups.level(scale, channel), zero, channel)
    codes = groups.codes(level, zero, channel)[0]
    parts = {"codes": target.block.join(codes, x.shape), "scale.codes": level,
             "scale.scale": channel, "zero": zero}  # fmt: skip
    return packed(target, parts, x.shape)


def _two_levels(format: Scaled) -> tuple[int, DType]:
    """The greatest group scale, and the type of channel scales."""
    inner = format.scale
    if isinstance(inner, Scaled) and isinstance(inner.scale, Dense):
        t = inner.scale.dtype
        two = inner.codes.kind == "uint" and inner.zero == "none" and inner.block == CHANNEL
        zeros = format.zero == "int" and format.zeros == Dense(format.codes)
        if two and zeros and t.is_float and format.block.group is not None:
            return min(int(inner.codes.high), HIGH), t
    raise TileError(f"dgq: expected zero=int and groups with unsigned integers over a scale for "
                    f"each channel, such as dgq<group=64>, not {format}")  # fmt: skip


class _Groups:
    """The groups x[N, G, elements] of weights, the weights of their errors, and the search."""

    def __init__(self, format: Scaled, x: Array, weights: Array, levels: int) -> None:
        self.format, self.x, self.weights, self.levels = format, x, weights, levels

    def error(self, value: Array) -> Array:
        """The weighted squared error [N, G]."""
        return (np.square(value - self.x) * self.weights).sum(-1)

    def ranges(self) -> tuple[Array, Array]:
        """Phase 1: scales and zeros [N, G] of the part of each group's range that is nearest."""
        low, high = float(self.format.codes.low), float(self.format.codes.high)
        bottom, top = np.minimum(self.x.min(-1), 0), np.maximum(self.x.max(-1), 0)
        full: Array = (top - bottom) / (high - low)
        zero = low - np.divide(bottom, full, out=np.zeros_like(full), where=full > 0)
        zero = self.format.codes.round(zero, saturate=True)
        best, least = np.array(full), np.full(full.shape, np.inf)
        for ratio in GROUPS:
            found = self.error(fit.rounded(self.format, self.x, full * ratio, zero)[1])
            better = found < least
            best, least = np.where(better, full * ratio, best), np.where(better, found, least)
        return best, zero

    def channel(self, scale: Array, zero: Array, t: DType) -> Array:
        """Phase 2: the channel scales [N] for which integer group scales lose least."""
        full = np.abs(self.x).max((1, 2)) / HIGH
        lost = (full > 0) & (t.round(full) == 0) | ~np.isfinite(t.round(full * CHANNELS[0]))
        if lost.any():
            top = float(full[lost].max()) * HIGH
            raise TileError(f"dgq: the scale of a channel whose largest element is {top:.3g} is "
                            f"out of the range of {t}", hint="use a channel scale of f32"
                            )  # fmt: skip
        best, least = np.zeros_like(full), np.full(full.shape, np.inf)
        for ratio in CHANNELS:
            tried = t.round(full * ratio)
            value = self.codes(self.level(scale, tried), zero, tried)[1]
            found = self.error(value).sum(-1)
            better = found < least
            best, least = np.where(better, tried, best), np.where(better, found, least)
        return best

    def level(self, scale: Array, channel: Array) -> Array:
        """Group scales [N, G] as integers over the channels' scales [N]."""
        over = np.broadcast_to(channel[:, None], scale.shape)
        ratio = np.divide(scale, over, out=np.ones_like(scale), where=over > 0)
        return np.rint(ratio).clip(1, self.levels).astype(np.int64)

    def codes(self, level: Array, zero: Array, channel: Array) -> tuple[Array, Array]:
        """The nearest codes that expand to 8 bits, and the values that they mean."""
        step = f32.round(level * channel[:, None])
        codes, _ = fit.rounded(self.format, self.x, step, zero)
        codes = codes.clip((zero - -LOW // level)[..., None], (zero + HIGH // level)[..., None])
        return codes, (codes - zero[..., None]) * step[..., None]

    def moved(self, level: Array, zero: Array, channel: Array) -> tuple[Array, Array]:
        """Integer scales and zeros [N, G], each moved by at most one where that is nearer."""
        t = self.format.codes
        best, least = (level, zero), self.error(self.codes(level, zero, channel)[1])
        for up, aside in product((0, -1, 1), repeat=2):
            new = (level + up).clip(1, self.levels), (zero + aside).clip(t.low, t.high)
            found = self.error(self.codes(*new, channel)[1])
            better = found < least
            best = np.where(better, new[0], best[0]), np.where(better, new[1], best[1])
            least = np.minimum(found, least)
        return best
