"""The contenders: each makes one run on a recorded space, with nothing left from runs before."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tilec.bench import search_tuner
from tilec.bench.search_data import BUDGET, Recording
from tilec.tune.records import Study
from tilec.tune.search.loop import Search
from tilec.tune.search.transfer import Source

KERNEL_TUNER = ("gen_adaptive_tabu_greywolf", "gen_hybrid_vndx", "genetic_algorithm")
ASKED = 25  # requests for each evaluation, before a contender counts as stuck


@dataclass(frozen=True)
class Run:
    """Places of configs in the order of evaluation, and the sampler's processor seconds."""

    space: str
    contender: str
    seed: int
    visits: list[int]
    seconds: float


def ours(name: str, sampler: str, recording: Recording, seed: int,
         sources: Sequence[Source] = ()) -> Run:  # fmt: skip
    """A run of one of our samplers."""
    began = time.process_time()
    study = Study(recording.kernel, recording.device, recording.space, seed=seed, budget=BUDGET)
    search, visits = Search(study, sampler, sources), list[int]()
    while asked := search.ask():
        place = recording.places[recording.space.row(asked[0])]
        visits.append(place)
        search.tell(recording.trial(place))
    return Run(recording.name, name, seed, visits, time.process_time() - began)


def shuffled(recording: Recording, seed: int) -> Run:
    """Random search, apart from all of our samplers."""
    order = np.random.default_rng(seed).permutation(len(recording.times))[:BUDGET]
    return Run(recording.name, "random", seed, order.tolist(), 0.0)


def optuna_tpe(recording: Recording, seed: int) -> Run:
    """Optuna's multivariate TPE as its users run it; an invalid config is a failed trial.

    Only new valid configs count as evaluations, which favours it.
    """
    optuna: Any = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    began = time.process_time()
    sampler = optuna.samplers.TPESampler(multivariate=True, seed=seed)
    study, visits = optuna.create_study(sampler=sampler), list[int]()
    for _ in range(ASKED * BUDGET):
        trial = study.ask()
        row = tuple(_suggested(trial, p.name, len(p.values), p.is_category)
                    for p in recording.space.parameters)  # fmt: skip
        place = recording.places.get(row)
        if place is None or np.isnan(recording.times[place]):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, float(recording.times[place]))
        if place is not None and place not in visits:
            visits.append(place)
        if len(visits) == BUDGET:
            break
    return Run(recording.name, "Optuna TPE", seed, visits, time.process_time() - began)


def _suggested(trial: Any, name: str, size: int, category: bool) -> int:
    if category:
        return int(trial.suggest_categorical(name, range(size)))
    return int(trial.suggest_int(name, 0, size - 1))


def kernel_tuner(recording: Recording, seeds: range, python: Path) -> list[Run]:
    """Runs of Kernel Tuner's strategies, by an interpreter that has it."""
    columns = recording.space.columns(np.array(recording.space.rows, np.intp))
    wanted = [(s, seed) for s in KERNEL_TUNER for seed in seeds]
    task = {
        "parameters": {p.name: list(p.values) for p in recording.space.parameters},
        "configs": list(zip(*(c.tolist() for c in columns.values()), strict=True)),
        "times": [None if np.isnan(t) else t for t in recording.times.tolist()],
        "budget": BUDGET, "runs": wanted,
    }  # fmt: skip
    done = subprocess.run([python, Path(search_tuner.__file__)], input=json.dumps(task), text=True,
                          capture_output=True, check=True)  # fmt: skip
    answers: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    version, lines = answers[0], answers[1:]
    return [Run(recording.name, f"Kernel Tuner {version} {s.removeprefix('gen_')}", seed, v, 0.0)
            for (s, seed), v in zip(wanted, lines, strict=True)]  # fmt: skip


PEERS: dict[str, Callable[[Recording, int], Run]] = {"random": shuffled, "Optuna TPE": optuna_tpe}
