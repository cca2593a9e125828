"""HQQ: zero points by half-quadratic optimisation, without data.

The rule is that of Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models",
2023 (mobiusml.github.io/hqq_blog): with the scale fixed, the error is split into a sparse part
W_e, made by the generalised shrinkage of the norm l_p with p < 1, and a rest whose mean the zero
takes up; beta, which says how much is sparse, grows from round to round.

Here errors are shrunk in units of the block's scale, so that weights may have any magnitude; the
published beta, 10 at first and 1.01 times that each round, is for weights of about 1. An integer
zero only moves the window of codes, which gains little where that covers the block anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit
from tilec.ir.format import Dense, Format
from tilec.ir.scaled import ADDED, Parts, Scaled
from tilec.quantisers.arguments import count, numbers, scaled
from tilec.runtime.tensor import PackedTensor, packed

P = 0.7  # of the norm
BETA = 4.0  # at first: errors up to 4**(-1 / (2 - P)), a third of a step, are not sparse
KAPPA = 1.1  # how beta grows


def hqq(weight: Any, format: Format | str, rounds: int = 20, search: bool = False) -> PackedTensor:
    """Weights [..., K] with the zero of each block that has the least sum of |error|**0.7 found.

    The scales are those of rounding to nearest: of the range of each block or, with `search`, of
    the least squared error among a few. No block gets worse than it is then, and where zeros have
    scales of their own, not the whole. Raises TileError for weights that are not finite, and for
    formats that store no zeros.
    """
    x = numbers("hqq", "weights", weight)
    target = scaled("hqq", format)
    count("hqq", "rounds", rounds, 0)
    if target.zeros is None:
        raise TileError(f"hqq: {target} stores no zeros; expected zero=float, int, shift or min")
    parts = fit.encode(target, x, Fit(search))
    blocks, valid = target.block.split(x)
    scale = target.number("scale", parts, x.shape)
    zero = target.number("zero", parts, x.shape)
    least = _objective(target, blocks, valid, scale, zero)
    beta = BETA
    for _ in range(rounds):
        zero = _improved(target, blocks, valid, scale, zero, beta)
        beta *= KAPPA
        new, stored = _stored(target, parts, zero, x.shape)
        found = _objective(target, blocks, valid, scale, stored)
        if not isinstance(target.zeros, Dense):  # blocks' zeros depend on one another
            if found.sum() < least.sum():
                parts, least = parts | new, found
            continue
        better = found < least
        least = np.where(better, found, least)
        parts = parts | {"zero": np.where(better, new["zero"], parts["zero"])}
    codes, _ = fit.rounded(target, blocks, scale, target.number("zero", parts, x.shape))
    return packed(target, parts | {"codes": target.block.join(codes, x.shape)}, x.shape)


def _objective(format: Scaled, x: Array, valid: Array, scale: Array, zero: Array) -> Array:
    """The sum of |error|**P of each block x[..., elements]."""
    return (np.abs(fit.rounded(format, x, scale, zero)[1] - x) ** P * valid).sum(-1)


def _improved(
    format: Scaled, x: Array, valid: Array, scale: Array, zero: Array, beta: float
) -> Array:
    """The zero of each block that takes up the mean of the error that is not sparse."""
    step = np.where(scale == 0, 1.0, scale)
    value = fit.rounded(format, x, scale, zero)[1]
    error = (x - value) / step[..., None]
    rest = (error - _shrunk(error, beta)) * valid
    mean = rest.sum(-1) / valid.sum(-1)
    return zero + mean * step if format.zero in ADDED else zero - mean


def _shrunk(x: Array, beta: float) -> Array:
    """sign(x) * max(|x| - |x|**(P - 1) / beta, 0)."""
    size = np.abs(x)
    power = np.where(size > 0, size, 1.0) ** (P - 1)
    return np.sign(x) * np.maximum(size - power / beta, 0)


def _stored(
    format: Scaled, parts: Parts, zero: Array, shape: tuple[int, ...]
) -> tuple[Parts, Array]:
    """Zeros as the components that store them, and as the values that those mean."""
    assert format.zeros is not None
    new = fit.encode(format.zeros, zero, Fit())
    new = {f"zero.{name}".rstrip("."): v for name, v in new.items()}
    return new, format.number("zero", parts | new, shape)
