"""Extremely randomised trees in numpy (Geurts, Ernst and Wehenkel, Machine Learning, 2006):
mean and deviation over trees. They see cliffs and conditions where a process sees slopes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilec.tune.search.gaussian import Floats

TREES = 40
LEAF = 2  # values that are enough for a split: twice as many
TRIED = 0.7  # the part of the features that a split chooses among
LEAST = 1e-3  # deviation, in units of the values, where all trees agree

Places = NDArray[np.intp]


def grown(
    features: Floats, values: Floats, wanted: Floats, seed: list[int]
) -> tuple[Floats, Floats]:
    """Mean and deviation of `values` (which have deviation about 1) at `wanted`."""
    random = np.random.default_rng(seed)
    found = np.stack([_grown(features, values, wanted, random) for _ in range(TREES)])
    return found.mean(0), found.std(0) + LEAST


def _grown(features: Floats, values: Floats, wanted: Floats, random: np.random.Generator) -> Floats:
    """What one tree says: it is grown and read at once, so that it is never stored."""
    said = np.zeros(len(wanted))
    left = [(np.arange(len(values)), np.arange(len(wanted)))]
    while left:
        here, there = left.pop()
        if not len(there):
            continue
        split = _split(features[here], values[here], random)
        if split is None:
            said[there] = values[here].mean()
            continue
        feature, edge = split
        low, below = features[here, feature] <= edge, wanted[there, feature] <= edge
        left += [(here[low], there[below]), (here[~low], there[~below])]
    return said


def _split(
    features: Floats, values: Floats, random: np.random.Generator
) -> tuple[int, float] | None:
    """A feature and an edge: of random ones the best by squared error, None where there is none."""
    low, high = features.min(0), features.max(0)
    open_ = np.flatnonzero(high > low)
    if len(values) < 2 * LEAF or not len(open_) or np.ptp(values) < 1e-12:
        return None
    tried = random.permutation(open_)[: int(np.ceil(TRIED * len(open_)))]
    low, high = low[tried], high[tried]
    edges: Floats = low + (high - low) * random.random(len(tried))
    edges[edges >= high] = low[edges >= high]  # rounding may reach the highest
    below = features[:, tried] <= edges
    n, total = below.sum(0), values @ below
    gain = total**2 / n + (values.sum() - total) ** 2 / (len(values) - n)
    best = int(np.argmax(gain))
    return int(tried[best]), float(edges[best])
