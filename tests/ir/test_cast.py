"""Casts: every mode for every source, and rounding by chance is without bias."""

import numpy as np
import pytest

from tilec.ir.codes import CODES
from tilec.ir.core import Value
from tilec.ir.dtype import (
    BY_NAME,
    Rounding,
    bf16,
    boolean,
    e4m3,
    e5m2,
    f16,
    f32,
    f64,
    i32,
    i64,
    tf32,
    u32,
)
from tilec.ir.errors import TileError
from tilec.ir.ops.cast import Cast
from tilec.ir.ops.shape import RandomBits
from tilec.ir.types import Tile

DRAWS = 40_000


def cast(x, source, to, mode: Rounding = "nearest", saturate=False, random=None):
    """What the op makes of an array."""
    given = None if random is None else Value(Tile(x.shape, u32))
    op = Cast(Value(Tile(x.shape, source)), to, mode, saturate, given)
    return op.evaluate(x, random)


def philox(seed, n):
    key = Value(Tile((), u32)), Value(Tile((n,), u32))
    return RandomBits(*key).evaluate(np.asarray(seed), np.arange(n))


def between(t):
    """Neighbouring values around a few places, as (low, high)."""
    if t.table is not None:
        finite = t.table.values[np.isfinite(t.table.values)]
        own = np.unique(finite + 0.0)
    elif t.is_integer:
        own = np.arange(t.low, t.high + 1) if t.bits < 9 else np.arange(-5, 6)
        own = own.astype(np.float64)
    else:
        _, e = np.frexp(low := np.array([0.0, 1.0, 3.5]))
        step = np.maximum(np.where(low, e - 1, -999), 2 - (1 << t.exponent - 1)) - t.mantissa
        return list(zip(low, low + np.exp2(step), strict=True))
    at = np.unique(np.linspace(0, len(own) - 2, 4).astype(int))
    return [(own[i], own[i + 1]) for i in at]


EVERY = [tf32, f16, bf16, e4m3, e5m2, *(BY_NAME[n] for n in ("i1", "u3", "i8", "u8", "i32", "i64")),
         *CODES.values()]  # fmt: skip


@pytest.mark.parametrize("t", EVERY, ids=str)
def test_rounding_by_chance_has_no_bias(t):
    """Both neighbours come as often as the way to them says, within five standard deviations, and
    the mean is the number."""
    bits = philox(11, DRAWS)
    for low, high in between(t):
        for way in (0.02, 0.3125, 0.5, 0.875):
            x = f32.round(np.array(low + way * (high - low)))
            y = cast(np.full(DRAWS, x), f32, t, "stochastic", random=bits).astype(np.float64)
            assert set(y.tolist()) == {float(low), float(high)}, (t, x)
            p = float((x - low) / (high - low))
            often = np.count_nonzero(y == high) / DRAWS
            deviation = (p * (1 - p) / DRAWS) ** 0.5
            assert abs(often - p) < 5 * deviation, (low, high, way)
            assert abs(y.mean() - x) < 5 * deviation * (high - low)


@pytest.mark.parametrize("t", EVERY, ids=str)
def test_chance_is_the_fraction_that_the_bits_fill_up(t):
    """Up from the word on with which the fraction makes one; exact values stay."""
    first = 3 << 29  # 1 - 0.625 in units of 2**-32
    words = np.array([0, first - 64, first + 64, (1 << 32) - 1])
    for low, high in between(t):
        x = np.full(4, low + 0.625 * (high - low))
        assert cast(x, f64, t, "stochastic", random=words).tolist() == [low, low, high, high]
        for kept in (low, high):
            y = cast(np.full(4, kept), f64, t, "stochastic", random=words)
            assert y.tolist() == [kept] * 4


@pytest.mark.parametrize("source", [i32, i64, CODES["iq4"]], ids=str)
def test_every_source_is_rounded_as_asked(source):
    x = np.array([113.0, -127.0, 25.0]).astype(source.carrier)
    assert cast(x, source, e4m3).tolist() == [112.0, -128.0, 24.0]
    assert cast(x, source, e4m3, "toward_zero").tolist() == [112.0, -120.0, 24.0]
    up = cast(x, source, e4m3, "stochastic", random=np.full(3, (1 << 32) - 1))
    assert up.tolist() == [120.0, -120.0, 26.0]


def test_what_has_no_fraction_is_not_rounded():
    x = np.array([-3, 0, 200])
    words = np.full(3, (1 << 32) - 1)
    assert cast(x, i32, BY_NAME["i8"], "stochastic", random=words).tolist() == [-3, 0, -56]
    assert cast(x, i32, boolean, "stochastic", random=words).tolist() == [True, False, True]
    assert cast(x.astype(float), f32, boolean, "toward_zero").tolist() == [True, False, True]


def test_random_bits_belong_to_stochastic_rounding():
    a, bits = Value(Tile((3,), f32)), Value(Tile((3,), u32))
    with pytest.raises(TileError, match="no rounding is called 'up'"):
        Cast(a, bf16, "up")  # pyright: ignore[reportArgumentType]
    with pytest.raises(TileError, match="stochastic rounding, and no other, takes random bits"):
        Cast(a, bf16, "stochastic")
    with pytest.raises(TileError, match="stochastic rounding, and no other, takes random bits"):
        Cast(a, bf16, "nearest", False, bits)
    with pytest.raises(TileError, match="expected random bits u32"):
        Cast(a, bf16, "stochastic", False, Value(Tile((3,), i32)))
