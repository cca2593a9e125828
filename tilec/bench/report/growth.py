"""How fast costs grow along an axis, and which stages of a compile they come from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tilec.bench.case import OURS
from tilec.bench.report.results import Case

STEEP = 1.15  # an exponent that is no noise around 1
SMALL = 0.05  # part of a compile that a stage must be to count


@dataclass(frozen=True)
class Growth:
    """Something that is `first` seconds at the low end of a curve and `last` at the high end, where
    the axis is `wider` times as large."""

    what: str
    first: float
    last: float
    wider: float

    @property
    def exponent(self) -> float:
        """e, where the time grows as the axis to the power of e from one end to the other."""
        return math.log(self.last / self.first) / math.log(self.wider)

    @property
    def steep(self) -> bool:
        """Whether it grows faster than the axis."""
        return self.exponent > STEEP


def growths(axis: str, cases: Sequence[Case]) -> list[Growth]:
    """What grows from the first to the last of the cases, which lie along an axis: each contender,
    then the stages of ours that take long in the last, the longest first."""
    ends = sorted((c for c in cases if c.ours and c.ours.time), key=lambda c: c.axes[axis])
    if len(ends) < 2 or not ends[0].axes[axis] > 0:
        return []
    low, high = ends[0], ends[-1]
    wider = high.axes[axis] / low.axes[axis]
    found: list[Growth] = []
    for name in (OURS, *high.others):
        first, last = (c.contenders.get(name) for c in (low, high))
        if first and last and first.time and last.time:
            found.append(Growth(name, first.time, last.time, wider))
    first, last = _stages(low), _stages(high)
    whole = sum(last.values())
    named = [n for n in sorted(last, key=lambda n: -last[n])
             if last[n] >= SMALL * whole and first.get(n)]  # fmt: skip
    return found + [Growth(f"of that {n}", first[n], last[n], wider) for n in named]


def _stages(case: Case) -> Mapping[str, float]:
    """The seconds of the stages of a compile, where a case has any."""
    return case.ours.about.get("stages", {}) if case.ours else {}
