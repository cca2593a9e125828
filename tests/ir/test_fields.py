"""Decodings of words: exact on every code, of few instructions, and none where none is exact."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir import words
from tilec.ir.bits import from_raw
from tilec.ir.codes import element
from tilec.ir.dtype import DType, bf16, f16, f32, i8
from tilec.ir.fields import decodings
from tilec.ir.interleaved import Interleaved

NUMBERS = [f"{sign}{bits}" for bits in range(1, 9) for sign in "iu"]
FLOATS = ["e4m3", "e5m2", "e2m1", "e1m2", "e3m0", "e2m2", "e3m1", "e3m2", "e2m3", "e3m3", "e4m2"]
TABLES = ["ternary", "sm2", "sm4", "sm8", "bipolar1", "bipolar3", "fixed8"]
# Instructions for two elements in f16, and in bf16.
COSTS = {"i1": (2.1, 2.2), "i2": (2.2, 2.3), "i3": (2.5, 2.7), "i4": (2.25, 2.75),
         "i5": (2.9, 3.2), "i6": (2.9, 3.2), "i7": (3.2, 3.4), "i8": (2.5, 3.5),
         "u8": (2.5, 4.5), "e4m3": (1.5, 4.5), "e5m2": (1.5, 4.5), "e2m1": (3.75, 4.25),
         "e3m2": (4.2, 5.5), "e2m3": (4.9, 5.5), "ternary": (2.2, 2.3)}  # fmt: skip


def known(name: str) -> DType:
    found = element(name)
    assert found is not None
    return found


@pytest.mark.parametrize("t", [f16, bf16], ids=str)
@pytest.mark.parametrize("name", [*NUMBERS, *FLOATS, *TABLES])
def test_decodes_what_is_packed(name, t):
    """Random codes, packed as memory has them; every way, for older processors too."""
    codes = known(name)
    order = Interleaved(codes, 64 * Interleaved(codes, 1).fields)
    rng = np.random.default_rng(codes.bits)
    given = from_raw(codes, rng.integers(0, 1 << codes.bits, (8, order.step)).astype(np.uint8))
    units = order.packed(given).reshape(8, order.words, -1, 2).astype(np.uint32)
    pairs = np.moveaxis(units[..., 0] | units[..., 1] << np.uint32(16), 1, -1)
    want = given.reshape(8, order.fields, -1, 2).astype(float)
    ways = decodings(codes, t)
    assert ways[-1].since == 80
    for way in ways:
        with np.errstate(invalid="ignore"):
            found = words.pairs(t, words.evaluate(way.registers, pairs))
        assert np.array_equal(np.moveaxis(found, 2, 1), want, equal_nan=True)


@pytest.mark.parametrize("name", [f"{sign}{bits}" for bits in (1, 2, 4) for sign in "iu"])
def test_decodes_to_bytes(name):
    """Four words in two registers."""
    codes = known(name)
    order = Interleaved(codes, 64 * Interleaved(codes, 1).fields)
    rng = np.random.default_rng(codes.bits)
    given = from_raw(codes, rng.integers(0, 1 << codes.bits, (8, order.step)).astype(np.uint8))
    registers = np.ascontiguousarray(order.packed(given)).view(np.uint32).reshape(8, -1, 2)
    (way,) = decodings(codes, i8)
    found = words.evaluate(way.registers, registers)  # [8, units of four, fields]
    values = np.ascontiguousarray(np.moveaxis(found, 2, 1)).view(np.int8)
    assert np.array_equal(values.reshape(given.shape), given)


@pytest.mark.parametrize("name", ["u4", "u8", "i3"])
def test_takes_a_number_away_for_nothing(name):
    codes = known(name)
    (way,), (plain,) = decodings(codes, f16, 4), decodings(codes, f16)
    assert way.cost == plain.cost
    assert way != plain


@pytest.mark.parametrize("name", COSTS)
def test_takes_few_instructions(name):
    for t, most in zip((f16, bf16), COSTS[name], strict=True):
        assert decodings(known(name), t)[0].cost <= most


@pytest.mark.parametrize("t", [f16, bf16], ids=str)
@pytest.mark.parametrize("name", ["nf4", "fp4", "iq4", "i4"])
def test_looks_terms_up(name, t):
    """The floats that a cast rounds to, and those that it leaves: together more than one has."""
    codes, total = known(name), np.zeros(16)
    for term in range(3):
        (way,) = decodings(codes, t, 0, term)
        assert way.cost <= 6.75
        units = np.arange(16)[:, None] * 0x1111 << 16 | np.arange(15, -1, -1)[:, None] * 0x1111
        with np.errstate(invalid="ignore"):
            found = words.pairs(t, words.evaluate(way.registers, units.astype(np.uint32)))
        assert np.array_equal(found[:, :, 1], np.repeat(found[:, :1, 1], 4, 1))
        assert np.array_equal(found[::-1, :, 0], found[:, :, 1])
        total += found[:, 0, 1]
    want = from_raw(codes, np.arange(16).astype(np.uint8))
    assert np.abs(total - want).max() <= 2.0**-24 * np.abs(want).max()


@pytest.mark.parametrize(("name", "t"), [("nf4", f32), ("nf3", bf16), ("e8m0", bf16), ("i4", f32),
                                         ("e4m3_fnuz", f16)])  # fmt: skip
def test_has_no_way_that_is_not_exact(name, t):
    assert not decodings(known(name), t)
