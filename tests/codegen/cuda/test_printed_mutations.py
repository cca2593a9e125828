"""Printed kernels broken on purpose: emulation finds each, by a check or by a wrong result."""

from __future__ import annotations

from functools import cache

import pytest
from mutations import WRONG, Case, broken, dense, outcome, quantised

import tilec as tc
from tilec.cuda import Schedule

DIMS = {"M": 64, "N": 128, "K": 512}
TILES = Schedule(tiles={"m": 64, "n": 64, "k": 64})


@cache
def gemm() -> Case:
    return dense(tc.bf16, DIMS, TILES)


@cache
def w4a16() -> Case:
    return quantised(tc.f16, "uint4", DIMS, TILES)


# What is replaced (the n-th time that it occurs), by what, and what must find it.
GEMM = [
    ("copy_async_wait<1>();", 0, "copy_async_wait<2>();", "in-flight"),
    ("copy_async_wait<1>();\n    barrier();", 0, "copy_async_wait<1>();", "race"),
    ("copy_async_wait<1>();", 0, "", "in-flight"),
    ("copy_async_commit();", 2, "", "in-flight"),
    ("start + 128 + column < 512", 0, "true", "out-of-bounds"),
    ("mod_s32(scalar, 3)", 0, "mod_s32(scalar, 2)", WRONG),
    ("add_s32(scalar, 2)", 0, "add_s32(scalar, 1)", "in-flight"),
    ("i * 128 + thread", 0, "i * 64 + thread", "race"),
    ("piece / 8, column = piece % 8 * 8", 0, "piece / 8, column = piece % 4 * 8", "race"),
    ("(row) * 144", 0, "(row) * 128", WRONG),
    ("(row) * 144", 1, "(row) * 160", "uninitialised"),
    ("mma<16, bf16, bf16>", 0, "mma<16, f16, f16>", WRONG),
    ("(thread % 32 / 8) % 2", 0, "(thread % 32 / 8) / 2", WRONG),
    ("thread % 8)", 1, "thread % 4)", WRONG),
    ("ldmatrix(", 0, "ldmatrix_trans(", WRONG),
    ("= carried;\n", 0, ";\n", WRONG),
    ("* 8) * 128 +", 0, "* 8) * 127 +", "misaligned"),
    ("* 8) * 128 +", 0, "* 8) * 129 +", "out-of-bounds"),
    ("(m * 4 + k) * 4", 0, "(m * 4 + k) * 4 ^ 4", WRONG),
    ("(k * 4 + n) * 2", 0, "(n * 4 + k) * 2", WRONG),
]
W4A16 = [
    ("copy_async_wait<1>();", 0, "copy_async_wait<2>();", "in-flight"),
    ("barrier();", 0, "", "race"),
    ("0x64086408u", 0, "0x64076407u", WRONG),
    ("rotated(from[0], 0x8u)", 0, "rotated(from[0], 0x4u)", WRONG),
    ("own * 16", 0, "own * 32", WRONG),
    ("own * 16 + 1024", 0, "own * 16 + 512", WRONG),
    ("own2 * 16", 0, "own2 * 8", WRONG),
    ("/ 64 * 4 + u32(scalar5)", 0, "/ 64 * 4", WRONG),
    ("thread / 4 % 8 * 4", 0, "thread / 8 % 8 * 4", WRONG),
    ("start + 128 < 512", 0, "true", "out-of-bounds"),
    ("/ 64 * 8", 0, "/ 64 * 4", WRONG),
    ("value[i / 4 % 4 * 2", 0, "value[i / 8 % 4 * 2", WRONG),
]


def test_they_are_right_as_they_are():
    assert outcome(gemm()) == set()
    assert outcome(w4a16()) == set()


@pytest.mark.parametrize(("old", "number", "new", "found"), GEMM)
def test_gemm(old, number, new, found):
    assert found in outcome(broken(gemm(), old, number, new))


@pytest.mark.parametrize(("old", "number", "new", "found"), W4A16)
def test_w4a16(old, number, new, found):
    assert found in outcome(broken(w4a16(), old, number, new))
