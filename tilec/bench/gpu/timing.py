"""Times of calls on a GPU: by events of CUDA, of graphs where calls can be captured."""

# torch types what it returns loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Call = Callable[[], Any]
LEAST = 1e-4  # seconds of calls between two events, which cost about a microsecond
SAMPLES = 5  # of a burst at least
MOST = 400  # calls between two events


@dataclass(frozen=True, eq=False)
class Ready:
    """Calls that a clock can time: what runs all of them, how many they are, and whether they are a
    graph, which has no cost of launches but the GPU's own."""

    run: Call
    calls: int
    graph: bool


class Clock(Protocol):
    """What times calls: `ready` once, then `burst` again and again."""

    def ready(self, calls: Sequence[Call]) -> Ready:
        """Calls, run once to warm up and then captured if they can be."""
        ...

    def burst(self, ready: Ready, seconds: float) -> list[float]:
        """Seconds per call of at least SAMPLES runs, which last so long together."""
        ...


class CudaClock:
    """Events in the current stream of torch."""

    def __init__(self, torch: Any) -> None:
        self._torch, self._cuda = torch, torch.cuda

    def ready(self, calls: Sequence[Call]) -> Ready:
        """See Clock. What can't be captured is run call by call."""
        for call in calls:
            call()
        self._cuda.synchronize()
        chosen = list(calls)
        once = self._time(Ready(_all(chosen), len(chosen), False), 1)
        while once * len(chosen) < LEAST and len(chosen) < MOST:
            chosen += calls
        try:
            return Ready(self._captured(chosen), len(chosen), True)
        except RuntimeError:
            self._cuda.synchronize()
            return Ready(_all(chosen), len(chosen), False)

    def _captured(self, calls: Sequence[Call]) -> Call:
        """One graph of all calls, which were warmed up in a stream of their own."""
        side = self._cuda.Stream()
        side.wait_stream(self._cuda.current_stream())
        with self._cuda.stream(side):
            for call in calls[:2]:
                call()
        self._cuda.current_stream().wait_stream(side)
        graph = self._cuda.CUDAGraph()
        with self._cuda.graph(graph):
            for call in calls:
                call()
        graph.replay()
        self._cuda.synchronize()
        return graph.replay

    def burst(self, ready: Ready, seconds: float) -> list[float]:
        """See Clock."""
        found: list[float] = []
        spent = 0.0
        while len(found) < SAMPLES or spent < seconds:
            found.append(self._time(ready, 1))
            spent += found[-1] * ready.calls
        return found

    def _time(self, ready: Ready, times: int) -> float:
        first, last = (self._cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(times):
            ready.run()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1e3 / times / ready.calls


def _all(calls: Sequence[Call]) -> Call:
    def run() -> None:
        for call in calls:
            call()

    return run
