"""Layers of products and what stands around them, each of as few kernels as may be."""

from __future__ import annotations

from tilec.bench.case import Case, Suite
from tilec.bench.problems.layered import Layered
from tilec.bench.problems.layers import STORED
from tilec.bench.suites.norm import case


def _cases(quick: bool) -> list[Case]:
    if quick:
        return [case(Layered("mlp", (4, 256, 512), "bf16", "int4"), "arithmetic")]
    found = [Layered("rms-linear", (m, 4096, 4096), "bf16", w)
             for m in (16, 256) for w in ("bf16", "int4")]  # fmt: skip
    found += [Layered("mlp", (m, 4096, 14336), "bf16", w)
              for m in (1, 16) for w in ("bf16", "int4")]  # fmt: skip
    found += [Layered("mlp", (256, 2048, 5632), "bf16", "int4")]
    found += [Layered("linear-cross-entropy", (512, v, 2048), t, t)
              for v in (32000, 128256) for t in STORED]  # fmt: skip
    found += [Layered("decoder", (b, 1024), "bf16", "int4") for b in (1, 16)]
    return [case(p, "read" if p.sizes[0] == 1 else "arithmetic") for p in found]


SUITE = Suite("fusion", "layers of products and what is around them", _cases, seconds=0.2)
