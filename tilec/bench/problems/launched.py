"""What a launch costs on the host: kernels that do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from tilec.bench.case import OURS, Made, Make
from tilec.bench.launch import idle, nothing
from tilec.ir.errors import TileError

CPU, FAKE = "CPU", "fake driver"
WAYS = {
    CPU: ("launch", "bound, other tensors", "bound, the same", "program with out=",
          "program that makes its result"),
    FAKE: ("launch", "bound, other tensors", "bound, the same"),
}  # fmt: skip
CALLS = 1000  # of a loop


@dataclass(frozen=True)
class Launched:
    """A launch on the CPU or through a driver that does nothing, of a kernel of so many tensors of
    torch and integers, in one of WAYS."""

    where: str
    how: str
    tensors: int
    integers: int

    def call(self) -> Callable[[], object]:
        """One launch. Raises TileError for a way that there is not."""
        from torch import zeros

        given = (*(zeros(64) for _ in range(self.tensors)), *range(self.integers))
        if self.how not in WAYS.get(self.where, ()):
            raise TileError(f"{self.where}: no launch is called {self.how!r}")
        if self.how.startswith("program"):
            program, out = idle()(self.tensors, self.integers, 1).launch, zeros(64)
            program(*given)
            if self.how.endswith("result"):
                return lambda: program(*given)
            return lambda: program(*given, out=out)
        made = (nothing().dispatcher(self.tensors, self.integers) if self.where == FAKE
                else idle()(self.tensors, self.integers, 0))  # fmt: skip
        launch, bound = made.launch, made.bind(*given)
        launch(*given)
        match self.how:
            case "launch":
                return lambda: launch(*given)
            case "bound, the same":
                return bound
            case _:
                return lambda: bound(*given)

    def ours(self) -> Mapping[str, Make]:
        """A launch of tilec's."""
        return {OURS: partial(_ours, self)}


def _ours(of: Launched) -> Made:
    return looped(of.call())


def looped(call: Callable[[], object]) -> Made:
    """A contender of which each measured call is a loop, as one launch is too short to be timed."""

    def many() -> None:
        for _ in range(CALLS):
            call()

    return Made([many], None, operations=1.0, repeats=CALLS)
