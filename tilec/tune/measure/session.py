"""A job in the process that measures it: configs compiled, compared with the default, timed."""

# torch types what comes from numpy loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tilec.compile import Kernel
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.types import Memory
from tilec.tune.config import Config
from tilec.tune.job import Job, Policy, check_policy, choice_of
from tilec.tune.measure import timing
from tilec.tune.measure.arguments import arguments

# Relative norms of the difference from the default's result. Sums in another order differ by some
# ulps, and a result that is rounded to 8 bits of mantissa by one of these now and then.
WORST = {"f64": 1e-9, "f32": 1e-4, "tf32": 1e-2, "f16": 1e-2, "bf16": 2e-2}
SAMPLES = 200  # of a burst that are told
Run = Callable[..., Any]


class Wrong(Exception):
    """A result is not the default's."""


class Session:
    """The kernel of a job, its arguments, and code for every config that was compiled so far.

    `gpu` (tilec.runtime.gpu.Gpu) stands for the GPUs of this machine, `place` brings arguments to
    where it reads them, `choose` makes a config a Choice. Raises TileError for a job that it can't
    make arguments for.
    """

    def __init__(self, job: Job, policy: Policy, default: Config, gpu: Any = None,
                 place: Callable[[Any], Any] | None = None,
                 choose: Callable[[str, Config], Any] = choice_of) -> None:  # fmt: skip
        check_policy(policy, job.backend)
        self.job, self.policy, self.gpu, self.choose = job, policy, gpu, choose
        given = arguments(job.func, job.data_seed)
        self.place = place or (_to_gpu if job.backend != "cpu" else None)
        self.arguments = given if self.place is None else [self.place(a) for a in given]
        names = [p.hint for p in job.func.params if "." not in p.hint]
        self.results = {n: self.arguments[names.index(n)] for n in job.results}
        self.dtypes = {p.hint: p.type.dtype for p in job.func.params
                       if isinstance(p.type, Memory) and p.hint in self.results}  # fmt: skip
        self.first = {n: _array(r).copy() for n, r in self.results.items()}
        self.default, self.expected = default, dict[str, Array]()
        self.made: dict[str, Run] = {}

    def compile(self, config: Config) -> float:
        """Code for a config; the seconds that it took. Raises TileError."""
        start = time.perf_counter()
        if config.text not in self.made:
            choice = self.choose(self.job.backend, config)
            kernel = Kernel(self.job.definition, choice, self.gpu)
            self.made[config.text] = kernel.bind(*self.arguments)
        return time.perf_counter() - start

    def check(self, config: Config) -> float:
        """Run a config once on fresh data; the seconds that it took.

        The first one is the default. Raises Wrong where a result is not what that gives, and
        TileError where it can't run.
        """
        for name, first in self.first.items():
            _fill(self.results[name], first)
        run = self.made[config.text]
        start = time.perf_counter()
        run()
        self._wait()
        took = time.perf_counter() - start
        got = {n: self._values(n) for n in self.results}
        if not self.expected and config == self.default:
            self.expected = got
        for name, want in self.expected.items():
            error = _error(got[name], want)
            if not error <= WORST.get(self.dtypes[name].name, 0.0):
                raise Wrong(f"{name} differs from the default's result by {error:.1e}")
        return took

    def burst(self, config: Config, seconds: float) -> list[float]:
        """Seconds of calls for some time."""
        run = self.made[config.text]

        def call() -> None:
            run()
            self._wait()

        timed = timing.cold if self.policy.cache == "cold" else timing.warm
        times = timed(run if self.job.backend == "cpu" else call, seconds)
        return times[:: -(-len(times) // SAMPLES)]

    def _wait(self) -> None:
        if self.job.backend != "cpu" and self.gpu is None:
            import torch

            torch.cuda.synchronize()

    def _values(self, name: str) -> Array:
        return np.array(self.dtypes[name].from_storage(_array(self.results[name])), np.float64)


def answered(session: Session, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request: {do, config, seconds} -> {seconds} or {failure, detail}."""
    config = Config.from_json(request["config"])
    try:
        match request["do"]:
            case "compile":
                return {"seconds": session.compile(config)}
            case "check":
                return {"seconds": session.check(config)}
            case "burst":
                return {"samples": session.burst(config, request["seconds"])}
            case other:
                raise TileError(f"no request is called {json.dumps(other)}")
    except TileError as e:
        return {"failure": "error", "detail": str(e)}
    except Wrong as e:
        return {"failure": "wrong_result", "detail": str(e)}
    except MemoryError:
        return {"failure": "resource_exceeded", "detail": "out of memory"}


def _to_gpu(argument: Any) -> Any:
    """An argument where GPUs read it."""
    if isinstance(argument, int | float | bool):
        return argument
    if not isinstance(argument, np.ndarray):
        return argument.to("cuda")
    import torch

    held: Any = argument
    kind = {"bfloat16": torch.bfloat16}.get(held.dtype.name)
    if kind is None:
        return torch.from_numpy(held).cuda()
    return torch.from_numpy(held.view(np.int16)).view(kind).cuda()


def _array(tensor: Any) -> Array:
    if isinstance(tensor, np.ndarray):
        found: Any = tensor
        return found
    import torch

    host = tensor.cpu()
    return host.view(torch.int16).numpy() if host.dtype == torch.bfloat16 else host.numpy()


def _fill(tensor: Any, values: Array) -> None:
    if isinstance(tensor, np.ndarray):
        tensor[...] = values
        return
    import torch

    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    tensor.copy_(torch.from_numpy(values))


def _error(got: Array, want: Array) -> float:
    """The norm of the difference in that of what is expected; infinite where other elements are
    not finite."""
    odd = ~np.isfinite(want)
    if not np.array_equal(got[odd], want[odd], equal_nan=True):
        return float("inf")
    size = float(np.linalg.norm(want[~odd]))
    return float(np.linalg.norm(got[~odd] - want[~odd])) / (size or 1.0)
