"""Trials: each config compiled, checked and timed in a child process that may do anything.

A trial costs no more than the limits for its steps; then the child and all that it started are
killed, and the next trial gets a new one.
"""

from __future__ import annotations

import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilec.ir.errors import TileError
from tilec.settings import settings
from tilec.tune.config import Config
from tilec.tune.contest import Rounds, contending, faster_half
from tilec.tune.job import Job, Policy, check_policy
from tilec.tune.measure.process import Limits, Lost, Process
from tilec.tune.records import LONGEST_NOTE, Failure, Trial

Judge = Callable[[Rounds], Sequence[int]]  # the places of configs to go on with
COMMAND = (sys.executable, "-m", "tilec.tune.measure.child")
# Of libraries: their idle threads spin for 0.1 s after a result was checked, on processors that the
# kernel needs, so that the first bursts of every config would take as long as with one thread.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
BURST = 0.01  # seconds of calls for a sample
FIRST = 3  # samples of a trial; one where that is this many times as slow as the best so far:
HOPELESS = 2.0
LEAST_ROUNDS, MOST_ROUNDS = 8, 400  # of samples of configs that are confirmed
LEAST_S = 1.5  # seconds of rounds before anything is decided: what else runs comes and goes
HALVES = 3  # times that only the faster half of what is confirmed is measured on
LOOKED = 2  # rounds after which it is looked at what is decided
FAR = 4  # times the seconds of a confirmation, when it ends whatever is known
ENDED = {"output": Failure.RESOURCE_EXCEEDED, "processes": Failure.RESOURCE_EXCEEDED,
         "signal 9": Failure.RESOURCE_EXCEEDED, "exit 0": Failure.LAUNCH_ERROR}  # fmt: skip
STICKY = ("ILLEGAL", "ASSERT", "MISALIGNED", "LAUNCH_FAILED", "HARDWARE")  # of CUDA's errors


@dataclass(frozen=True)
class Patience:
    """How many seconds a step may take: `first` until `enough` of its kind have finished, then
    `factor` times the slowest but a tenth of them, at least `least`."""

    first: float
    least: float
    factor: float = 4.0
    enough: int = 5

    def seconds(self, finished: Sequence[float]) -> float:
        """The limit after some have finished."""
        if len(finished) < self.enough:
            return self.first
        usual = statistics.quantiles(finished, n=10, method="inclusive")[-1]
        return min(self.first, max(self.least, self.factor * usual))


COMPILE, RUN = Patience(120.0, 10.0), Patience(60.0, 2.0)


@dataclass
class _Steps:
    """One kind of step: how long those took that finished."""

    patience: Patience
    slow: Failure
    wrong: Failure
    finished: list[float] = field(default_factory=list[float])


class _Failed(Exception):
    """A step of a trial failed."""

    def __init__(self, failure: Failure, note: str) -> None:
        super().__init__(note)
        self.failure, self.note = failure, note


