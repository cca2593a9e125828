"""A process that measures cases: one that dies, hangs or spoils its GPU is ended and replaced."""

from __future__ import annotations

import importlib
import multiprocessing
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from tilec.bench.gpu.cases import CASES
from tilec.bench.gpu.held import Place
from tilec.bench.gpu.measured import Asked, Result, axes, measured
from tilec.bench.gpu.timing import Clock, CudaClock
from tilec.compile import gpu
from tilec.ir.errors import TileError

START = 90.0  # seconds for a process to begin: torch and its context
GRACE = 2.0  # times as long as it was given before a case counts as hung
Setup = Callable[[], tuple[Place, Clock]]


def on_cuda() -> tuple[Place, Clock]:
    """The first GPU of this machine. Raises TileError without one, or without torch for it."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError:
        raise TileError(
            "the GPU suite makes its data with torch", hint="pip install torch"
        ) from None
    if not torch.cuda.is_available():
        raise TileError("torch sees no GPU", hint="--dry-run needs none")
    return Place(), CudaClock(torch)


def described(place: Place) -> dict[str, Any]:
    """The GPU, for JSON."""
    device = (place.gpu or gpu()).driver.device(0)
    return {"device": device.name, "capability": "{}.{}".format(*device.capability),
            "multiprocessors": device.processors}  # fmt: skip


def _serve(setup: Setup, pipe: Connection) -> None:
    """Answer names of cases with results, until there is no more, or the GPU is of no use."""
    try:
        place, clock = setup()
        pipe.send(described(place))
    except Exception as e:
        pipe.send(str(e) if isinstance(e, TileError) else f"{type(e).__name__}: {e}")
        return
    while (asked := pipe.recv()) is not None:
        name, how = asked
        case = next(c for c in CASES if c.name == name)
        try:
            found = measured(case, place, clock, how)
        except TileError as e:
            pipe.send(e.message)
            continue
        except Exception as e:
            pipe.send(f"{type(e).__name__}: {e}")
            return
        pipe.send(found)
        if found["spoilt"]:
            return


class Session:
    """A process that measures, begun when it is first needed and again after it has ended."""

    def __init__(self, setup: Setup = on_cuda) -> None:
        self._setup = setup
        self._process: Any = None
        self._pipe: Any = None
        self.about: Mapping[str, Any] = {}

    def begin(self) -> None:
        """Have a process. Raises TileError where it can't measure."""
        if self._process is not None and self._process.is_alive():
            return
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._setup, other), daemon=True)
        self._process.start()
        other.close()
        said = self._answer(START)
        if isinstance(said, str):
            self.end()
            raise TileError(said)
        self.about = said

    def measure(self, name: str, asked: Asked) -> Result:
        """The result of a case; one that could not be measured says why under `wrong`."""
        case = next(c for c in CASES if c.name == name)
        began = time.perf_counter()
        try:
            self.begin()
            self._pipe.send((name, asked))
            said = self._answer(GRACE * asked.seconds + 30.0)
        except (EOFError, BrokenPipeError):
            said = "the process that ran it has died"
        if isinstance(said, str):
            said = {"name": name, "axes": axes(case), "ceiling": case.ceiling, "floor": case.floor,
                    "contenders": {}, "ratios": {}, "ours": None, "skipped": {},
                    "wrong": {"": said}}  # fmt: skip
        if said.get("spoilt"):
            self.end()
        return {**said, "took": time.perf_counter() - began}

    def _answer(self, seconds: float) -> Any:
        if not self._pipe.poll(seconds):
            self.end()
            return f"no answer in {seconds:.0f} seconds"
        try:
            return self._pipe.recv()
        except EOFError:
            self.end()
            raise

    def end(self) -> None:
        """End the process."""
        if self._process is None:
            return
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._process = None


def within(asked: Asked, seconds: float) -> Asked:
    """The same, a case of which takes no longer than this."""
    return replace(asked, seconds=max(1.0, seconds))
