"""Kernel Tuner's strategies on recorded spaces: a program for an interpreter that has kernel_tuner.

It knows nothing of tilec. It reads one JSON document from standard input (parameters, configs as
values, times with null for invalid ones, runs) and writes one line for each run: the indices of the
configs in the order in which they were first evaluated. Every run has a search space of its own,
since its caches of neighbours remember what earlier runs visited.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

TURNS = 50  # requests for each evaluation that is left, before a strategy counts as stuck


class Recorded:
    """Stands for Kernel Tuner's runner: looks times up, and remembers the order of first visits."""

    def __init__(self, task: dict[str, Any], util: Any, budget: int) -> None:
        self.names, self.times, self.util = list(task["parameters"]), task["times"], util
        self.places = {tuple(c): i for i, c in enumerate(task["configs"])}
        self.visited: list[int] = []
        self.turns = TURNS * budget

    def add_strategy_time(self, seconds: float) -> None:
        """Kernel Tuner tells its runners how long its strategies take; not needed here."""

    def run(self, configs: list[Any], options: Any) -> list[dict[str, Any] | None]:
        return [self.result(tuple(c), options.budget) for c in configs]

    def result(self, config: tuple[Any, ...], budget: Any) -> dict[str, Any] | None:
        self.turns -= 1
        if self.turns < 0:
            raise self.util.StopCriterionReached("no new config for too long")
        if budget.is_done():
            return None
        found = dict(zip(self.names, config, strict=True))
        place = self.places.get(config)
        if place is None:
            return found | {
                "__error__": self.util.InvalidConfig(),
                "time": self.util.InvalidConfig(),
            }
        if place not in self.visited:
            self.visited.append(place)
            budget.add_evaluations(1)
        time = self.times[place]
        if time is None:
            error = self.util.RuntimeFailedConfig()
            return found | {"__error__": error, "time": error}
        return found | {"time": time}


def visits(task: dict[str, Any], strategy: str, seed: int, budget: int) -> list[int]:
    """One run: the configs in the order of their first evaluation."""
    util = import_module("kernel_tuner.util")
    options = import_module("kernel_tuner.interface").Options
    random.seed(seed)
    np.random.seed(seed)
    names = list(task["parameters"])
    cache = {",".join(map(str, c)): dict(zip(names, c, strict=True)) for c in task["configs"]}
    space = import_module("kernel_tuner.searchspace").Searchspace(
        None, None, None, from_cache={"tune_params": task["parameters"], "cache": cache}
    )
    runner = Recorded(task, util, budget)
    tune = import_module(f"kernel_tuner.strategies.{strategy}").tune
    with suppress(util.StopCriterionReached):
        tune(space, runner, options(
            strategy_options=options(max_fevals=budget), objective=["time"], verbose=False,
            objective_higher_is_better=[False], budget=util.TuningBudget(None, budget),
            tune_params=task["parameters"], restrictions=[], cache={}, metrics=None,
        ))  # fmt: skip
    return runner.visited[:budget]


def main() -> None:
    """Answer the document on standard input."""
    task = json.load(sys.stdin)
    print(json.dumps(version("kernel_tuner")), flush=True)
    for strategy, seed in task["runs"]:
        sys.stdout, kept = sys.stderr, sys.stdout  # strategies may print
        found = visits(task, strategy, seed, task["budget"])
        sys.stdout = kept
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
