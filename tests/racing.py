"""A problem whose contenders only sleep, for processes to import."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from tilec.bench.case import OURS, Made, Make, Peer, Problem
from tilec.ir.errors import TileError


@dataclass(frozen=True)
class Sleep:
    """Ours sleeps for so long."""

    seconds: float

    def ours(self) -> Mapping[str, Make]:
        return {OURS: partial(sleeper, self.seconds)}


def sleeper(seconds: float, result: float = 1.0) -> Made:
    """A contender whose result should be 1."""

    def call() -> np.ndarray:
        time.sleep(seconds)
        return np.full(3, result)

    return Made([call], lambda: np.ones(2), nbytes=100, operations=8.0, about={"slept": seconds})


def refusing() -> Made:
    raise TileError("it has no such kernel\nand more")


def dying() -> Made:
    made = sleeper(0.0)
    calls = iter(range(4))

    def call() -> object:
        if next(calls, None) is None:
            os._exit(3)
        return made.calls[0]()

    return Made([call], made.want)


def contenders(problem: Problem) -> Mapping[str, Make]:
    assert isinstance(problem, Sleep)
    return {
        "slow": partial(sleeper, 3 * problem.seconds),
        "wrong": partial(sleeper, 0.0, 1.5),
        "refuses": refusing,
        "dies": dying,
    }


SLEEPERS = Peer("sleepers", lambda: "", contenders)
NOBODY = Peer("nobody", lambda: "it is not installed", contenders)
