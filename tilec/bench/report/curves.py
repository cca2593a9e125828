"""Cases of a suite that differ in one axis alone, as curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tilec.bench.case import OURS
from tilec.bench.report.results import Case, Suite

LEAST = 3  # points of a curve
WIDE = 8  # times the first value of an axis, from where it is drawn by its logarithm


@dataclass(frozen=True)
class Point:
    """A case: where it is on the axis, and the seconds of a contender."""

    at: float
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A contender along an axis."""

    who: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """The cases in one setting of the other axes, and the curves of their contenders."""

    title: str
    curves: tuple[Curve, ...]
    cases: tuple[Case, ...]

    @property
    def ticks(self) -> list[float]:
        """Where there are cases."""
        return sorted({p.at for c in self.curves for p in c.points})

    @property
    def staged(self) -> bool:
        """Whether the cases are compiles, whose stages are known."""
        return all(c.ours is not None and "stages" in c.ours.about for c in self.cases)

    @property
    def wide(self) -> bool:
        """Whether the axis is drawn by its logarithm."""
        return self.ticks[0] > 0 and self.ticks[-1] >= WIDE * self.ticks[0]


def by_threads(suites: Iterable[Suite]) -> list[Panel]:
    """The panels of the cases that were run with several numbers of threads."""
    cases = [replace(c, axes={"case": c.name, "threads": c.threads})
             for s in suites for c in s.cases]  # fmt: skip
    return panels(cases).get("threads", [])


def panels(cases: Sequence[Case]) -> dict[str, list[Panel]]:
    """The panels of each axis along which at least three cases lie."""
    axes = dict.fromkeys(n for c in cases for n, v in c.axes.items() if _is_number(v))
    found: dict[str, list[Panel]] = {}
    for axis in axes:
        groups: dict[tuple[tuple[str, Any], ...], list[Case]] = {}
        for case in cases:
            if _is_number(case.axes.get(axis)):
                others = tuple((n, v) for n, v in case.axes.items() if n != axis)
                groups.setdefault(others, []).append(case)
        drawn = [_panel(axis, others, each) for others, each in groups.items()
                 if len({c.axes[axis] for c in each}) >= LEAST]  # fmt: skip
        if drawn:
            found[axis] = drawn
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _panel(axis: str, others: Iterable[tuple[str, Any]], cases: list[Case]) -> Panel:
    title = ", ".join(f"{n}={v}" if _is_number(v) else str(v) for n, v in others)
    cases = sorted(cases, key=lambda c: c.axes[axis])
    who = dict.fromkeys(n for c in cases for n in (*c.others, OURS))
    curves = tuple(Curve(n, tuple(_points(axis, n, cases))) for n in who)
    return Panel(title, tuple(c for c in curves if c.points), tuple(cases))


def _points(axis: str, who: str, cases: list[Case]) -> Iterable[Point]:
    for case in cases:
        t = case.contenders.get(who)
        if t is not None and t.time:
            yield Point(case.axes[axis], t.time, t.low or t.time, t.high or t.time)
