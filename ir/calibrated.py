"""Rounding that knows the inputs: each column's error is made up for by the columns after it.

The method is GPTQ (Frantar et al., arXiv 2210.17323) with scales fixed beforehand from the whole
weights, and columns in the order of falling input energy.
"""

from __future__ import annotations

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.scaled import Parts, Scaled

DAMPING = 0.01  # of the mean input energy, added to every column's
STEP = 32  # columns between updates of all that follow


def encode(format: Scaled, x: Array, inputs: Array, how: fit.Fit) -> Parts:
    """The components of weights x[N, K] that keep inputs[S, K] @ x.T close in least squares.

    Raises TileError where the inputs do not belong to the weights.
    """
    if x.ndim != 2 or inputs.ndim != 2 or inputs.shape[1:] != x.shape[1:] or not len(inputs):
        raise TileError(f"quantize: inputs are {list(inputs.shape)}, expected [samples, K] "
                        f"beside weights {list(x.shape)}")  # fmt: skip
    if not np.isfinite(inputs).all():
        raise TileError("quantize: the inputs have elements that are not finite")
    parts = fit.encode(format, x, how)
    scale, zero = (format.block.spread(format.number(name, parts, x.shape), x.shape)
                   if name in format.numbers() else np.zeros(x.shape)
                   for name in ("scale", "zero"))  # fmt: skip
    energy = inputs.T.astype(np.float64) @ inputs
    order = np.argsort(-np.diag(energy), kind="stable")
    upper = _compensation(energy[np.ix_(order, order)])
    rest = np.ascontiguousarray(np.asarray(x, np.float64).T[order])  # a column of weights is a row
    codes = np.empty(x.shape, format.codes.carrier)
    for start in range(0, len(order), STEP):
        stop = min(start + STEP, len(order))
        errors = np.empty((stop - start, len(x)))
        for i in range(start, stop):
            k = order[i]
            found, value = fit.rounded(format, rest[i, :, None], scale[:, k], zero[:, k])
            codes[:, k] = found[:, 0]
            error = errors[i - start] = (rest[i] - value[:, 0]) / upper[i, i]
            rest[i + 1 : stop] -= upper[i, i + 1 : stop, None] * error
        rest[stop:] -= upper[start:stop, stop:].T @ errors
    return parts | {"codes": codes}


def _compensation(energy: Array) -> Array:
    """The upper Cholesky factor of the inverse of the damped energy."""
    size = len(energy)
    mean = float(np.diag(energy).mean())
    damped = energy + np.eye(size) * (DAMPING * mean if mean > 0 else 1.0)
    return np.linalg.cholesky(np.linalg.inv(damped)).T
