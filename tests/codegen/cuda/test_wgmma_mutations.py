"""Printed kernels of warp groups broken on purpose: emulation finds each, by a check or by a wrong
result."""

from __future__ import annotations

from functools import cache

import pytest
from mutations import WRONG, Case, broken, dense, outcome, quantised

import tilec as tc
from tilec.cuda import Schedule


@cache
def gemm(overlap: int) -> Case:
    """128 x 64 x 128 by two groups: rows of two panels."""
    tiles = {"m": 128, "n": 64, "k": 128}
    schedule = Schedule(256, 4, instruction="wgmma", overlap=overlap, tiles=tiles)
    return dense(tc.bf16, {"M": 128, "N": 128, "K": 512}, schedule)


@cache
def w4(t: str) -> Case:
    """Weights as A in registers."""
    tiles = {"m": 16, "n": 128, "k": 128}
    schedule = Schedule(256, instruction="wgmma", swap="small", tiles=tiles)
    return quantised(getattr(tc, t), "int4", {"M": 16, "N": 128, "K": 512}, schedule)


# What is replaced (the n-th time that it occurs), by what, and what must find it.
GEMM = [
    ("Swizzle::b128", 0, "Swizzle::b64", WRONG),
    ("Swizzle::b128", 1, "Swizzle::b32", WRONG),
    ("Swizzle::b128", 1, "Swizzle::none", WRONG),
    ("^ (row) % 8 * 16", 4, "^ (row) % 4 * 16", WRONG),
    ("16, 1024,", 0, "16, 512,", WRONG),
    ("(group) * 8192", 0, "(group) * 4096", WRONG),
    ("k * 32 / 128 * 16384", 0, "k * 32 / 128 * 8192", WRONG),
    ("k * 32 % 128", 0, "k * 16 % 128", WRONG),
    ("wgmma_fence();", 0, "", "wgmma-fence"),
    ("fence_async();", 0, "", "proxy-fence"),
    ("wgmma_commit();", 0, "", WRONG),
    ("wgmma_wait<0>();", 0, "", WRONG),
    ("wgmma_wait<0>();", 0, "wgmma_wait<1>();", WRONG),
    ("copy_async_wait<2>();", 0, "copy_async_wait<3>();", "in-flight"),
    ("barrier();", 0, "", "race"),
    ("/ 16, true);", 0, "/ 16, false);", WRONG),
    ("wgmma<64, bf16, bf16", 1, "wgmma<64, f16, f16", WRONG),
]
OVERLAPPED = [
    ("wgmma_wait<1>();", 0, "wgmma_wait<2>();", "overwritten"),
    ("wgmma_wait<1>();", 0, "", "overwritten"),
    ("wgmma_wait<0>();", 0, "", WRONG),
    ("add_s32(scalar, 2)", 0, "add_s32(scalar, 3)", "overwritten"),
    ("copy_async_wait<1>();", 0, "copy_async_wait<2>();", "in-flight"),
    ("wgmma_commit();", 0, "", "overwritten"),
    ("fence_async();", 0, "", "proxy-fence"),
]
W4 = [
    ("wgmma_fence();", 0, "", "wgmma-fence"),
    ("wgmma_wait<0>();", 0, "", WRONG),
    ("k > 0", 0, "true", WRONG),
    ("(m * 8 + k) * 1", 0, "(m * 8 + k ^ 1) * 1", WRONG),
    ("(m * 8 + k) * 4", 1, "(m * 8 + (k ^ 1)) * 4", WRONG),
    ("0x64086408u", 0, "0x64076408u", WRONG),
    ("barrier();", 0, "", "race"),
    ("fence_async();", 0, "", "proxy-fence"),
    ("wgmma_commit();", 0, "wgmma_wait<0>();", WRONG),
]


def test_they_are_right_as_they_are() -> None:
    for case in (gemm(0), gemm(1), w4("f16"), w4("i8"), w4("e4m3")):
        assert outcome(case) == set()


@pytest.mark.parametrize(("old", "number", "new", "found"), GEMM)
def test_gemm(old: str, number: int, new: str, found: str) -> None:
    assert found in outcome(broken(gemm(0), old, number, new))


@pytest.mark.parametrize(("old", "number", "new", "found"), OVERLAPPED)
def test_overlapped(old: str, number: int, new: str, found: str) -> None:
    assert found in outcome(broken(gemm(1), old, number, new))


@pytest.mark.parametrize(("old", "number", "new", "found"), W4)
def test_w4(old: str, number: int, new: str, found: str) -> None:
    assert found in outcome(broken(w4("f16"), old, number, new))


def test_codes_of_bytes() -> None:
    """A byte of the table by which codes become fp8, and the power of two that i8 are too large
    by."""
    assert WRONG in outcome(broken(w4("e4m3"), "0xcaccced0u", 0, "0xcacccecfu"))
    assert WRONG in outcome(broken(w4("i8"), "0.0625f", 0, "0.03125f"))
