"""SVDQuant: a part of low rank at full precision takes what is large, the rest is rounded.

The split is that of Li et al., "SVDQuant", arXiv 2411.05007, section 4.2. Further rounds fit the
factors again to what rounding left, as LoftQ does (arXiv 2310.08659). With inputs, the norm is that
of the outputs: the factors are those of the weights times a root of the inputs' energy, as in
SVD-LLM (arXiv 2403.07378).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.ir import fit
from tilec.ir.composed import LowRank, Plus
from tilec.ir.dtype import Array
from tilec.ir.fit import Fit
from tilec.ir.format import Dense, Format
from tilec.ir.scaled import Parts, Scaled
from tilec.quantisers.arguments import count, matrix, output_root, samples, scaled
from tilec.runtime.tensor import PackedTensor, packed

DAMPING = 0.01  # of the mean input energy, added to every column's


def svd_split(weight: Any, format: Format | str, rank: int, inputs: Any = None,
              rounds: int = 1) -> PackedTensor:  # fmt: skip
    """Weights [N, K] as left[N, rank] @ right[rank, K] in f16 plus a rest in a scaled format.

    Each of the `rounds` fits the factors to the weights without the rounded rest of the round
    before, and rounds the new rest; the nearest of all is kept. Near means in |error| or, with
    inputs[samples, K], in |inputs @ error.T|. Raises TileError for numbers that are not finite,
    shapes that do not fit, other formats, and a rank that is not 1 to min(N, K).
    """
    x = matrix("svd_split", weight)
    inner = scaled("svd_split", format)
    count("svd_split", "the rank", rank, 1, min(x.shape))
    count("svd_split", "rounds", rounds, 1)
    root = np.eye(0)
    metrics: list[Array | None] = [None]
    if inputs is not None:
        root = output_root(samples("svd_split", inputs, x))
        metrics.append(_metric(root))
    low = LowRank(rank)
    best: Parts = {}
    least = np.inf
    for first in metrics:  # a first split that ignores the inputs may have the smaller rest
        fitted = x
        for i in range(rounds):
            factors = _factors(low, fitted, metrics[-1] if i else first)
            rest = x - low.values(factors, x.shape)
            own = fit.encode(inner, _representable(inner, rest), Fit(True))
            values = inner.values(own, x.shape)
            fitted = x - values
            error = rest - values
            found = float(np.linalg.norm(error if inputs is None else root @ error.T))
            if found < least:
                best, least = _joined(factors, own), found
    return packed(Plus((low, inner)), best, x.shape)


def _joined(*each: Parts) -> Parts:
    """The components of a sum, from those of its parts."""
    return {f"{i}.{name}": v for i, parts in enumerate(each) for name, v in parts.items()}


def _metric(root: Array) -> Array:
    """The lower Cholesky factor C[K, K] of the damped energy of inputs; its mean energy is 1."""
    energy = root.T @ root
    mean = float(np.diag(energy).mean()) or 1.0
    return np.linalg.cholesky(energy / mean + DAMPING * np.eye(len(energy)))


def _factors(format: LowRank, x: Array, metric: Array | None) -> Parts:
    """The factors nearest to x[N, K], of the given rank, in |error @ metric|."""
    if metric is None:
        return fit.encode(format, x, Fit())
    u, s, v = np.linalg.svd(x @ metric, full_matrices=False)
    root = np.sqrt(s[: format.rank])
    left = u[:, : format.rank] * root
    right = np.linalg.solve(metric.T, (root[:, None] * v[: format.rank]).T).T
    return {"left": format.factors.round(left), "right": format.factors.round(right)}


def _representable(format: Scaled, rest: Array) -> Array:
    """The rest, 0 in blocks too small for a scale: there the factors alone are exact enough."""
    if not isinstance(format.scale, Dense) or not format.scale.dtype.is_float:
        return rest
    t = format.scale.dtype
    least = 2.0 ** (2 - (1 << t.exponent - 1) - t.mantissa) * format.codes.high
    blocks, _ = format.block.split(rest)
    return rest * format.block.spread(np.abs(blocks).max(-1) >= least, rest.shape)
