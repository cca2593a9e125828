"""A width for each expert of a mixture: given, or chosen so that the widest go where they help.

Which experts need more bits differs between methods that mix precisions of experts, such as MC-MoE
(arXiv 2410.06270); here it is told by their squared error, times an importance if there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilec.ir import composed, fit
from tilec.ir.composed import Experts
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.quantisers.arguments import numbers
from tilec.runtime.tensor import PackedTensor, packed

ROUNDING = 1e-9  # bits that the sum of costs may be off by


def experts(weight: Any, formats: Sequence[Format | str], bits: float | None = None,
            importance: Any = None, search: bool = False) -> PackedTensor:  # fmt: skip
    """Weights [E, N, K], each expert in one of several formats: one tensor for one kernel.

    Without `bits`, formats[e] is that of expert e. With it, each expert begins with the format of
    the fewest bits; then, as long as the mean of bits a weight is at most `bits`, one after the
    other gets the format that takes off most squared error (times importance[E], if given) for a
    bit. Raises TileError for numbers that are not finite, shapes that do not fit, importances below
    0, and a mean that not even the fewest bits reach.
    """
    x = numbers("experts", "weights", weight)
    if x.ndim != 3:
        raise TileError(f"experts: the weights have shape {list(x.shape)}, expected [E, N, K]")
    known = [named(f) if isinstance(f, str) else f for f in formats]
    how = Fit(search)
    if bits is not None:
        known = _chosen(x, list(dict.fromkeys(known)), bits, _important(importance, x), how)
    if len(known) != len(x):
        raise TileError(f"experts: {len(known)} formats for {len(x)} experts; a choice of formats "
                        "needs a number of bits")  # fmt: skip
    kinds = list(dict.fromkeys(known))
    which = np.array([kinds.index(f) for f in known])
    counts = np.bincount(which, minlength=len(kinds)).tolist()
    format = Experts(tuple(kinds), tuple(counts[:-1]))
    parts = composed.experts(format, x, np.argsort(which, kind="stable"), how)
    return packed(format, parts, x.shape)


def _important(given: Any, x: Array) -> Array:
    """How much the error of each expert counts."""
    if given is None:
        return np.ones(len(x))
    found = numbers("experts", "importance", given)
    if found.shape != x.shape[:1] or found.min() < 0:
        raise TileError(f"experts: the importance has shape {list(found.shape)} and is at least "
                        f"{found.min():.3g}, expected {len(x)} numbers from 0 on")  # fmt: skip
    return found


def _chosen(x: Array, formats: list[Format], bits: float, important: Array, how: Fit
            ) -> list[Format]:  # fmt: skip
    """The format of each expert."""
    if not formats:
        raise TileError("experts: expected formats to choose from")
    size = x.shape[1:]
    cost = np.array([f.bits(size) for f in formats]) / (size[0] * size[1])
    if cost.min() > bits:
        raise TileError(f"experts: {formats[int(cost.argmin())]} has the fewest bits a weight, "
                        f"{cost.min():.4g}; expected at most {bits:g}")  # fmt: skip
    error = np.array([[_error(f, one, how) for f in formats] for one in x]) * important[:, None]
    which, left = np.full(len(x), cost.argmin()), (bits - cost.min()) * len(x) + ROUNDING
    while True:
        more = cost - cost[which][:, None]
        gain = np.take_along_axis(error, which[:, None], 1) - error
        ratio = np.divide(gain, more, out=np.zeros_like(gain), where=(more > 0) & (more <= left))
        e, f = np.unravel_index(ratio.argmax(), ratio.shape)
        if ratio[e, f] <= 0:
            return [formats[i] for i in which]
        left -= more[e, f]
        which[e] = f


def _error(format: Format, x: Array, how: Fit) -> float:
    """The squared error of one expert [N, K]."""
    return float(np.square(format.values(fit.encode(format, x, how), x.shape) - x).sum())
