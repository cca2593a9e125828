"""A contender on a GPU: calls that are ready, and the check that its result is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tilec.bench.gpu.case import Way
from tilec.bench.gpu.held import Operands
from tilec.bench.gpu.operands import error
from tilec.compile import Kernel
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError

Parts = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class Contender:
    """Calls to rotate over. `got` makes of what the first one returns the parts that are compared,
    `want` has them in doubles (None: those of the case); `near` bounds the error of each."""

    name: str
    calls: Sequence[Callable[[], Any]]
    got: Callable[[Any], Parts]
    near: float
    bytes: float
    operations: float
    want: Parts | None = None
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def check(self, want: Parts) -> float:
        """The largest relative error of a result. Raises TileError where one is too large."""
        got = self.got(self.calls[0]())
        worst = 0.0
        for name, right in (self.want or want).items():
            off = error(got[name], right)
            if not off <= self.near:
                raise TileError(f"{self.name} is wrong: {name} is off by {off:.1e}, expected at "
                                f"most {self.near:.1e}")  # fmt: skip
            worst = max(worst, off)
        return worst


def ours(way: Way, operands: Operands) -> Contender:
    """A case of ours, made in one way. Raises TileError where it can't be."""
    case, place = operands.case, operands.place
    choice = way.choice(place.image)
    choice.schedule.check(choice.target(place.driver.device(0).capability))  # type: ignore[union-attr]
    kernel = Kernel(case.defined(case.formats), choice, place.gpu)
    calls: list[Callable[[], Any]] = []
    for copy in range(operands.copies):
        arguments = operands.arguments(copy)
        operands.kept.append(arguments)
        calls.append(kernel.bind(*arguments))
    about = {"backend": way.backend, "schedule": way.schedule, "copies": operands.copies}
    return Contender(f"tilec {way.name}", calls, partial(results, operands), case.near, case.bytes,
                     case.operations, about=about)  # fmt: skip


def results(operands: Operands, _: Any) -> Parts:
    """The parts of ours that are compared; of codes and scales, what they stand for."""
    parts = {n: operands.part(n, operands.held[n].tensor) for n in operands.case.results}
    found: dict[str, Array] = dict(parts)
    for name, codes in parts.items():
        for other, scale in parts.items():
            if name != other and codes.ndim == scale.ndim:
                each = codes.shape[-1] // max(1, scale.shape[-1])
                if each and codes.shape[-1] == each * scale.shape[-1]:
                    found[f"{name}*{other}"] = codes * np.repeat(scale, each, axis=-1)
    return found


def theirs(operands: Operands, name: str, result: str, calls: Sequence[Callable[[], Any]],
           near: float = 3e-2, want: Parts | None = None, nbytes: float = 0.0
           ) -> Contender:  # fmt: skip
    """A peer whose calls return the result of that name as one tensor of torch."""
    case = operands.case

    def got(tensor: Any) -> Parts:
        return {result: operands.part(result, tensor)}

    return Contender(name, calls, got, near, nbytes or case.bytes, case.operations, want)
