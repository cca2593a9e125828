"""Gaussian processes in numpy: Matern 5/2 with one length scale a feature (Rasmussen and Williams,
Gaussian Processes for Machine Learning, 2006, chapters 2 and 5), fitted by maximum a posteriori.

Values are expected with mean 0 and variance about 1, features within [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
JITTER = 1e-6
ROOT5 = np.sqrt(5.0)
NOISE, SPREAD = 0.01, np.array([0.7, 1.5])  # of values: noise; prior deviations of log variances


@dataclass(frozen=True, eq=False)
class Observed:
    """What a process is conditioned on.

    `groups` gives each feature its length scale: features of one parameter may share theirs.
    `basis` holds columns of a linear part of the model, whose weights are standard normal.
    """

    features: Floats  # n x features
    groups: NDArray[np.intp]  # features: 0 to d - 1, rising
    values: Floats  # n
    basis: Floats  # n x q


def fitted(data: Observed, scale: float, steps: int = 20) -> Floats:
    """Log length scales, log variance and log noise: the maximum of posterior density.

    `scale` is the centre of the prior of length scales (log-normal, deviation 1).
    """
    d = int(data.groups[-1]) + 1
    middle = np.concatenate([np.full(d, np.log(scale)), [0.0, np.log(NOISE)]])
    deviation = np.concatenate([np.ones(d), SPREAD])
    apart = np.zeros((d, len(data.values), len(data.values)))
    for group, c in zip(data.groups, data.features.T, strict=True):
        apart[group] += np.subtract.outer(c, c) ** 2
    linear = data.basis @ data.basis.T

    def loss(theta: Floats) -> tuple[float, Floats]:
        off = (theta - middle) / deviation
        f, g = _negative_evidence(theta, apart, linear, data.values)
        return f + 0.5 * float(off @ off), g + off / deviation

    return _descended(loss, middle, np.diag(deviation**2), steps)


def _negative_evidence(
    theta: Floats, apart: Floats, linear: Floats, values: Floats
) -> tuple[float, Floats]:
    """Minus the log marginal likelihood without its constant, and its gradient."""
    d, n = len(theta) - 2, len(values)
    sharp, variance, noise = np.exp(-2 * theta[:d]), float(np.exp(theta[d])), _noise(theta)
    squared: Floats = np.tensordot(sharp, apart, 1)
    r = ROOT5 * np.sqrt(squared)
    decay = variance * np.exp(-r)
    stationary = (1 + r + r * r / 3) * decay
    total: Floats = stationary + linear + noise * np.eye(n)
    try:
        factor = np.asarray(np.linalg.cholesky(total), np.float64)
    except np.linalg.LinAlgError:
        return np.inf, np.zeros_like(theta)
    root = np.linalg.inv(factor)
    inverse = root.T @ root
    weights = inverse @ values
    f = 0.5 * float(values @ weights) + float(np.log(np.diag(factor)).sum())
    slope = 0.5 * (inverse - np.outer(weights, weights))
    g = np.empty_like(theta)
    g[:d] = sharp * (apart.reshape(d, -1) @ (slope * decay * (1 + r) * (5 / 3)).ravel())
    g[d] = (slope * stationary).sum()
    g[d + 1] = np.trace(slope) * (noise - JITTER)
    return f, g


def _descended(
    loss: Callable[[Floats], tuple[float, Floats]], x: Floats, metric: Floats, steps: int
) -> Floats:
    """A minimum by BFGS with backtracking (Nocedal and Wright, Numerical Optimization, 6.1)."""
    f, g = loss(x)
    start = metric
    for _ in range(steps):
        way = -metric @ g
        if way @ g >= 0:
            metric, way = start, -start @ g
        way *= min(1.0, 1.5 / max(float(np.abs(way).max()), 1e-12))  # no step of more than e^1.5
        found = _backtracked(loss, x, f, g, way)
        if found is None:
            break
        step, after, slope = found
        change, gain = slope - g, f - after
        x, f, g = x + step, after, slope
        if gain < 1e-3:
            break
        curve = float(step @ change)
        if curve > 1e-10:
            a = np.eye(len(x)) - np.outer(step, change) / curve
            metric = a @ metric @ a.T + np.outer(step, step) / curve
    return x


def _backtracked(
    loss: Callable[[Floats], tuple[float, Floats]], x: Floats, f: float, g: Floats, way: Floats
) -> tuple[Floats, float, Floats] | None:
    """A step along `way` that descends, the loss there and its gradient."""
    for power in range(6):
        step = 0.4**power * way
        after, slope = loss(x + step)
        if after <= f + 1e-4 * float(g @ step):
            return step, after, slope
    return None


def predicted(
    data: Observed, theta: Floats, features: Floats, basis: Floats
) -> tuple[Floats, Floats]:
    """Mean and deviation (without noise) at new features, with the columns of `basis` there."""
    scales = np.exp(theta[:-2])[data.groups]
    known = data.features / scales
    total = _kernel(known, known, theta[-2]) + data.basis @ data.basis.T
    total += _noise(theta) * np.eye(len(data.values))
    root = np.linalg.inv(np.linalg.cholesky(total))
    cross = _kernel(features / scales, known, theta[-2]) + basis @ data.basis.T
    mean = cross @ (root.T @ (root @ data.values))
    told = cross @ root.T
    variance = np.exp(theta[-2]) + np.einsum("ij,ij->i", basis, basis)
    variance -= np.einsum("ij,ij->i", told, told)
    return mean, np.sqrt(np.maximum(variance, 1e-10))


def _noise(theta: Floats) -> float:
    return float(np.exp(theta[-1])) + JITTER


def _kernel(a: Floats, b: Floats, log_variance: float) -> Floats:
    """The covariance of scaled features."""
    r = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    np.maximum(r, 0, out=r)
    np.sqrt(r, out=r)
    r *= ROOT5
    smooth = np.exp(-r)
    r *= 1 + r / 3
    r += 1
    smooth *= r
    smooth *= np.exp(log_variance)
    return smooth
