"""How sure a ratio of medians is: intervals by drawing rounds again (Efron 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000
SURE = 0.95  # of the draws lie inside of an interval
LEAST = 3  # rounds that say something

Rounds = Sequence[float | None]


@dataclass(frozen=True)
class Interval:
    """Where a ratio is likely to be."""

    low: float
    high: float

    @property
    def verdict(self) -> int:
        """1 where the ratio is above 1 beyond noise, -1 where it is below, else 0."""
        return (self.low > 1) - (self.high < 1)


def paired(above: Rounds, below: Rounds) -> Interval | None:
    """The interval of the median of above / below, measured in the same rounds; None where too few
    rounds were undisturbed."""
    pairs = zip(above, below, strict=False)
    ratios = np.array([a / b for a, b in pairs if a and b])
    return _interval(_medians(ratios)) if len(ratios) >= LEAST else None


def between(above: Rounds, below: Rounds) -> Interval | None:
    """The interval of median(above) / median(below), of two runs that know nothing of each other;
    None where too few rounds were undisturbed."""
    a, b = (np.array([x for x in each if x]) for each in (above, below))
    if min(len(a), len(b)) < LEAST:
        return None
    return _interval(_medians(a, 0) / _medians(b, 1))


def _medians(values: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """The medians of as many values drawn again, many times."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    return np.median(values[drawn], axis=1)


def _interval(found: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(found, [(1 - SURE) / 2, (1 + SURE) / 2])
    return Interval(float(low), float(high))
