"""Many rows times weights: in codes, also with activations in codes, and dense squares."""

from __future__ import annotations

from tilec.bench.case import Case, Suite
from tilec.bench.problems.linear import Linear
from tilec.bench.suites.gemv import CODES, INT4, case

ROWS = (2, 4, 8, 16, 32, 64, 128, 256, 1024)
SIDE = 4096  # of the weight
SQUARES = (256, 1024, 4096)


def _cases(quick: bool) -> list[Case]:
    if quick:
        return [case(Linear(32, 512, 512, INT4)), case(Linear(128, 128, 128, "f32", "f32"))]
    weights = ((INT4, "bf16"), ("int4<group=128, scale=f32>", CODES),
               ("int8<channel, scale=f32>", CODES))  # fmt: skip
    found = [Linear(m, SIDE, SIDE, w, x) for w, x in weights for m in ROWS]
    found += [Linear(n, n, n, t, t) for t in ("bf16", "f32") for n in SQUARES]
    return [case(p) for p in found]


SUITE = Suite("gemm", "many rows times weights in codes, and dense squares", _cases)
