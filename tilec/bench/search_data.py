"""Recorded spaces, fully measured, and how a search on them is scored.

The score is that of Willemsen et al. (FGCS 2024) and TUNING.md 4.2: at each of 50 numbers of
evaluations, how much of the way from random search to the optimum a search is ahead.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilec.ir.errors import TileError
from tilec.tune.records import Failure, Trial
from tilec.tune.space import Parameter, Space

Floats = NDArray[np.float64]
BUDGET = 120  # evaluations of a run
POINTS = 50  # at which the score is taken
NEAR = 0.95  # of the way from the median to the optimum: random search that far ends the score


@dataclass(frozen=True, eq=False)
class Recording:
    """A space of which every config was measured: milliseconds, NaN where it failed."""

    kernel: str
    device: str
    space: Space
    times: Floats
    costs: Floats  # seconds of a trial

    @property
    def name(self) -> str:
        return f"{self.kernel}-{self.device}"

    @cached_property
    def places(self) -> dict[tuple[int, ...], int]:
        """Where each row is."""
        return {r: i for i, r in enumerate(self.space.rows or ())}

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """Everything that was recorded, as trials."""
        return tuple(self.trial(i) for i in range(len(self.times)))

    def trial(self, place: int) -> Trial:
        """The trial of one config."""
        config = self.space.config((self.space.rows or ())[place])
        time, cost = float(self.times[place]), float(self.costs[place])
        if np.isnan(time):
            return Trial(config, failure=Failure.LAUNCH_ERROR, cost=cost)
        return Trial(config, (time / 1e3,), cost=cost)

    @cached_property
    def random(self) -> Floats:
        """The expected best time after 1, 2, ... evaluations at random, in closed form.

        Draws are without replacement: the best of t is at least the i-th fastest (from 0) with
        chance C(N - i, t) / C(N, t). What failed counts as the slowest, as it does for searches.
        """
        times = np.sort(np.where(np.isnan(self.times), np.nanmax(self.times), self.times))
        n = len(times)
        at_least, steps = np.ones(n), np.diff(times, prepend=0.0)
        found: list[float] = []
        for t in range(min(n, BUDGET)):
            at_least = at_least * np.maximum(n - np.arange(n) - t, 0) / (n - t)
            found.append(float(at_least @ steps))
        return np.array(found)

    @cached_property
    def optimum(self) -> float:
        return float(np.nanmin(self.times))

    @cached_property
    def points(self) -> NDArray[np.intp]:
        """The numbers of evaluations at which the score is taken."""
        median = float(np.nanmedian(self.times))
        goal = median - NEAR * (median - self.optimum)
        reached = np.flatnonzero(self.random <= goal)
        last = int(reached[0]) + 1 if len(reached) else len(self.random)
        return np.unique(np.linspace(1, last, POINTS).round().astype(np.intp))

    def best(self, visits: list[int]) -> Floats:
        """The best time after each of the evaluations; the last is kept where a run ends early."""
        times = self.times[visits]
        times = np.where(np.isnan(times), np.nanmax(self.times), times)
        found = np.minimum.accumulate(times)
        return np.concatenate([found, np.full(max(BUDGET - len(found), 0), found[-1])])

    def score(self, visits: list[int]) -> float:
        """P of a run: 0 is random search, 1 the optimum at once."""
        at = self.points - 1
        ahead = self.random[at] - self.best(visits)[at]
        return float(np.mean(ahead / (self.random[at] - self.optimum)))


def recordings(folder: Path) -> list[Recording]:
    """All recordings of a folder (TUNING.md 4.1 has the fields). Raises TileError for none."""
    found = [_recording(p) for p in sorted(folder.glob("*.json.gz"))]
    if not found:
        raise TileError(f"no *.json.gz in {folder}", hint="TILEC_TUNE_DATA names the folder")
    return found


def write(folder: Path, found: Iterable[Recording]) -> None:
    """Recordings as files, for `recordings` to read."""
    for r in found:
        data = {
            "parameters": {p.name: list(p.values) for p in r.space.parameters},
            "configs": r.space.rows,
            "time_ms": [None if np.isnan(t) else t for t in r.times.tolist()],
            "trial_cost_s": r.costs.tolist(),
        }
        with gzip.open(folder / f"{r.name}.json.gz", "wt", encoding="utf-8") as f:
            json.dump(data, f)


def _recording(path: Path) -> Recording:
    with gzip.open(path, "rt", encoding="utf-8") as f:
        data = json.load(f)
    kernel, _, device = path.name.removesuffix(".json.gz").partition("-")
    space = Space(tuple(Parameter(n, tuple(v)) for n, v in data["parameters"].items()),
                  rows=tuple(map(tuple, data["configs"])))  # fmt: skip
    times, costs = (np.array([np.nan if v is None else v for v in data[k]], np.float64)
                    for k in ("time_ms", "trial_cost_s"))  # fmt: skip
    return Recording(kernel, device, space, times, np.nan_to_num(costs))
