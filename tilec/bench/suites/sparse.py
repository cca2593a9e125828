"""Pruned weights: single elements, two of four, and blocks, beside dense and sparse products."""

from __future__ import annotations

from tilec.bench.case import Case, Suite
from tilec.bench.problems.pruned import Pruned

SIDE = 4096
SINGLE, BLOCKS = (0.5, 0.3, 0.2, 0.1), (0.5, 0.2, 0.1, 0.05)


def _case(problem: Pruned) -> Case:
    p = problem
    name = f"{p.format} {100 * (1 - p.density):.0f}% {p.m};{p.n},{p.k}"
    axes = {"M": p.m, "N": p.n, "K": p.k, "format": p.format, "density": p.density,
            "dtype": p.dtype}  # fmt: skip
    return Case(name, axes, p, "read" if p.m <= 16 else "arithmetic", unit=p.dtype)


def _cases(quick: bool) -> list[Case]:
    if quick:
        return [_case(Pruned(1, 512, 512, "bitmap<bf16>", 0.3))]
    n = SIDE
    found = [Pruned(m, n, n, f, left) for f in ("bitmap<bf16>", "bitmap<f32>", "csr<f32>")
             for left in SINGLE for m in (1, 16)]  # fmt: skip
    found += [Pruned(m, n, n, f"block<16, 16, {t}>", left, 16) for t in ("bf16", "f32")
              for left in BLOCKS for m in (1, 16)]  # fmt: skip
    found += [Pruned(256, n, n, "block<64, 64, bf16>", left, 64) for left in (0.5, 0.1)]
    found += [Pruned(m, n, n, "nm<2, 4, bf16>", 0.5, 0) for m in (1, 16)]
    return [_case(p) for p in found]


SUITE = Suite("sparse", "pruned weights beside dense and sparse products", _cases)
