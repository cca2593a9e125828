"""Prefill and decoding with 32 heads that share 8 of keys; caches dense, in pages, in codes."""

from __future__ import annotations

from tilec.bench.case import Case, Suite
from tilec.bench.problems.attention import Attention

TYPES = ("bf16", "f16", "f32")
CACHES = ("paged", "int8<group=128>", "int4<group=128>")


def _case(problem: Attention) -> Case:
    p = problem
    kind = "decode" if p.decodes else "causal" if p.causal else "full"
    cache = "" if p.cache == "dense" else f" {p.cache.partition('<')[0]} cache"
    axes = {"kind": kind, "M": p.m, "sequence": p.n, "dtype": p.dtype, "format": p.cache}
    unit = "f32" if p.dtype == "f32" else "bf16"
    return Case(f"{kind} {p.n} {p.dtype}{cache}", axes, p,
                "read" if p.decodes else "arithmetic", unit=unit)  # fmt: skip


def _cases(quick: bool) -> list[Case]:
    if quick:
        return [_case(Attention(1, 256, True, cache=c)) for c in ("dense", CACHES[1])]
    found = [Attention(n, n, causal, t) for t in TYPES for n in (1024, 4096)
             for causal in (True, False)]  # fmt: skip
    found += [Attention(1, 4096, True, t) for t in TYPES]
    found += [Attention(1, 4096, True, cache=c) for c in CACHES]
    return [_case(p) for p in found]


SUITE = Suite("attention", "prefill and decoding, caches dense, in pages and in codes", _cases,
              seconds=0.3)  # fmt: skip
