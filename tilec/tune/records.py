"""What is known: trials and studies as plain values with a JSON form. No clock, file or network."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tilec.ir.errors import TileError
from tilec.tune import strict
from tilec.tune.config import Config, Value, checked_name, checked_value
from tilec.tune.space import Space

MOST_SAMPLES, MOST_TRIALS, LONGEST_NOTE = 10_000, 1_000_000, 4000


class Failure(StrEnum):
    """Why a trial has no time."""

    COMPILE_ERROR = "compile_error"
    COMPILE_TIMEOUT = "compile_timeout"
    PTXAS_CRASH = "ptxas_crash"
    LAUNCH_ERROR = "launch_error"
    RUN_TIMEOUT = "run_timeout"
    DEVICE_FAULT = "device_fault"  # sticky: the process that met it can't go on
    WRONG_RESULT = "wrong_result"
    RESOURCE_EXCEEDED = "resource_exceeded"
    WORKER_LOST = "worker_lost"
    INFRA = "infra"

    @property
    def retried(self) -> bool:
        """Whether it says nothing about the config, so that the trial is to be made again."""
        return self in (Failure.WORKER_LOST, Failure.INFRA)


@dataclass(frozen=True)
class Trial:
    """A config that was tried: its raw times in seconds, or why there are none, and what it cost.

    `cost` is the seconds that compiling and measuring took, `compiled` those of compiling alone,
    where they are known; `note` is for people.
    """

    config: Config
    samples: tuple[float, ...] = ()
    failure: Failure | None = None
    cost: float = 0.0
    note: str = ""
    compiled: float = 0.0

    def __post_init__(self) -> None:
        if bool(self.samples) == (self.failure is not None):
            raise TileError("a trial has either samples or a failure")
        if len(self.samples) > MOST_SAMPLES or len(self.note) > LONGEST_NOTE:
            raise TileError(
                f"a trial has at most {MOST_SAMPLES} samples and {LONGEST_NOTE} letters"
            )
        for s in self.samples:
            if strict.number(s, "a sample") <= 0:
                raise TileError(f"a sample is {s}, expected more than 0 seconds")
        strict.number(self.cost, "a trial's cost", 0)
        strict.number(self.compiled, "a trial's compile_s", 0)

    @property
    def seconds(self) -> float | None:
        """The median of the samples."""
        return statistics.median(self.samples) if self.samples else None

    @staticmethod
    def from_json(data: object) -> Trial:
        """A trial from JSON data. Raises TileError for what is missing, unknown or wrong."""
        found = strict.fields(data, "a trial", ("config",), "samples", "failure", "cost", "note",
                              "compile_s")  # fmt: skip
        samples = strict.array(found.get("samples", []), "samples")
        return Trial(
            Config.from_json(found["config"]),
            tuple(strict.number(s, "a sample") for s in samples),
            _failure(found.get("failure")),
            strict.number(found.get("cost", 0.0), "a trial's cost"),
            strict.typed(found.get("note", ""), str, "a trial's note"),
            strict.number(found.get("compile_s", 0.0), "a trial's compile_s"),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.config.to_json(), "samples": list(self.samples),
            "failure": self.failure and self.failure.value, "cost": self.cost, "note": self.note,
            "compile_s": self.compiled,
        }  # fmt: skip


def _failure(data: object) -> Failure | None:
    if data is None:
        return None
    try:
        return Failure(strict.typed(data, str, "a failure"))
    except ValueError:
        raise TileError(f"{data!r} is no failure class", hint=", ".join(Failure)) from None


@dataclass(frozen=True)
class Study:
    """What is tuned, on what, how it is measured, and the trials made so far.

    `kernel` is the digest of the kernel's IR, `shape` the extents and whatever else the best config
    depends on, `policy` the measurement policy: times of different policies are never compared.
    """

    kernel: str
    device: str
    space: Space
    shape: tuple[tuple[str, Value], ...] = ()  # sorted by name
    policy: str = ""
    seed: int = 0
    budget: int = 100
    trials: tuple[Trial, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        for name, value in self.shape:
            checked_value(value, f"the shape {checked_name(name, 'a shape')}")
        if not 0 < self.budget <= MOST_TRIALS or not 0 <= self.seed < 2**63:
            raise TileError(f"a study has a budget of 1 to {MOST_TRIALS} and a seed below 2^63")

    @property
    def best(self) -> Trial | None:
        """The fastest trial, the first of equals."""
        timed = [t for t in self.trials if t.seconds is not None]
        return min(timed, key=lambda t: t.seconds or 0.0, default=None)

    @staticmethod
    def from_json(data: object) -> Study:
        """A study from JSON data. Raises TileError for what is missing, unknown or wrong."""
        needed = ("kernel", "device", "space", "shape", "policy", "seed", "budget", "trials")
        found = strict.fields(data, "a study", needed)
        shape = Config.from_json(found["shape"])
        kernel, device, policy = (strict.typed(found[n], str, f"a study's {n}")
                                  for n in ("kernel", "device", "policy"))  # fmt: skip
        seed, budget = (strict.typed(found[n], int, f"a study's {n}") for n in ("seed", "budget"))
        trials = tuple(Trial.from_json(t) for t in strict.array(found["trials"], "trials"))
        space = Space.from_json(found["space"])
        return Study(kernel, device, space, shape.values_by_name, policy, seed, budget, trials)

    def to_json(self) -> dict[str, Any]:
        return {
            "kernel": self.kernel, "device": self.device, "space": self.space.to_json(),
            "shape": dict(self.shape), "policy": self.policy, "seed": self.seed,
            "budget": self.budget, "trials": [t.to_json() for t in self.trials],
        }  # fmt: skip
