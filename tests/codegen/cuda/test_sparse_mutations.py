"""Printed products of 2:4 operands broken on purpose: emulation finds each, by a check or by a
wrong result."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from mutations import WRONG, Case, broken, outcome
from sparse_products import counted, product, pruned

from tilec.cuda import Schedule, in_memory

DIMS = (64, 128, 512)
METADATA = "metadata"


def case(text: str, x: str, schedule: Schedule) -> Case:
    """A product of whole numbers, whose result is exact."""
    (m, n, k), program = DIMS, product(text, x, DIMS, schedule)
    w, a = pruned(text, n, k), counted(x, m, k)
    given = {"x": a} | in_memory(program, w.format, w.parts(), w.shape, "w")
    return program, given, a.astype(float) @ w.dequantize().astype(float).T


@cache
def warps() -> Case:
    return case("nm<2, 4, f16>", "f16", Schedule(tiles={"m": 32, "n": 128, "k": 128}))


@cache
def plain() -> Case:
    """Without rings: places as they lie in memory."""
    return case("nm<2, 4, f16>", "f16", Schedule(stages=1, tiles={"m": 32, "n": 64, "k": 96}))


@cache
def groups() -> Case:
    return case("nm<2, 4, f16>", "f16",
                Schedule(instruction="wgmma", tiles={"m": 32, "n": 64, "k": 128}))  # fmt: skip


# What is replaced (the n-th time that it occurs), by what, and what must find it.
WARPS = [
    ("mma_sp<32, f16, f16, 0>", 0, "mma_sp<32, f16, f16, 1>", WRONG),
    ("mma_sp<32, f16, f16, 1>", 0, "mma_sp<32, f16, f16, 0>", WRONG),
    ("mma_sp<32, f16, f16, 0>", 0, "mma_sp<32, bf16, bf16, 0>", WRONG),
    ("_tile3[m * 2 + j]", 0, "rotated(_tile3[m * 2 + j], 16)", WRONG),
    ("_tile3[m * 2 + j]", 1, "rotated(_tile3[m * 2 + j], 4)", WRONG),
    ("_tile3[m * 2 + j]", 0, "_tile3[m * 2 + j] >> 16", METADATA),
    ("_tile3[m * 2 + j]", 0, "_tile3[m * 2 + j] ^ 4", METADATA),
    ("_tile3[m * 2 + j]", 0, "_tile3[m * 2 + (j ^ 1)]", WRONG),
    ("_tile3[m * 2 + j]", 1, "_tile3[(m ^ 1) * 2 + j]", WRONG),
    ("(m * 4 + (j * 2 + 1)) * 4", 0, "(m * 4 + (j * 2 + 1)) * 4 ^ 4", WRONG),
    ("((j * 2 + 1) * 4 + n) * 4", 0, "((j * 2 + 0) * 4 + n) * 4", WRONG),
    ("m * 4 + (j * 2 + 1);", 0, "m * 4 + (j * 2 + 0);", WRONG),
    ("own * 16", 0, "own * 8", WRONG),
    ("own = thread", 0, "own = thread ^ 2", WRONG),
    ("/ 64) * 2048", 2, "/ 128) * 2048", WRONG),
    ("(start) / 2 + 128 + column)) * 2)", 0, "(start) / 2 + 64 + column)) * 2)", WRONG),
    ("copy_async_wait<1>();", 0, "copy_async_wait<2>();", "in-flight"),
    ("barrier();", 0, "", "race"),
]
PLAIN = [
    ("rising(w_index", 0, "u32(w_index", METADATA),
    ("rising(w_index", 0, "rising(0 * w_index", WRONG),
    ("s32(place_5) < 96", 0, "true", WRONG),
]
GROUPS = [
    ("f16, f16, 0, false>", 1, "f16, f16, 1, false>", WRONG),
    ("f16, f16, 1, false>", 1, "f16, f16, 0, false>", WRONG),
    ("j * 2 + 1", 0, "j * 2 + 0", WRONG),
    ("_tile[word]", 0, "_tile[word ^ 1]", WRONG),
    ("_tile[word]", 1, "rotated(_tile[word], 16)", WRONG),
    ("k * 64 % 128", 0, "k * 32 % 128", WRONG),
    ("k * 32) / 16", 1, "k * 64) / 16", WRONG),
    ("16, 1024,", 0, "16, 512,", WRONG),
    ("wgmma_wait<0>();", 0, "", WRONG),
    ("wgmma_fence();", 0, "", "wgmma-fence"),
    ("fence_async();", 0, "", "proxy-fence"),
]


@pytest.mark.parametrize("made", [warps, plain, groups])
def test_they_are_right_as_they_are(made):
    assert outcome(made()) == set()


@pytest.mark.parametrize(("old", "number", "new", "found"), WARPS)
def test_warps(old, number, new, found):
    assert found in outcome(broken(warps(), old, number, new))


@pytest.mark.parametrize(("old", "number", "new", "found"), PLAIN)
def test_without_rings(old, number, new, found):
    assert found in outcome(broken(plain(), old, number, new))


@pytest.mark.parametrize(("old", "number", "new", "found"), GROUPS)
def test_warp_groups(old, number, new, found):
    assert found in outcome(broken(groups(), old, number, new))


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (2, 3, 0, 1), (0, 2, 1, 3)])
def test_places_in_another_order_are_found(order):
    """The four words of each thread: of rows 0 and 16, for the first and the next 64 columns."""
    program, given, want = warps()
    moved = given["w.index"].view(np.uint32).reshape(-1, 4)[:, order].copy()
    assert WRONG in outcome((program, given | {"w.index": moved.reshape(-1).view(np.uint8)}, want))