class Measurer:
    """Measures configs of a job. Close it, or use it as a context, so that nothing is left running.

    `command` serves requests as `child` does. `limits` are for the child; on GPUs its address space
    has none. Raises TileError where the default config can't be measured.
    """

    def __init__(self, job: Job, policy: Policy, default: Config, *, limits: Limits | None = None,
                 compile: Patience = COMPILE, run: Patience = RUN,
                 command: Sequence[str] = COMMAND) -> None:  # fmt: skip
        check_policy(policy, job.backend)
        self.job, self.policy, self.default = job, policy, default
        self._command, self._limits = command, limits or Limits(_memory(job.backend))
        compiled = _Steps(compile, Failure.COMPILE_TIMEOUT, Failure.COMPILE_ERROR)
        ran = _Steps(run, Failure.RUN_TIMEOUT, Failure.LAUNCH_ERROR)
        self._steps = {"compile": compiled, "check": ran, "burst": ran}
        self._process: Process | None = None
        self._best, self._usual = float("inf"), 0.0

    def __enter__(self) -> Measurer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if there is one."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def trial(self, config: Config) -> Trial:
        """What comes of a config: some samples, or a failure. They are taken in turns with the
        default's: what slows the machine down for a while says nothing of a config."""
        start = time.monotonic()
        try:
            compiled = self._prepare(config)
            samples = self._samples(config)
        except _Failed as e:
            return Trial(config, (), e.failure, time.monotonic() - start, e.note)
        self._best = min(self._best, statistics.median(samples))
        return Trial(config, samples, None, time.monotonic() - start, compiled=compiled)

    def confirm(self, configs: Sequence[Config], seconds: float = 20.0,
                told: Callable[[int], None] | None = None, judge: Judge = contending,
                halves: int = HALVES) -> list[Trial]:  # fmt: skip
        """The same configs measured side by side, round after round, so that what disturbs one
        disturbs all: until it is decided, or for so many seconds (of calls). `judge` says after
        each round, but the first `LEAST_S`, which configs are to be measured on; after equal parts
        of the time, `halves` times, only the default and the faster half are. `told` gets the
        number of each round."""
        start = time.monotonic()
        samples: dict[Config, list[float]] = {c: [] for c in configs}
        failed: dict[Config, _Failed] = {}
        left, halved = list(configs), 0
        compiled: dict[Config, float] = {}
        for c in configs:
            self._attempt(c, lambda c: compiled.update({c: self._prepare(c)}), failed)
        begun = time.monotonic()
        for i in range(MOST_ROUNDS):
            left = [c for c in left if c not in failed]
            took = time.monotonic() - begun
            late, far = took > seconds, i > 0 and took > FAR * seconds
            if not left or (late and (i >= LEAST_ROUNDS or far)):
                break
            for c in left:
                self._attempt(c, lambda c: samples[c].append(self._burst(c)), failed)
            left = [c for c in left if c not in failed]
            if left and i + 1 >= LEAST_ROUNDS and i % LOOKED and took >= min(seconds, LEAST_S):
                halve = halved < halves and took * (halves + 1) > seconds * (halved + 1)
                halved += halve
                left = _still(left, samples, judge, halve)
            if told is not None:
                told(i + 1)
        cost = (time.monotonic() - start) / len(configs)
        return [_trial(c, samples[c], failed.get(c), cost, compiled.get(c, 0.0)) for c in configs]

    def _attempt(self, config: Config, step: Callable[[Config], object],
                 failed: dict[Config, _Failed]) -> None:  # fmt: skip
        """A step for a config that has not failed."""
        if config in failed:
            return
        try:
            step(config)
        except _Failed as e:
            failed[config] = e

    def _prepare(self, config: Config) -> float:
        """Compile and check a config; the seconds of compiling. Raises _Failed."""
        seconds = self._ask("compile", config).get("seconds", 0.0)
        self._ask("check", config)
        return seconds

    def _samples(self, config: Config) -> tuple[float, ...]:
        """Bursts, each as a ratio to those of the default around it, times what that took first."""
        if not self._usual:
            self._usual = statistics.median(self._burst(self.default) for _ in range(FIRST))
        found, before = list[float](), self._burst(self.default)
        while len(found) < FIRST and (not found or found[0] <= HOPELESS * self._best):
            here = before if config == self.default else self._burst(config)
            after = self._burst(self.default)
            found.append(here * self._usual / math.sqrt(before * after))
            before = after
        return tuple(found)

    def _burst(self, config: Config) -> float:
        """What a call takes, in seconds: the lower quartile of a burst, since whatever else runs
        here makes calls slower and never faster. Raises _Failed."""
        answer = self._ask("burst", config, seconds=BURST)
        samples = answer.get("samples")
        if not samples:
            raise _Failed(Failure.LAUNCH_ERROR, "a burst of calls has no times")
        return sorted(samples)[len(samples) // 4]

    def _ask(self, do: str, config: Config, **more: Any) -> dict[str, Any]:
        """A step in the child, which is started if there is none. Raises _Failed."""
        self._opened()
        answer = self._answer(do, config, **more)
        if "failure" in answer:
            raise self._told(do, answer)
        return answer

    def _opened(self) -> None:
        """A child that knows the default's result. Raises TileError, or _Failed where none can be
        started."""
        if self._process is not None:
            return
        environment = {**settings().environment, **ONE_THREAD,
                       "TILEC_THREADS": str(self.policy.threads)}  # fmt: skip
        self._process = Process(self._command, self._limits, environment)
        try:
            answer = self._process.ask(
                {"job": self.job.to_json(), "policy": self.policy.to_json(),
                 "default": self.default.to_json()}, self._steps["compile"].patience.first,
            )  # fmt: skip
            for do in ("compile", "check"):
                answer = answer if "failure" in answer else self._answer(do, self.default)
        except Lost as e:
            self._process = None
            raise _Failed(Failure.INFRA, _note(f"no process to measure in: {e.how}", e.said)
                          ) from None  # fmt: skip
        except _Failed as e:
            raise TileError(f"the default config can't be measured: {e.note}") from None
        if "failure" in answer:
            self.close()
            raise TileError(f"the default config can't be measured: {answer.get('detail')}")

    def _answer(self, do: str, config: Config, **more: Any) -> dict[str, Any]:
        """The child's answer. Raises _Failed where there is none."""
        assert self._process is not None
        steps, start = self._steps[do], time.monotonic()
        limit = steps.patience.seconds(steps.finished) + more.get("seconds", 0.0)
        try:
            answer = self._process.ask({"do": do, "config": config.to_json(), **more}, limit)
        except Lost as e:
            self._process = None
            raise _Failed(steps.slow if e.slow else self._lost(do, e), _note(e.how, e.said)
                          ) from None  # fmt: skip
        if self._process.chatters:
            how, said = self._process.end()
            self._process = None
            raise _Failed(Failure.RESOURCE_EXCEEDED, _note(how, said))
        if not isinstance(answer, dict):
            raise _Failed(steps.wrong, "the process that measures answers nonsense")
        if "failure" not in answer:
            steps.finished.append(time.monotonic() - start)
        return answer  # pyright: ignore[reportUnknownVariableType]

    def _lost(self, do: str, e: Lost) -> Failure:
        """Why a child that ended by itself did so."""
        if do == "compile" and e.how != "signal 9" and not e.how.startswith(("output", "process")):
            return Failure.PTXAS_CRASH if "ptxas" in e.said else Failure.COMPILE_ERROR
        found = [f for start, f in ENDED.items() if e.how.startswith(start)]
        return found[0] if found else Failure.DEVICE_FAULT

    def _told(self, do: str, answer: Mapping[str, Any]) -> _Failed:
        """A failure that the child tells of. After an error on a GPU nothing works there."""
        said, detail = str(answer["failure"]), str(answer.get("detail", ""))[:LONGEST_NOTE]
        if said != "error":
            return _Failed(Failure(said), detail)
        if do == "compile" or self.job.backend == "cpu":
            return _Failed(self._steps[do].wrong, detail)
        self.close()
        sticky = any(word in detail.upper() for word in STICKY)
        return _Failed(Failure.DEVICE_FAULT if sticky else Failure.LAUNCH_ERROR, detail)


def _still(left: Sequence[Config], samples: Mapping[Config, Sequence[float]], judge: Judge,
           halve: bool) -> list[Config]:  # fmt: skip
    """The configs to be measured on, the default first."""
    kept = [left[at] for at in judge([samples[c] for c in left])]
    if halve and kept:
        kept = [kept[at] for at in faster_half([samples[c] for c in kept])]
    return kept


def _trial(config: Config, samples: list[float], failed: _Failed | None, cost: float,
           compiled: float) -> Trial:  # fmt: skip
    if failed is not None:
        return Trial(config, (), failed.failure, cost, failed.note)
    if not samples:
        return Trial(config, (), Failure.RUN_TIMEOUT, cost, "no time was left for a sample")
    return Trial(config, tuple(samples), None, cost, compiled=compiled)


def _note(how: str, said: str) -> str:
    """What happened, and the last that the child said."""
    return f"{how}\n{said}".strip()[:LONGEST_NOTE]


def _memory(backend: str) -> int:
    """Bytes that a child may have: half of what this machine has. Drivers of GPUs reserve more
    address space than there is memory."""
    if backend != "cpu":
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
