"""The numbers of kernels: those known by hand, those of ptxas, and those of Triton's GEMM."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from sass.kernels import PIPELINE, RESOURCES, WEIGHTED, built, listed, weighted

from tilec.ir.errors import TileError
from tilec.ir.source import KernelSource, Launch, Param
from tilec.runtime.triton import compile_for
from tilec.sass.listing import parse
from tilec.sass.machine import A100, H100
from tilec.sass.report import text
from tilec.sass.stats import judged, stats_of

GEMM = """
import triton
import triton.language as tl


@triton.jit
def gemm_kernel(x, w, y, M, N, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                BLOCK_K: tl.constexpr):
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    left = x + m[:, None] * K + k[None, :]
    right = w + k[:, None] * N + n[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for _ in range(0, K, BLOCK_K):
        total = tl.dot(tl.load(left), tl.load(right), total)
        left += BLOCK_K
        right += BLOCK_K * N
    tl.store(y + m[:, None] * N + n[None, :], total.to(tl.float16))
"""


def test_numbers_known_by_hand():
    stats = weighted()
    assert (stats.registers, stats.shared, stats.threads, stats.spills) == (128, 49152, 128, 1)
    assert stats.residency is not None
    assert (stats.residency.ctas, stats.residency.limit) == (4, "registers")
    assert stats.per_mma == 4.0
    assert stats.loop is not None
    assert stats.loop.instructions == 8
    assert stats.loop.classes == {
        "mma": 2, "ldgsts": 2, "ldg": 1, "logic": 1, "half": 1, "branch": 1,
    }  # fmt: skip
    assert stats.loop.widths("ldgsts") == {16: 2}
    assert stats.loop.loaded == 36
    assert stats.loop.lines == {"kernels/w.tile:4": 3, "kernels/w.tile:5": 5}
    assert stats.code.lines["kernels/w.tile:7"] == 2


def test_the_bound_of_issuing():
    """The figures of Marlin's main loop with 16 rows: 664 instructions, 8 warps, 32 KiB."""
    bound = weighted().bound(H100)
    assert bound.clocks == 8  # instructions x 4 warps / 4 schedulers
    assert bound.bytes_per_clock == 36 * 128 / 8
    assert weighted().bound(A100, 1024).bytes_per_clock == 128
    assert weighted().bound(H100, 80).of_memory == pytest.approx(10 / 14.46, rel=1e-3)
    (function,) = parse(WEIGHTED.replace("@P0 BRA `(.L_x_1)", "NOP"))
    whole = judged(function)
    assert whole.loop is None
    assert whole.bound(H100).clocks == whole.code.instructions
    (function,) = parse(WEIGHTED.replace("REQNTID", "CTAIDZ_USED"))
    assert judged(function).residency is None
    with pytest.raises(TileError, match="weighted has no known number of threads"):
        judged(function).bound(H100)
    assert judged(function, threads=256).bound(H100).clocks == 16


def test_text(golden: Callable[[str, str], None]):
    (function,) = parse(WEIGHTED.replace("@P0 BRA `(.L_x_1)", "NOP").replace("REQNTID", "CTAIDZ"))
    golden("stats.txt", text([weighted(), judged(function)]))


def test_json():
    found = json.loads(json.dumps(weighted().as_json()))
    assert found["residency"] == {"ctas": 4, "warps": 16, "limit": "registers"}
    assert found["loop"]["per_mma"] == 4.0
    assert found["loop"]["widths"] == {"ldgsts": {"16": 2}, "ldg": {"4": 1}}
    assert found["code"]["names"]["HMMA.16816.F32"] == 2
    (bound,) = found["bounds"]
    assert (bound["device"], bound["clocks"], bound["bytes_per_clock"]) == ("H100 SXM", 8, 576)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_registers_and_spills_are_those_that_ptxas_reports(target: str):
    usage = {u.kernel: u for u in built(RESOURCES, target).usage}
    mine = {f.name: judged(f) for f in listed(RESOURCES, target)}
    assert mine.keys() == usage.keys()
    for name, stats in mine.items():
        said = usage[name]
        assert (stats.registers, stats.stack) == (said.registers, said.stack)
        assert stats.shared == said.shared
        assert bool(stats.spills) == bool(said.spill_stores)
    assert mine["spilled"].spills > 20
    assert mine["spilled"].residency is not None
    assert mine["spilled"].residency.ctas == 1


def test_statistics_of_a_cubin():
    (stats,) = stats_of(built(PIPELINE, "sm_90a").cubin, dynamic_shared=1024)
    assert stats.shared == 2 * 128 * 16 + 1024
    assert stats.per_mma is not None
    assert 10 < stats.per_mma < 15


@pytest.mark.parametrize(
    ("target", "step", "multiplications", "per_mma", "registers"),
    [
        # 128 x 128 x 32 by 4 warps: 4 x 8 x 2 of 16 x 8 x 16 each. Public counts: 178 in 64.
        ("sm_80", 32, {"HMMA.16816.F32": 64}, (2.2, 3.3), (200, 255)),
        # By one warp group: 2 x 1 x 4 of 64 x 128 x 16. 143 in 8.
        ("sm_90", 64, {"HGMMA.64x128x16.F32": 8}, (14, 22), (170, 240)),
    ],
)
def test_a_gemm_of_triton(
    target: str, step: int, multiplications: dict[str, int],
    per_mma: tuple[float, float], registers: tuple[int, int],
):  # fmt: skip
    pytest.importorskip("triton")
    params = tuple(Param(n, "f16", (), "tensor", i) for i, n in enumerate("xwy"))
    launches = (Launch("gemm_kernel", 1, 128, 0),)
    source = KernelSource("triton", GEMM, "gemm_kernel", params, launches=launches)
    made = compile_for(source, target, {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": step},
                       even=("M", "N", "K"))  # fmt: skip
    (stats,) = stats_of(made.cubin, dynamic_shared=made.shared)
    assert stats.loop is not None
    assert stats.loop.of("mma") == multiplications
    assert stats.loop.widths("ldgsts") == {16: 2 * 128 * step * 2 // 16 // 128}
    assert stats.per_mma is not None
    assert per_mma[0] < stats.per_mma < per_mma[1]
    assert registers[0] <= stats.registers <= registers[1]
    assert (stats.spills, stats.threads) == (0, 128)
    assert stats.shared >= 2 * (2 * 128 * step * 2)  # at least two stages of both operands
    assert any(line.split("/")[-1].startswith("gemm_kernel.py:") for line in stats.loop.lines)
