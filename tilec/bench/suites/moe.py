"""Mixtures of experts, in codes and dense, beside torch's loop and its grouped product."""

from __future__ import annotations

from tilec.bench.case import Case, Suite
from tilec.bench.problems.routed import Routed
from tilec.bench.suites.gemv import INT4

EXPERTS, TOP, WIDE, DEEP = 32, 4, 1536, 2048


def _case(problem: Routed) -> Case:
    p = problem
    short = p.weight.partition("<")[0]
    axes = {"batch": p.tokens, "experts": p.experts, "top": p.top, "N": p.n, "K": p.k,
            "format": p.weight, "dtype": "bf16"}  # fmt: skip
    name = f"{short} {p.tokens} tokens, {p.top} of {p.experts};{p.n},{p.k}"
    many = p.tokens * p.top > 16 * p.experts
    return Case(name, axes, p, "arithmetic" if many else "read")


def _cases(quick: bool) -> list[Case]:
    if quick:
        return [_case(Routed(8, 4, 2, 256, 256, INT4))]
    return [_case(Routed(tokens, EXPERTS, TOP, WIDE, DEEP, w))
            for w in (INT4, "bf16") for tokens in (1, 16, 64, 512)]  # fmt: skip


SUITE = Suite("moe", "mixtures of experts, in codes and dense", _cases)
