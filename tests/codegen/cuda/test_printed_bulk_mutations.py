"""Printed kernels of bulk copies and barriers, broken on purpose: emulation finds each."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from mutations import WRONG, Case, broken, dense, outcome, quantised

import tilec as tc
from tilec.cuda import Schedule
from tilec.ir.errors import TileError
from tilec.ir.source import TensorBoxes

DIMS = {"M": 64, "N": 128, "K": 512}


@cache
def gemm(warps: int) -> Case:
    return dense(tc.f16, DIMS, Schedule(copies="bulk", specialise=warps))


@cache
def w4a16() -> Case:
    return quantised(tc.f16, "uint4", DIMS, Schedule(copies="bulk", specialise=1))


@cache
def wgmma() -> Case:
    """Products that end a step later than they begin, so slots are kept for a step."""
    schedule = Schedule(copies="bulk", specialise=4, instruction="wgmma", overlap=1)
    return dense(tc.f16, DIMS, schedule)


def boxed(case: Case, **changed: object) -> Case:
    """The case with another description of its first tensor map."""
    program, given, want = case
    (launch,) = program.source.launches
    first, *rest = launch.boxes
    other: TensorBoxes = replace(first, **changed)
    launches = (replace(launch, boxes=(other, *rest)),)
    return replace(program, source=replace(program.source, launches=launches)), given, want


# What is replaced (the n-th time that it occurs), by what, and what must find it.
BOTH = [
    (", 16384)", 0, ", 8192)", "in-flight"),
    (", 16384)", 0, ", 32768)", "deadlock"),
    ("mbarrier_wait(full", 0, "if (false) mbarrier_wait(full", "in-flight"),
    ("mbarrier_wait(empty", 0, "if (false) mbarrier_wait(empty", "race"),
    ("if (thread % 32 == 0) mbarrier_arrive(empty", 0, "if (false) mbarrier_arrive(empty",
     "deadlock"),
    ("warp_sync();", 0, "", "race"),
    ("fence_mbarrier_init();", 0, "", "proxy-fence"),
    ("  barrier();", 0, "", "race"),
    ("mbarrier_init(full + i * 8, 1)", 0, "mbarrier_init(full + i * 8, 2)", "deadlock"),
    ("mbarrier_init(empty + i * 8, 4)", 0, "mbarrier_init(empty + i * 8, 3)", "race"),
    ("i < 3; i++) mbarrier_init(full", 0, "i < 2; i++) mbarrier_init(full", "mbarrier"),
    ("if (thread == 0) {", 0, "{", "mbarrier"),
    ("&w_boxes, full", 0, "&x_boxes, full", WRONG),
    ("mod_s32(scalar, 3)", 0, "mod_s32(scalar, 2)", "in-flight"),
    ("shared_base() + 24576", 0, "shared_base() + 24064", "race"),
]  # fmt: skip
ALONE = [
    ("add_s32(scalar7, 1)", 0, "add_s32(scalar7, 0)", "deadlock"),
    ("start + 128, start_1)", 0, "start_1, start + 128)", WRONG),
    ("64, start_0)", 0, "63, start_0)", WRONG),
    ("if (thread == 0) {", 1, "{", "race"),
    ("(scalar3 < 512)", 0, "(true)", "exit"),
    ("ring2 + u32(0) *", 0, "ring2 + 64 + u32(0) *", "misaligned"),
]
APART = [
    ("add_s32(scalar3, 1)", 0, "add_s32(scalar3, 0)", "deadlock"),
    ("start, start_1)", 0, "start_1, start)", WRONG),
    ("mod_s32(scalar6, 3)", 0, "mod_s32(scalar6, 2)", "deadlock"),
    ("if (thread != 128) return;", 0, "", "race"),
    ("    return;\n", 0, "", "deadlock"),
    ("* 8192, &w_boxes", 0, "* 4096, &w_boxes", "uninitialised"),
]
W4A16 = [
    (", 2048, full", 0, ", 1024, full", "deadlock"),
    ("mbarrier_wait(empty", 0, "if (false) mbarrier_wait(empty", "race"),
    ("mbarrier_wait(full", 0, "if (false) mbarrier_wait(full", "uninitialised"),
    ("/ 64 * 8 +", 0, "/ 64 * 4 +", WRONG),
]
WGMMA = [
    ("wgmma_wait<1>();", 0, "", "overwritten"),
    ("(1 <= scalar6)", 0, "(2 <= scalar6)", "deadlock"),
    ("(1 <= scalar6)", 0, "(true)", "overwritten"),
    ("sub_s32(scalar6, 1)", 0, "sub_s32(scalar6, 0)", "deadlock"),
]
BOXES = [
    ({"swizzle": 0}, WRONG),
    ({"box": (32, 64)}, "deadlock"),
    ({"box": (64, 32)}, "deadlock"),
    ({"pitches": (2048,)}, WRONG),
    ({"shape": (100, 512)}, WRONG),
    ({"element": 1}, "deadlock"),
]


def test_they_are_right_as_they_are():
    for case in (gemm(0), gemm(1), w4a16(), wgmma()):
        assert outcome(case) == set()


@pytest.mark.parametrize("warps", [0, 1])
@pytest.mark.parametrize(("old", "number", "new", "found"), BOTH)
def test_gemm(old, number, new, found, warps):
    assert found in outcome(broken(gemm(warps), old, number, new))


@pytest.mark.parametrize(("old", "number", "new", "found"), ALONE)
def test_one_thread_that_copies(old, number, new, found):
    assert found in outcome(broken(gemm(0), old, number, new))


@pytest.mark.parametrize(("old", "number", "new", "found"), APART)
def test_warps_that_only_copy(old, number, new, found):
    assert found in outcome(broken(gemm(1), old, number, new))


@pytest.mark.parametrize(("old", "number", "new", "found"), W4A16)
def test_w4a16(old, number, new, found):
    assert found in outcome(broken(w4a16(), old, number, new))


@pytest.mark.parametrize(("old", "number", "new", "found"), WGMMA)
def test_wgmma(old, number, new, found):
    assert found in outcome(broken(wgmma(), old, number, new))


@pytest.mark.parametrize(("changed", "found"), BOXES, ids=str)
def test_tensor_maps(changed, found):
    assert found in outcome(boxed(gemm(1), **changed))


def test_a_box_wider_than_its_swizzle_is_refused():
    with pytest.raises(TileError, match="no more than the swizzle's 64"):
        outcome(boxed(gemm(1), swizzle=64))
