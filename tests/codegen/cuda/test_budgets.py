"""What the main loops of products take, read from machine code; the same kernels run exactly."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from lang import kernels

import tilec as tc
from tilec.codegen.cuda.headers import device_headers
from tilec.cuda import Program
from tilec.ir.named import named
from tilec.runtime.nvrtc import compile_cuda
from tilec.sass import Stats, stats_of
from tilec.sass.budget import Budget

# Instructions per MMA of Marlin's main loop on sm_90 (g128), read from its machine code by
# `tilec.sass` (GPTQ kernels of IST-DASLab/marlin, arXiv 2408.11743), by rows of x.
MARLIN = {16: 10.38, 32: 5.77, 48: 4.44, 64: 3.70}


def judged(program: Program, target: str) -> Stats:
    build = compile_cuda(program.source.text, target, headers=device_headers())
    (stats,) = stats_of(build.cubin, dynamic_shared=program.source.launches[0].shared)
    return stats


@pytest.mark.parametrize("rows", MARLIN)
def test_w4a16_takes_no_more_than_marlin(rows):
    """At most 1.1 times the instructions; nothing spilled; weights in pieces of 16 bytes."""
    dims = {"M": rows, "N": 512, "K": 2048}
    types = {"x": tc.f16, "w": named("int4<group=128>"), "y": tc.f32}
    program = program_of(kernels.linear, types, dims, 256, m=rows, n=256, k=128)
    for target in ("sm_80", "sm_90a"):
        Budget(per_mma=1.1 * MARLIN[rows], widths={"ldgsts": 16, "ldsm": 16}, lacks=("I2F",),
               registers=255).check(judged(program, target))  # fmt: skip
    rng = np.random.default_rng(rows)
    w = tc.quantize(rng.standard_normal((512, 2048)), "int4<group=128>", search=False)
    x = rng.standard_normal((rows, 2048)).astype(np.float16)
    y = poisoned((rows, 512), tc.f32)
    run(program, {"x": x, "w": w, "y": y})
    assert far(y, x.astype(float) @ w.dequantize().astype(float).T) < 5e-7


def test_dense_gemm():
    """128 x 128 x 32 on sm_80: 2.3 instructions for each of 64 MMAs a step."""
    dims = {"M": 256, "N": 256, "K": 512}
    types = {"x": tc.bf16, "w": tc.bf16, "y": tc.f32}
    program = program_of(kernels.linear, types, dims, m=128, n=128, k=32)
    Budget(per_mma=2.3, loop={"mma": (64, 64)}, widths={"ldgsts": 16, "ldsm": 16}).check(
        judged(program, "sm_80")
    )
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-4, 5, (256, 512)).astype(ml_dtypes.bfloat16) for _ in range(2))
    y = poisoned((256, 256), tc.f32)
    run(program, {"x": x, "w": w, "y": y})
    assert np.array_equal(y, x.astype(float) @ w.astype(float).T)
