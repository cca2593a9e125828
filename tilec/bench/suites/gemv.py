"""One row times weights of every width, which come from memory: a step of decoding."""

from __future__ import annotations

from tilec.bench.case import Case, Suite
from tilec.bench.problems.linear import Linear

SHAPES = ((4096, 4096), (14336, 4096), (4096, 14336))  # N and K, of Llama-3-8B
INT4, INT8 = "int4<group=128, scale=bf16>", "int8<channel, scale=bf16>"
WIDTHS = (
    "bf16", "f32", "int2<group=128, scale=bf16>", "int3<group=128, scale=bf16>",
    "int5<group=128, scale=bf16>", "int6<group=128, scale=bf16>", "fp6",
    "nf4<group=64>", "mxfp4", "nvfp4",
)  # fmt: skip
CODES = "int8<channel, scale=f32>"  # of activations


def case(problem: Linear) -> Case:
    """A product as a case: one row is held to reading, many to arithmetic."""
    short = problem.weight.partition("<")[0]
    rows = "" if problem.x in ("bf16", problem.weight) else f" x {problem.x.partition('<')[0]}"
    axes = {"M": problem.m, "N": problem.n, "K": problem.k, "format": problem.weight,
            "dtype": problem.x}  # fmt: skip
    name = f"{short}{rows} {problem.m};{problem.n},{problem.k}"
    unit = "f32" if problem.x == "f32" else "bf16" if problem.x == "bf16" else "int8"
    return Case(name, axes, problem, "read" if problem.m == 1 else "arithmetic", unit=unit)


def _cases(quick: bool) -> list[Case]:
    if quick:
        return [case(Linear(1, 1024, 1024, INT4))]
    found = [Linear(1, n, k, w) for n, k in SHAPES for w in (INT4, INT8)]
    found += [Linear(1, n, k, "int4<group=128, scale=f32>", CODES) for n, k in SHAPES]
    found += [Linear(1, 4096, 4096, w, "f32" if w == "f32" else "bf16") for w in WIDTHS]
    return [case(p) for p in found]


SUITE = Suite("gemv", "one row times weights of every width, from memory", _cases, (1, 0))
