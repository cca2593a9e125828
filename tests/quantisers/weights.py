"""Weights and inputs of the kinds that quantisers differ on, and relative errors."""

from __future__ import annotations

import numpy as np

from tilec.ir.dtype import Array


def gaussian(n: int, k: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, k))


def heavy(n: int, k: int, seed: int = 0) -> Array:
    """Student's t with 3 degrees of freedom."""
    return np.random.default_rng(seed).standard_t(3, (n, k))


def outliers(n: int, k: int, seed: int = 0, size: float = 20) -> Array:
    """One column in 64 is that many times the others."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, k))
    x[:, rng.choice(k, k // 64, False)] *= size
    return x


def correlated(samples: int, k: int) -> Array:
    rng = np.random.default_rng(0)
    return rng.standard_normal((samples, k // 4)) @ rng.standard_normal((k // 4, k)) + 0.1


def decaying(n: int, k: int) -> Array:
    """Singular values that fall as 1 / i."""
    size = min(n, k)
    left, right = (np.linalg.qr(gaussian(m, size, seed))[0] for seed, m in enumerate((n, k)))
    return left * (50 / np.arange(1, size + 1)) @ right.T


KINDS = {"gaussian": gaussian, "heavy": heavy, "outliers": outliers}


def relative(w, other) -> float:
    """|w - other| / |w|."""
    return float(np.linalg.norm(w - other) / np.linalg.norm(w))
