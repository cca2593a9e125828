"""Where the GPU suite runs in tests: a driver that runs PTX on this processor, a clock that counts.

Functions here are called in processes of their own, which find them by name.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from fake_driver import FakeDriver

from tilec.bench.gpu.case import Case, Way
from tilec.bench.gpu.cases.products import linear_case
from tilec.bench.gpu.held import Place
from tilec.bench.gpu.timing import Call, Ready
from tilec.compile import engine
from tilec.runtime.gpu import Gpu

WAYS = (Way("cuda", "m=16,n=64,k=64", "HMMA"), Way("triton", "m=16,n=64,k=64"))


def tiny(w: str = "int4<group=64>", ways: tuple[Way, ...] = WAYS, **changes: Any) -> Case:
    """A product that is as small at full size as it is for emulation."""
    made = linear_case(1, f"tiny {w}", (16, 128, 128), w, ways, peers=("torch f16", "liger"))
    return replace(made, small={}, sample={"N": slice(0, None, 3)}, **changes)


def place(driver: FakeDriver | None = None) -> Place:
    """Memory of the host; Triton and CUDA are given to the driver as PTX."""
    fake = driver or FakeDriver()
    gpu = Gpu(fake.driver, engine().machine, engine().object)
    return Place("cpu", gpu, "ptx", fake.hold, 0)


class CountingClock:
    """A clock by which every call of the contender that was ready as the n-th takes n seconds."""

    def __init__(self) -> None:
        self.known: list[Ready] = []

    def ready(self, calls: Sequence[Call]) -> Ready:
        for call in calls:
            call()
        self.known.append(Ready(_nothing, len(calls), False))
        return self.known[-1]

    def burst(self, ready: Ready, seconds: float) -> list[float]:
        del seconds
        return [float(1 + self.known.index(ready))] * 3


def _nothing() -> None:
    pass


class DyingClock(CountingClock):
    """A clock whose process ends at the first contender of all processes, told by a file."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file

    def ready(self, calls: Sequence[Call]) -> Ready:
        if not os.path.exists(self.file):
            with open(self.file, "w", encoding="utf-8"):
                os._exit(1)
        return super().ready(calls)


def on_fake() -> tuple[Place, CountingClock]:
    """As `on_cuda` of the suite."""
    torch.set_num_threads(1)
    return place(), CountingClock()


def dying(file: str) -> tuple[Place, DyingClock]:
    """The same, with a clock that dies once."""
    return place(), DyingClock(file)
