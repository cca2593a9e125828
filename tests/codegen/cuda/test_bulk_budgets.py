"""What kernels of bulk copies take, read from machine code: the same programs as test_bulk runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from emulated import program_of
from products import linear

import tilec as tc
from tilec.codegen.cuda.headers import device_headers
from tilec.cuda import Schedule
from tilec.ir.format import Format
from tilec.runtime.nvrtc import compile_cuda
from tilec.sass import Stats, stats_of
from tilec.sass.budget import Budget

APART = Schedule(threads=256, stages=4, copies="bulk", specialise=4)
SQUARE = {"m": 128, "n": 128, "k": 64}


def judged(schedule: Schedule, target: str, **types: Format | tc.DType) -> Stats:
    given = {"x": tc.f16, "w": tc.f16, "y": tc.f32} | types
    dims = {"M": 256, "N": 512, "K": 2048}
    source = program_of(linear, given, dims, schedule).source
    build = compile_cuda(source.text, target, headers=device_headers())
    assert build.notes == ()
    (stats,) = stats_of(build.cubin, dynamic_shared=source.launches[0].shared)
    return stats


@pytest.mark.parametrize("target", ["sm_90a", "sm_100a"])
def test_machine_code_of_products_of_warps(target):
    """The copies are the other warps': the main loop has no instruction of them."""
    stats = judged(replace(APART, tiles=SQUARE), target)
    Budget(
        registers=168, per_mma=2.1, has={"UTMALDG": 2, "SYNCS": 8, "USETMAXREG": (2, 2)},
        lacks=("LDGSTS",), loop={"mma": (64, 64), "SYNCS": (2, 2), "UTMALDG": (0, 0)},
        widths={"ldsm": 16},
    ).check(stats)  # fmt: skip
    alone = judged(replace(APART, specialise=0, tiles=SQUARE), target)
    Budget(has={"UTMALDG": 2, "SYNCS": 8}, lacks=("LDGSTS",), loop={"UTMALDG": (2, 2)}).check(alone)


def test_machine_code_of_products_of_warp_groups():
    """128 x 256 x 64: four instructions of a group a step, of which CUTLASS takes 11.5 each."""
    tiles = {"m": 128, "n": 256, "k": 64}
    schedule = replace(APART, instruction="wgmma", overlap=1, tiles=tiles)
    Budget(
        registers=168, per_mma=16, has={"UTMALDG": 2, "SYNCS": 8, "USETMAXREG": (2, 2)},
        lacks=("LDGSTS", "HMMA", "LDSM"), loop={"HGMMA": (4, 4), "UTMALDG": (0, 0)},
    ).check(judged(schedule, "sm_90a"))  # fmt: skip


@pytest.mark.parametrize(("rows", "marlin"), [(16, 10.38), (64, 3.70)])
def test_machine_code_of_w4a16(rows, marlin):
    """No more than Marlin's main loop on sm_90 (test_budgets), to which its copies belong."""
    tiles = {"m": rows, "n": 256, "k": 128}
    stats = judged(replace(APART, tiles=tiles), "sm_90a", w=tc.format("int4<group=128>"))
    Budget(per_mma=marlin + 0.01, has={"UTMALDG": 1, "UBLKCP": 1, "SYNCS": 8},
           lacks=("LDGSTS", "I2F"), widths={"ldsm": 16}).check(stats)  # fmt: skip
