"""Rounding against ml_dtypes and fractions; every code of every narrow type."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from tilec.ir.dtype import (
    BY_NAME,
    FLOATS,
    INTEGERS,
    bf16,
    boolean,
    e4m3,
    e5m2,
    f16,
    f32,
    f64,
    i8,
    i32,
    i64,
    integer,
    of_numpy,
    promote,
    tf32,
    u8,
)
from tilec.ir.errors import TileError

SMALL = [e4m3, e5m2]
NARROW = [e4m3, e5m2, f16, bf16]


def codes(t):
    """Every value of a type of 8 or 16 bits, in order of its code."""
    with np.errstate(invalid="ignore"):
        return np.arange(1 << t.bits, dtype=f"u{t.bits // 8}").view(t.numpy).astype(np.float64)


def bits(x):
    return np.asarray(x, np.float64).view(np.int64)


def same(a, b):
    """NaN where NaN, and elsewhere the same bits."""
    nan = np.isnan(b)
    np.testing.assert_array_equal(np.isnan(a), nan)
    np.testing.assert_array_equal(bits(a)[~nan], bits(b)[~nan])


@pytest.mark.parametrize("t", NARROW, ids=str)
def test_every_value_is_its_own_rounding(t):
    same(t.round(codes(t)), codes(t))
    same(t.from_storage(t.to_storage(codes(t))), codes(t))


@pytest.mark.parametrize("t", NARROW, ids=str)
def test_range_is_that_of_the_codes(t):
    finite = codes(t)[np.isfinite(codes(t))]
    assert (t.low, t.high) == (finite.min(), finite.max())
    assert t.infinite == bool(np.isinf(codes(t)).any())


@pytest.mark.parametrize("t", NARROW, ids=str)
def test_rounding_is_that_of_ml_dtypes(t):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    near = (rng.standard_normal(200_000) * 10.0 ** rng.integers(-8, 6, 200_000)).astype(np.float32)
    for values in (x, near):
        with np.errstate(all="ignore"):
            expected = values.astype(t.numpy).astype(np.float64)
            same(t.round(values.astype(np.float64)), expected)


@pytest.mark.parametrize("t", NARROW, ids=str)
def test_ties_go_to_even_and_neighbours_do_not(t):
    values = np.unique(codes(t)[np.isfinite(codes(t))])  # one zero
    low, high = values[:-1], values[1:]
    middle = (low + high) / 2
    below, above = np.nextafter(middle, -np.inf), np.nextafter(middle, np.inf)
    np.testing.assert_array_equal(t.round(below), low)
    np.testing.assert_array_equal(t.round(above), high)
    index = np.abs(t.round(middle)).astype(t.numpy).view(f"u{t.bits // 8}")
    assert not np.any(index & 1)


def test_f32_is_rounded_to_even_by_whole_numbers():
    """Of the 52 bits of a fraction 29 go: half a unit is added, less where the last is even."""
    rng = np.random.default_rng(6)
    raw = rng.integers(897 << 52, 1151 << 52, 100_000)  # normal f32s
    raw[::2] &= -1 << 28  # ties among them
    kept = (raw + ((1 << 28) - 1) + (raw >> 29 & 1)) & -1 << 29
    for sign in (1.0, -1.0):
        same(f32.round(sign * raw.view(np.float64)), sign * kept.view(np.float64))
    units = rng.integers(0, 1 << 25, 100_000) / 4  # of the least f32: subnormal ones
    same(f32.round(np.ldexp(units, -149)), np.ldexp(np.rint(units), -149))
    beyond = np.array([f32.high + 2.0**102, f32.high + 2.0**103, np.inf, -np.inf, np.nan, -0.0])
    same(f32.round(beyond), np.array([f32.high, np.inf, np.inf, -np.inf, np.nan, -0.0]))
    same(f32.round(beyond[1:2], saturate=True), np.array([f32.high]))


def test_tf32_is_an_f32_of_19_bits():
    """By whole numbers: half a unit is added to the bits that go, less where the last is even."""
    raw = np.random.default_rng(5).integers(0, 1 << 32, 100_000)
    raw[:3] = [0x3F801000, 0x3F803000, 0x7F7FF000]  # two ties, and one that overflows
    raw = raw[raw & 0x7F800000 != 0x7F800000]
    kept = raw + 0xFFF + (raw >> 13 & 1) >> 13 << 13
    expected = kept.astype(np.uint32).view(np.float32).astype(np.float64)
    same(tf32.round(raw.astype(np.uint32).view(np.float32).astype(np.float64)), expected)
    same(tf32.round(np.array([np.inf, -np.inf, np.nan])), np.array([np.inf, -np.inf, np.nan]))
    words = tf32.to_storage(tf32.round(np.array([1 / 3, -0.1]))).view(np.uint32)
    assert words.tolist() == [0x3EAAA000, 0xBDCCC000]
    assert tf32.high == 2.0**128 - 2.0**117
    assert (tf32.bits, tf32.numpy) == (32, np.dtype(np.float32))


@pytest.mark.parametrize("t", FLOATS, ids=str)
def test_rounding_is_monotone_and_idempotent(t):
    rng = np.random.default_rng(1)
    x = np.sort(rng.standard_normal(5000) * 10.0 ** rng.integers(-6, 3, 5000))
    once = t.round(x, saturate=True)
    assert np.all(np.diff(once) >= 0)
    same(t.round(once), once)


@pytest.mark.parametrize("t", NARROW, ids=str)
def test_toward_zero_is_the_greatest_value_not_beyond(t):
    values = np.unique(codes(t)[np.isfinite(codes(t))])
    x = np.random.default_rng(2).uniform(0, min(t.high, 1e4), 3000)
    expected = values[np.searchsorted(values, x, side="right") - 1]
    same(t.round(x, "toward_zero"), expected)
    same(t.round(-x, "toward_zero"), -expected)


@pytest.mark.parametrize("t", NARROW, ids=str)
def test_overflow_saturates_where_asked(t):
    x = np.array([t.high * 4, -t.high * 4, np.inf, np.nan])
    same(t.round(x, saturate=True), np.array([t.high, t.low, t.high, np.nan]))
    over = np.inf if t.infinite else np.nan
    same(t.round(x), np.array([over, -over, over, np.nan]))


@pytest.mark.parametrize("t", [e4m3, bf16, i8], ids=str)
def test_stochastic_rounding_takes_the_fraction_as_its_chance(t):
    unit = 2.0**-(t.mantissa) if t.is_float else 1.0
    x = np.full(4000, 1.0 + 0.25 * unit)
    u = (np.arange(4000) + 0.5) / 4000
    found = t.round(x, "stochastic", random=u)
    assert set(found.tolist()) == {1.0, 1.0 + unit}
    assert np.count_nonzero(found > 1) == 1000


def test_stochastic_rounding_keeps_the_sign_of_zero():
    x = np.array([-0.0, 0.0, -1e-30])
    same(bf16.round(x, "stochastic", random=np.array([0.5, 0.5, 0.0]))[:2], x[:2])
    assert np.signbit(e4m3.round(x, "stochastic", random=np.full(3, 0.5))[2])


@pytest.mark.parametrize("t", INTEGERS, ids=str)
def test_integers_wrap_modulo_their_width(t):
    rng = np.random.default_rng(3)
    x = rng.integers(-(2**62), 2**62, 2000)
    expected = []
    for value in x.tolist():
        low = value % (1 << t.bits)
        expected.append(low - (1 << t.bits) if t.kind == "int" and low > t.high else low)
    assert t.round(x).tolist() == expected
    assert t.round(x, saturate=True).tolist() == [min(max(v, t.low), t.high) for v in x.tolist()]


@pytest.mark.parametrize("t", [t for t in INTEGERS if t.bits >= 8], ids=str)
def test_integers_agree_with_numpy(t):
    x = np.random.default_rng(4).integers(-(2**62), 2**62, 2000)
    np.testing.assert_array_equal(t.round(x), x.astype(t.numpy).astype(np.int64))
    assert (t.low, t.high) == (np.iinfo(t.numpy).min, np.iinfo(t.numpy).max)


def test_floats_become_integers_by_rounding_then_wrapping():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 127.5, 300.0, np.nan, 1e300])
    assert i8.round(x).tolist() == [0, 2, 2, 0, -2, -128, 44, 0, 0]
    assert i8.round(x, "toward_zero").tolist() == [0, 1, 2, 0, -1, 127, 44, 0, 0]
    assert u8.round(x, saturate=True).tolist() == [0, 2, 2, 0, 0, 128, 255, 0, 255]


def test_integers_saturate_at_the_ends_of_64_bits():
    x = np.array([1e30, np.inf, 2.0**63, -(2.0**63), -1e30, -np.inf, np.nan, 2.0**63 - 1024])
    most, least = (1 << 63) - 1, -(1 << 63)
    expected = [most, most, most, least, least, least, 0, (1 << 63) - 1024]
    assert i64.round(x, saturate=True).tolist() == expected


@pytest.mark.parametrize("t", [f32, f16, bf16, tf32, e4m3], ids=str)
def test_whole_numbers_become_floats_by_one_rounding(t):
    """Also those that have more bits than a float64: beside midpoints, in every mode."""
    rng = np.random.default_rng(6)
    top = 1 << 17 if t.high > 1e6 else int(t.high) // 4
    digits = t.mantissa + 2
    x = np.concatenate([rng.integers(-top, top, 500), (1 << digits) + np.arange(-100, 300)])
    if t.high > 1e20:
        far = rng.integers(1 << digits - 1, 1 << digits, 500) << 61 - digits
        x = np.concatenate([x, far - 1, far, far + 1, -far - 1, -far + 1])
    near, zero = t.round(x), t.round(x, "toward_zero")
    for value, n, z in zip(x.tolist(), near.tolist(), zero.tolist(), strict=True):
        low, high = sorted((z, np.copysign(z + _step(t, z), value or 1)), key=abs)
        assert abs(Fraction(low)) <= abs(value) < abs(Fraction(high)), value
        assert abs(Fraction(n) - value) == min(abs(Fraction(e) - value) for e in (low, high)), value


def _step(t, z):
    """From a magnitude to the next of the type, with the sign of z."""
    _, e = np.frexp(z)
    step = np.ldexp(1.0, max(int(e) - 1, 2 - (1 << t.exponent - 1)) - t.mantissa)
    return np.copysign(step, z)


def test_names_and_numpy_types():
    assert of_numpy(np.dtype(ml_dtypes.bfloat16)) == bf16
    own = [t for t in (*FLOATS, boolean) if t != tf32]
    assert [of_numpy(t.numpy) for t in own] == own
    assert of_numpy(tf32.numpy) == f32
    assert integer(5, signed=False) is BY_NAME["u5"]
    with pytest.raises(TileError, match="9 bits"):
        integer(9, signed=True)
    with pytest.raises(TileError, match="complex64"):
        of_numpy(np.dtype("complex64"))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (f16, bf16, f32),
        (f16, f32, f32),
        (f64, bf16, f64),
        (f32, tf32, f32),
        (f16, tf32, tf32),
        (i32, tf32, tf32),
        (i32, f16, f16),
        (boolean, u8, u8),
        (u8, i8, BY_NAME["i16"]),
        (u8, i32, i32),
        (BY_NAME["i3"], BY_NAME["i5"], BY_NAME["i5"]),
    ],
    ids=str,
)
def test_promotion(a, b, expected):
    assert promote(a, b) == promote(b, a) == expected
