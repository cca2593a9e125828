"""Products of warp groups: schedules, operands, and what their machine code must be like."""

from __future__ import annotations

from typing import Any

import numpy as np

from tilec.codegen.cuda.headers import device_headers
from tilec.cuda import Program, Schedule
from tilec.ir.dtype import Array, DType
from tilec.runtime.nvrtc import compile_cuda
from tilec.sass import stats_of
from tilec.sass.budget import Budget


def schedule(threads: int = 128, **choices: Any) -> Schedule:
    """A schedule that asks for wgmma."""
    return Schedule(threads=threads, instruction="wgmma", **choices)


def whole(rng: np.random.Generator, t: DType, *shape: int) -> Array:
    """Whole numbers small enough for every sum of their products to be exact."""
    return rng.integers(0 if t.kind == "uint" else -4, 5, shape).astype(t.numpy)


def judge(program: Program, budget: Budget) -> None:
    """Compile for sm_90a: nothing is spilled, and no wgmma waits for another one (C75xx)."""
    made = compile_cuda(program.source.text, "sm_90a", headers=device_headers())
    assert made.notes == ()
    (stats,) = stats_of(made.cubin, dynamic_shared=program.source.launches[0].shared)
    budget.check(stats)
