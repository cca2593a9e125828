"""What a launch costs on the host."""

from __future__ import annotations

from tilec.bench.case import Case, Suite
from tilec.bench.problems.launched import CPU, WAYS, Launched

SHAPES = ((3, 0), (9, 4))  # tensors and integers


def _case(problem: Launched) -> Case:
    p = problem
    axes = {"where": p.where, "how": p.how, "tensors": p.tensors, "integers": p.integers}
    return Case(f"{p.where}: {p.how} {p.tensors};{p.integers}", axes, p, "call")


def _cases(quick: bool) -> list[Case]:
    if quick:
        return [_case(Launched(CPU, "launch", 3, 0))]
    return [_case(Launched(where, how, *shape))
            for where, ways in WAYS.items() for how in ways for shape in SHAPES]  # fmt: skip


SUITE = Suite("launch", "host time of a launch that does nothing", _cases, threads=(1,))
