"""What the main loops of products of 2:4 operands take, read from machine code."""

from __future__ import annotations

import pytest
from sparse_products import product
from warpgroups import judge

from tilec.codegen.cuda.headers import device_headers
from tilec.cuda import Schedule
from tilec.runtime.nvrtc import compile_cuda
from tilec.sass import stats_of
from tilec.sass.budget import Budget

# Instructions for each matrix instruction in the main loop of CUTLASS's example 62 (2:4 f16 on
# sm_90a, release 4.2), read from its machine code by `tilec.sass`.
CUTLASS = 13.5
SLOW = pytest.mark.slow
# Rows of x: tiles, threads, and instructions per HMMA.SP or IMMA.SP, on sm_80 and sm_90a alike.
WARPS = {
    16: ({"m": 16, "n": 256, "k": 128}, 256, 5.4),
    64: ({"m": 64, "n": 256, "k": 128}, 256, 3.5),
    256: ({"m": 128, "n": 128, "k": 64}, 128, 3.3),
}


@pytest.mark.parametrize(("text", "x", "opcode", "deep"), [
    ("nm<2, 4, f16>", "f16", "HMMA.SP", 1),
    pytest.param("nm<2, 4, bf16>", "bf16", "HMMA.SP", 1, marks=SLOW),
    ("nm<2, 4, i8>", "i8", "IMMA.SP", 2),
])  # fmt: skip
@pytest.mark.parametrize("rows", WARPS)
def test_warps(rows, text, x, opcode, deep):
    """Nothing spilled; x and values in pieces of 16 bytes; no other product, nothing decoded."""
    tiles, threads, most = WARPS[rows]
    program = product(text, x, (rows, 512, 4096), Schedule(threads=threads),
                      **tiles | {"k": deep * tiles["k"]})  # fmt: skip
    for target in ("sm_80", "sm_90a"):
        build = compile_cuda(program.source.text, target, headers=device_headers())
        (stats,) = stats_of(build.cubin, dynamic_shared=program.source.launches[0].shared)
        Budget(per_mma=most, has={opcode: 32}, lacks=("I2F",), registers=255,
               widths={"ldgsts": 16, "ldsm": 16}).check(stats)  # fmt: skip
        assert all(n.startswith(opcode) for n in stats.code.of("mma"))


@pytest.mark.parametrize(("text", "x", "opcode", "deep"), [
    ("nm<2, 4, f16>", "f16", "HGMMA.SP", 1),
    pytest.param("nm<2, 4, bf16>", "bf16", "HGMMA.SP", 1, marks=SLOW),
    ("nm<2, 4, i8>", "i8", "IGMMA.SP", 2), ("nm<2, 4, e4m3>", "e4m3", "QGMMA.SP", 2),
])  # fmt: skip
def test_warp_groups(text, x, opcode, deep):
    """At most 1.2 times what CUTLASS takes, with warps that only copy."""
    chosen = Schedule(threads=256, instruction="wgmma", copies="bulk", specialise=4)
    program = product(text, x, (256, 512, 4096 * deep), chosen, m=128, n=128, k=128 * deep)
    judge(program, Budget(per_mma=min(14.0, 1.2 * CUTLASS), loop={opcode: (4, 4)}, registers=168,
                          lacks=("HMMA", "IMMA", "QMMA", "I2F", "LDSM")))  # fmt: skip


@pytest.mark.parametrize("rows", [pytest.param(16, marks=SLOW), 64])
def test_warp_groups_of_few_rows(rows):
    """Instructions of `rows` columns, which take the same values in place."""
    program = product("nm<2, 4, f16>", "f16", (rows, 512, 8192),
                      Schedule(threads=256, instruction="wgmma", copies="bulk", specialise=4),
                      m=rows, n=128, k=128)  # fmt: skip
    judge(program, Budget(per_mma=14.0, loop={f"HGMMA.SP.64x{rows}x32": (4, 4)}, registers=168))


@pytest.mark.parametrize(("rows", "tiles", "most"), [
    (16, {"m": 16, "n": 256, "k": 256}, 8.7), (64, {"m": 64, "n": 256, "k": 128}, 6.4),
])  # fmt: skip
def test_int4(rows, tiles, most):
    """Codes decoded in registers: fewer instructions for an HMMA.SP, which multiplies 16 x 32
    weights, than Marlin's loop takes for an HMMA of 8 x 16 (10.4 and 3.7 on sm_90)."""
    program = product("nm<2, 4, int4<group=128>>", "f16", (rows, 512, 4096), Schedule(threads=256),
                      **tiles)  # fmt: skip
    for target in ("sm_80", "sm_90a"):
        build = compile_cuda(program.source.text, target, headers=device_headers())
        (stats,) = stats_of(build.cubin, dynamic_shared=program.source.launches[0].shared)
        Budget(per_mma=most, has={"HMMA.SP": 32}, lacks=("I2F",), registers=255,
               widths={"ldgsts": 16, "ldsm": 16}).check(stats)  # fmt: skip
