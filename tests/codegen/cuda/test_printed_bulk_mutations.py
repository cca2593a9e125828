"""Printed kernels of bulk copies and barriers, broken on purpose: emulation finds each."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from emulated import poisoned, program_of
from products import PRODUCTS, linear

import tilec as tc
from tilec.cuda import Program, Schedule, emulate, in_memory
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.named import named
from tilec.ir.source import TensorBoxes

WRONG = "wrong"
SIZES = (64, 128, 512)


@cache
def gemm(warps: int) -> tuple[Program, dict[str, Array], Array]:
    product = PRODUCTS["linear"]
    given, want = product.arguments(*SIZES, tc.f16)
    schedule = Schedule(copies="bulk", specialise=warps)
    program = program_of(linear, product.types(tc.f16), product.dims(*SIZES), schedule)
    return program, given, want


@cache
def w4a16() -> tuple[Program, dict[str, Array], Array]:
    """Codes in fragment order, with scales that are powers of two."""
    format = named("uint4<group=128>")
    types = {"x": tc.f16, "w": format, "y": tc.f32}
    schedule = Schedule(copies="bulk", specialise=1)
    program = program_of(linear, types, PRODUCTS["linear"].dims(*SIZES), schedule)
    rng = np.random.default_rng(1)
    parts = {"codes": rng.integers(0, 16, (128, 512)),
             "scale": np.ldexp(1.0, rng.integers(-1, 2, (128, 4)))}  # fmt: skip
    x = rng.integers(-4, 5, (64, 512)).astype(np.float16)
    want = x.astype(float) @ format.values(parts, (128, 512)).T
    return program, {"x": x} | in_memory(program, format, parts, (128, 512), "w"), want


def outcome(program: Program, given: dict[str, Array], want: Array) -> set[str]:
    """The kinds of what the checks found, and whether the result is wrong."""
    y = poisoned(want.shape, tc.f32)
    kinds = {f.kind for r in emulate(program, given | {"y": y}) for f in r.findings}
    return kinds | ({WRONG} if not np.array_equal(y, want) else set())


def broken(program: Program, old: str, number: int, new: str) -> Program:
    parts = program.source.text.split(old)
    assert len(parts) > number + 1, f"{old!r} is there {len(parts) - 1} times"
    text = old.join(parts[: number + 1]) + new + old.join(parts[number + 1 :])
    return replace(program, source=replace(program.source, text=text))


def boxed(program: Program, **changed: object) -> Program:
    """The program with another description of its first tensor map."""
    (launch,) = program.source.launches
    first, *rest = launch.boxes
    other: TensorBoxes = replace(first, **changed)
    launches = (replace(launch, boxes=(other, *rest)),)
    return replace(program, source=replace(program.source, launches=launches))


@cache
def wgmma() -> tuple[Program, dict[str, Array], Array]:
    """Products that end a step later than they begin, so slots are kept for a step."""
    product = PRODUCTS["linear"]
    given, want = product.arguments(*SIZES, tc.f16)
    schedule = Schedule(copies="bulk", specialise=4, instruction="wgmma", overlap=1)
    program = program_of(linear, product.types(tc.f16), product.dims(*SIZES), schedule)
    return program, given, want


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
        assert outcome(*case) == set()


@pytest.mark.parametrize("warps", [0, 1])
@pytest.mark.parametrize(("old", "number", "new", "found"), BOTH)
def test_gemm(old, number, new, found, warps):
    program, given, want = gemm(warps)
    assert found in outcome(broken(program, old, number, new), given, want)


@pytest.mark.parametrize(("old", "number", "new", "found"), ALONE)
def test_one_thread_that_copies(old, number, new, found):
    program, given, want = gemm(0)
    assert found in outcome(broken(program, old, number, new), given, want)


@pytest.mark.parametrize(("old", "number", "new", "found"), APART)
def test_warps_that_only_copy(old, number, new, found):
    program, given, want = gemm(1)
    assert found in outcome(broken(program, old, number, new), given, want)


@pytest.mark.parametrize(("old", "number", "new", "found"), W4A16)
def test_w4a16(old, number, new, found):
    program, given, want = w4a16()
    assert found in outcome(broken(program, old, number, new), given, want)


@pytest.mark.parametrize(("old", "number", "new", "found"), WGMMA)
def test_wgmma(old, number, new, found):
    program, given, want = wgmma()
    assert found in outcome(broken(program, old, number, new), given, want)


@pytest.mark.parametrize(("changed", "found"), BOXES, ids=str)
def test_tensor_maps(changed, found):
    program, given, want = gemm(1)
    assert found in outcome(boxed(program, **changed), given, want)


def test_a_box_wider_than_its_swizzle_is_refused():
    program, given, want = gemm(1)
    with pytest.raises(TileError, match="no more than the swizzle's 64"):
        outcome(boxed(program, swizzle=64), given, want)
