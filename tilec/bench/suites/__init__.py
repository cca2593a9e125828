"""The suites of `tilec bench` on this processor, by name."""

from __future__ import annotations

from tilec.bench.case import Suite
from tilec.bench.suites import (
    attention,
    compiling,
    formats,
    fusion,
    gemm,
    gemv,
    launching,
    models,
    moe,
    norm,
    scaling,
    sparse,
)

SUITES: dict[str, Suite] = {
    s.name: s
    for s in (
        gemv.SUITE, gemm.SUITE, formats.SUITE, sparse.SUITE, attention.SUITE, norm.SUITE, moe.SUITE,
        fusion.SUITE, models.SUITE, compiling.SUITE, launching.SUITE, *scaling.SUITES,
    )
}  # fmt: skip
