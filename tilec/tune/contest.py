"""Which of some configs to use, decided on times that were taken in turns.

Each round gives a ratio to the default's time: what slows a whole round down is gone. A config is
measured until it is surely faster than the default by more than half a tie or surely not (a
sequential test), so that noise decides nothing; else the default stays, and of what is as fast what
is nearest to it. Half a tie, since two tunes must differ where the truth is at the limit of a
decision: what they choose is within a tie then, which it would not be if the limit were the tie.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tilec.tune.config import Config
from tilec.tune.records import Trial

TIE = 0.02  # times that are less apart are equal (TUNING.md 2.3)
NEAR = TIE / 2  # the limit of every decision
SIGMAS = 3.0  # of an interval: it is looked at after every round
FEWEST = 6  # rounds, before which nothing is sure
FLOOR = 0.001  # of a ratio, that no number of rounds makes surer, and no outlier is within
FENCE = 1.5  # times the middle half by which a sample is beyond it to be left out
FINE = 0.005  # half an interval that is small enough to measure no longer

Floats = NDArray[np.float64]
Rounds = Sequence[Sequence[float]]  # seconds by config; those of one config end where it was out


@dataclass(frozen=True)
class Ratio:
    """A time over another: the estimate, and the bounds of the interval where it surely is."""

    middle: float
    low: float = 0.0
    high: float = math.inf


def ratio(samples: Sequence[float], base: Sequence[float]) -> Ratio:
    """The ratio of the times of two configs in the rounds that both have, of which there is one.

    Only the quieter half of these rounds counts, by the times of both together: what slows the
    machine down slows one config more than another. That favours neither where both are as noisy.
    """
    count = min(len(samples), len(base))
    one, other = np.log(samples[:count]), np.log(base[:count])
    quiet = np.argsort(one + other, kind="stable")[: max(FEWEST, count // 2)]
    logs = inside((one - other)[quiet])
    middle, more = float(logs.mean()), len(logs) - 1
    if more + 1 < FEWEST:
        return Ratio(math.exp(middle))
    sigmas = SIGMAS * (1 + 5 / more)  # Student's t, about
    half = math.hypot(FLOOR, sigmas * float(logs.std(ddof=1)) / math.sqrt(more + 1))
    return Ratio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def contending(rounds: Rounds) -> list[int]:
    """The configs that must be measured on, the default (the first) among them; none where it is
    decided which are faster than that, and which are as fast as the fastest."""
    base, gain = rounds[0], 1 - NEAR
    found = {i: ratio(s, base) for i, s in enumerate(rounds) if i and s}
    left = {i: r for i, r in found.items() if r.low < gain}
    if not left:
        return []
    best = min(left, key=lambda i: left[i].middle)
    beside = {i: ratio(rounds[i], rounds[best]) for i in left}
    left = {i: r for i, r in left.items() if i == best or beside[i].low <= 1 + NEAR}
    sure = all(r.high < gain for r in left.values())
    if sure and all(i == best or beside[i].high <= 1 + NEAR for i in left):
        return []
    return [0, *left]


def faster_half(rounds: Rounds) -> list[int]:
    """The default, and the faster half of the others, at least one: where time runs out before it
    is decided, it is spent on what may be chosen (sequential halving, Karnin et al., 2013)."""
    others = sorted(range(1, len(rounds)), key=lambda i: ratio(rounds[i], rounds[0]).middle)
    return [0, *sorted(others[: max(1, len(others) // 2)])]


def known(rounds: Rounds) -> list[int]:
    """All configs, until every two are surely apart by more than a tie, surely not, or their ratio
    is known well."""
    for i, one in enumerate(rounds):
        for other in rounds[:i]:
            found = ratio(one, other)
            surely = found.low > 1 + TIE or found.high < 1 - TIE or (
                found.low > 1 - TIE and found.high < 1 + TIE)  # fmt: skip
            if not surely and found.high - found.low > 2 * FINE:
                return list(range(len(rounds)))
    return []


def chosen(configs: Sequence[Config], rounds: Rounds) -> Config:
    """The config to use: the default (the first), unless others are faster by more than half a
    tie; of these, among what is as fast as the fastest, the nearest to the default."""
    most = max(map(len, rounds[1:]), default=0)  # the others were out before
    found = {i: ratio(s, rounds[0]) for i, s in enumerate(rounds)
             if i and rounds[0] and len(s) == most > 0}  # fmt: skip
    faster = {i: r for i, r in found.items() if r.middle < 1 - NEAR and r.high < 1}
    if not faster:
        return configs[0]
    best = min(faster, key=lambda i: (faster[i].middle, i))
    tied = (i for i in faster if i == best or ratio(rounds[i], rounds[best]).middle <= 1 + NEAR)
    return nearest((configs[i] for i in tied), configs[0])


def paired(confirmed: Sequence[Trial]) -> list[Trial]:
    """Trials whose samples are ratios to the default's of the same round, times its median: what
    slowed a whole round down is gone. The first trial is the default's. Outliers are left out."""
    base = confirmed[0].samples
    if not base:
        return list(confirmed)
    usual = statistics.median(base)

    def shown(t: Trial) -> Trial:
        count = min(len(t.samples), len(base))
        logs = inside(np.log(np.divide(t.samples[:count], base[:count])))
        return replace(t, samples=tuple((np.exp(logs) * usual).tolist()))

    return [t if t.failure is not None else shown(t) for t in confirmed]


def nearest(configs: Iterable[Config], default: Config) -> Config:
    """The config with the fewest other values than the default, then the least far ones, then the
    first by text."""
    return min(configs, key=lambda c: (*_apart(c, default), c.text))


def _apart(config: Config, default: Config) -> tuple[int, float]:
    other = [(v, default.get(n, v)) for n, v in config.items() if default.get(n, v) != v]
    far = [abs(math.log2(max(v, 0.5) / max(d, 0.5))) for v, d in other
           if not isinstance(v, str) and not isinstance(d, str)]  # fmt: skip
    return len(other), sum(far)


def inside(logs: Floats) -> Floats:
    """Logarithms without those far beyond the middle half of them (Tukey's fences)."""
    if len(logs) < 4:
        return logs
    low, high = np.quantile(logs, (0.25, 0.75))
    room = max(FENCE * (high - low), FLOOR)
    return logs[(logs >= low - room) & (logs <= high + room)]
