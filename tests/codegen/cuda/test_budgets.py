"""What the main loops of products take, read from machine code; the same kernels run exactly."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from lang import kernels

import tilec as tc
from tilec.codegen.cuda.headers import device_headers
from tilec.cuda import Program, Schedule
from tilec.ir.named import named
from tilec.runtime.nvrtc import compile_cuda
from tilec.sass import Stats, stats_of
from tilec.sass.budget import Budget

# Instructions per MMA of Marlin's main loop on sm_90 (g128), read from its machine code by
# `tilec.sass` (GPTQ kernels of IST-DASLab/marlin, arXiv 2408.11743), by rows of x.
MARLIN = {16: 10.38, 32: 5.77, 48: 4.44, 64: 3.70}
INT4 = {16: 8.0, 32: 5.6, 48: 4.5, 64: 3.75}  # what ours take, a little rounded up

# The same for 16 and 64 rows of x beside other weights, on sm_80 and sm_90a alike: what x is, the
# depth of a step, and instructions per MMA, of m16n8k16 or, beside i8, of m16n8k32.
OURS = {
    "int1<group=128>": ("f16", 128, 6.8, 3.6),
    "int2<group=128>": ("f16", 128, 7.4, 3.6),
    "int3<group=128>": ("f16", 128, 10.0, 4.3),
    "int5<group=128>": ("f16", 128, 11.1, 4.6),
    "int6<group=128>": ("f16", 128, 11.2, 4.6),
    "int7<group=128>": ("f16", 128, 13.2, 5.1),
    "int8<group=128>": ("f16", 128, 8.3, 3.9),
    "e5m2<group=128>": ("f16", 128, 7.3, 3.6),
    "e2m1<group=128>": ("f16", 128, 9.3, 4.1),
    "e3m2<group=128>": ("f16", 128, 11.4, 4.6),
    "e2m3<group=128>": ("f16", 128, 11.4, 4.6),
    "e2m2<group=128>": ("f16", 128, 11.4, 4.6),
    "iq4<group=128>": ("f16", 128, 14.9, 5.6),
    "ternary<group=128>": ("f16", 128, 7.4, 3.6),
    "bipolar3<group=128>": ("f16", 128, 10.0, 4.3),
    "int4<group=32>": ("f16", 32, 11.6, 5.6),
    "mxfp4": ("f16", 32, 16.3, 6.8),
    "mxfp6": ("f16", 32, 21.7, 8.4),
    "iq4_nl": ("f16", 32, 18.4, 7.3),
    "int4<group=128, scale=bf16>": ("bf16", 128, 9.1, 4.0),
    "e2m1<group=128, scale=bf16>": ("bf16", 128, 11.1, 4.5),
    "int4<group=128, scale=f16>": ("i8", 128, 10.1, 5.8),
    "int3<group=128, scale=f16>": ("i8", 128, 14.1, 6.8),
    "int8<group=128, scale=f16>": ("i8", 128, 8.5, 5.1),
}
# Where sm_80 has no instruction that the others have: depth, 16 and 64 rows on sm_80 and sm_90a.
FP8 = {"e4m3<group=128>": (128, (19.4, 6.7), (7.3, 3.6)), "mxfp8": (32, (25.7, 9.1), (14.1, 6.1)),
       "nvfp4": (16, (37.2, 13.4), (26.4, 11.0))}  # fmt: skip
FAST = ("int3<group=128>", "e2m1<group=128>", "int4<group=128, scale=f16>")


def judged(program: Program, target: str) -> Stats:
    build = compile_cuda(program.source.text, target, headers=device_headers())
    (stats,) = stats_of(build.cubin, dynamic_shared=program.source.launches[0].shared)
    return stats


@pytest.mark.parametrize("rows", MARLIN)
def test_w4a16_takes_no_more_than_marlin(rows):
    """At most 1.1 times the instructions; nothing spilled; weights in pieces of 16 bytes."""
    dims = {"M": rows, "N": 512, "K": 2048}
    types = {"x": tc.f16, "w": named("int4<group=128>"), "y": tc.f32}
    program = program_of(kernels.linear, types, dims, Schedule(threads=256), m=rows, n=256, k=128)
    for target in ("sm_80", "sm_90a"):
        Budget(per_mma=min(INT4[rows], 1.1 * MARLIN[rows]),
               widths={"ldgsts": 16, "ldg": 16, "ldsm": 16}, lacks=("I2F",),
               registers=255).check(judged(program, target))  # fmt: skip
    rng = np.random.default_rng(rows)
    w = tc.quantize(rng.standard_normal((512, 2048)), "int4<group=128>", search=False)
    x = rng.standard_normal((rows, 2048)).astype(np.float16)
    y = poisoned((rows, 512), tc.f32)
    run(program, {"x": x, "w": w, "y": y})
    assert far(y, x.astype(float) @ w.dequantize().astype(float).T) < 5e-7


def weights_program(text: str, x: str, depth: int, rows: int) -> Program:
    types = {"x": getattr(tc, x), "w": named(text), "y": tc.f32}
    return program_of(kernels.linear, types, {"M": rows, "N": 512, "K": 2048},
                      Schedule(threads=256), m=rows, n=256, k=depth)  # fmt: skip


def check(program: Program, target: str, most: float) -> None:
    """Nothing spilled, no conversion of whole numbers, codes and x in pieces of 16 bytes."""
    Budget(per_mma=most, widths={"ldgsts": 16, "ldsm": 16}, lacks=("I2F",), registers=255).check(
        judged(program, target)
    )


@pytest.mark.parametrize("rows", [16, 64])
@pytest.mark.parametrize("text", [
    pytest.param(t, marks=[] if t in FAST else pytest.mark.slow) for t in OURS
])  # fmt: skip
def test_weights(text, rows):
    x, depth, few, many = OURS[text]
    program = weights_program(text, x, depth, rows)
    assert "w.scale" in program.source.orders
    for target in ("sm_80", "sm_90a"):
        check(program, target, few if rows == 16 else many)


@pytest.mark.slow
@pytest.mark.parametrize("text", FP8)
def test_weights_of_fp8(text):
    """Codes, or scales, in e4m3, which is converted by an instruction from sm_89 on."""
    depth, *most = FP8[text]
    for i, rows in enumerate((16, 64)):
        program = weights_program(text, "f16", depth, rows)
        for target, ceilings in zip(("sm_80", "sm_90a"), most, strict=True):
            check(program, target, ceilings[i])


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
