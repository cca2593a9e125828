"""Element types that are tables: against ml_dtypes and the stated formulas, on every code."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

import tilec as tc
from tilec.ir.codes import CODES, element
from tilec.ir.dtype import BY_NAME

ORACLES = {
    "e2m1": "float4_e2m1fn",
    "e3m2": "float6_e3m2fn",
    "e2m3": "float6_e2m3fn",
    "e8m0": "float8_e8m0fnu",
    "e4m3_fnuz": "float8_e4m3fnuz",
    "e5m2_fnuz": "float8_e5m2fnuz",
    "e4m3_b11fnuz": "float8_e4m3b11fnuz",
    "e4m3_ieee": "float8_e4m3",
    "e3m4_ieee": "float8_e3m4",
}
FLOATS = [n for n, t in CODES.items() if t.mantissa or (t.exponent and n != "e8m0")]


def same(a, b):
    """NaN where NaN, and elsewhere equal, signs of zeros too."""
    nan = np.isnan(b)
    np.testing.assert_array_equal(np.isnan(a), nan)
    np.testing.assert_array_equal(a[~nan], b[~nan])
    np.testing.assert_array_equal(np.signbit(a[~nan]), np.signbit(b[~nan]))


@pytest.mark.parametrize("name", ORACLES)
def test_every_code_means_what_ml_dtypes_says(name):
    t = CODES[name]
    codes = np.arange(1 << t.bits, dtype=np.uint8)
    same(t.from_storage(codes), codes.view(getattr(ml_dtypes, ORACLES[name])).astype(np.float64))


@pytest.mark.parametrize("name", ORACLES)
def test_rounding_is_that_of_ml_dtypes(name):
    """But NaN without a code is 0 here, and e8m0 rounds ties to even and no denormals."""
    t, rng = CODES[name], np.random.default_rng(0)
    x = rng.integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)
    near = rng.standard_normal(100_000) * 10.0 ** rng.integers(-4, 4, 100_000)
    values = t.from_storage(np.arange(1 << t.bits))
    middles = (values[:-1] + values[1:]) / 2
    x = np.concatenate([x, near.astype(np.float32), values.astype(np.float32),
                        middles.astype(np.float32)])  # fmt: skip
    if name == "e8m0":
        x = np.abs(x)
        mantissa, _ = np.frexp(x)
        x = x[(x >= 2.0**-126) & np.isfinite(x) & (mantissa != 0.75)]
    elif not np.isnan(values).any():
        x = x[~np.isnan(x)]
    with np.errstate(all="ignore"):
        same(
            t.round(x.astype(np.float64)), x.astype(getattr(ml_dtypes, ORACLES[name])).astype(float)
        )


@pytest.mark.parametrize("name", FLOATS)
def test_floats_are_sign_exponent_and_mantissa(name):
    """The formula in fractions, on every code that is no infinity or NaN."""
    t = CODES[name]
    biases = {"e4m3_fnuz": 8, "e5m2_fnuz": 16, "e4m3_b11fnuz": 11}
    bias: int = biases.get(name) or 2 ** (t.exponent - 1) - 1
    finite = 0
    for code, value in enumerate(t.from_storage(np.arange(1 << t.bits))):
        if not math.isfinite(value):
            continue
        finite += 1
        exponent = code >> t.mantissa & (1 << t.exponent) - 1
        mantissa = Fraction(code & (1 << t.mantissa) - 1, 1 << t.mantissa)
        whole = mantissa + (exponent > 0)
        scale = Fraction(2) ** (max(exponent, 1) - bias)
        assert abs(Fraction(value)) == whole * scale
        assert math.copysign(1, value) == (-1 if code >> t.bits - 1 else 1)
    lost = {"ieee": 2 << t.mantissa, "fnuz": 1, "b11fnuz": 1}
    assert finite == (1 << t.bits) - lost.get(name.rpartition("_")[2], 0)


@pytest.mark.parametrize("name", sorted(CODES))
def test_codes_and_values_are_inverse(name):
    t = CODES[name]
    codes = np.arange(1 << t.bits)
    values = t.from_storage(codes)
    np.testing.assert_array_equal(t.to_storage(values), codes)
    finite = values[np.isfinite(values)]
    same(t.round(finite), finite)
    assert np.array_equal(np.float32(finite), finite)


@pytest.mark.parametrize("name", sorted(CODES))
def test_every_mode_rounds_to_a_neighbour(name):
    t, rng = CODES[name], np.random.default_rng(1)
    values = t.from_storage(np.arange(1 << t.bits))
    points = np.unique(values[np.isfinite(values)])
    x = rng.uniform(points[0], points[-1], 2000)
    below = points[np.searchsorted(points, x, "right") - 1]
    above = points[np.minimum(np.searchsorted(points, x, "left"), len(points) - 1)]
    near = t.round(x)
    assert (np.abs(near - x) == np.minimum(x - below, above - x)).all()
    zero = t.round(x, "toward_zero")
    around = (below < 0) & (above > 0)  # a table without 0
    assert np.array_equal(zero, np.where(around, near, np.where(x < 0, above, below)))
    u = rng.random(2000)
    chance = (x - below) / np.where(above > below, above - below, 1)
    assert np.array_equal(
        t.round(x, "stochastic", random=u), np.where(chance + u >= 1, above, below)
    )
    beyond = np.array([4 * t.high, -4 * t.high])
    assert t.round(beyond, "toward_zero")[0] == t.high
    kept = t.round(beyond, saturate=True)
    assert kept[0] == t.high
    assert kept[1] == t.low or np.isnan(kept[1])  # a scale has no negative values


def test_stated_tables():
    assert CODES["sm4"].from_storage(np.arange(16)).tolist() == [*range(8), *(-i for i in range(8))]
    assert CODES["bipolar3"].from_storage(np.arange(8)).tolist() == [-7, -5, -3, -1, 1, 3, 5, 7]
    for bits in range(1, 9):  # bipolar digits: each bit is +1 or -1, with its weight
        t = CODES[f"bipolar{bits}"]
        digits = (np.arange(1 << bits)[:, None] >> np.arange(bits) & 1) * 2 - 1
        assert np.array_equal(t.from_storage(np.arange(1 << bits)), digits @ (1 << np.arange(bits)))
    assert CODES["ternary"].from_storage(np.arange(3)).tolist() == [-1, 0, 1]
    assert CODES["fixed8"].from_storage(np.array([1, 255, 128])).tolist() == [1 / 64, -1 / 64, -2.0]


def test_normal_floats_are_quantiles():
    """The published table, which was made in f32, is the formula's within its rounding."""
    from tilec.ir.codes import normal_float

    published = CODES["nf4"].from_storage(np.arange(16))
    assert np.abs(published - normal_float(4).values).max() < 2e-7
    assert published[7] == 0
    assert (published[0], published[15]) == (-1, 1)
    assert (np.diff(CODES["nf3"].from_storage(np.arange(8))) > 0).all()


def test_the_fp4_of_bitsandbytes():
    """Sign, then 0, 1/192 and the six values k/6 and k/4 in the order of its decision tree."""
    values = CODES["fp4"].from_storage(np.arange(16))
    want = np.array([0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4], np.float32)
    np.testing.assert_array_equal(values[:8], want)
    np.testing.assert_array_equal(values[8:], -want)
    assert np.signbit(values[8])


def test_a_nan_keeps_its_code():
    t = CODES["e4m3_ieee"]
    nans = np.flatnonzero(np.isnan(t.from_storage(np.arange(256))))
    assert len(nans) == 14
    np.testing.assert_array_equal(t.to_storage(t.from_storage(nans)), nans)
    assert t.to_storage(np.array([np.nan]))[0] in nans  # a NaN from elsewhere


def test_codes_are_not_computed_with():
    @tc.kernel
    def doubled(x: tc.Tensor["M"], y: tc.Tensor["M"]):
        for m in tc.tiles("M"):
            y[m] = x[m] * x[m]

    with pytest.raises(tc.TileError, match="mul: expected numbers, not codes of e2m1") as e:
        doubled.ir(x=CODES["e2m1"], y=tc.f32)
    assert "cast them to f32 first" in str(e.value)


def test_names():
    assert element("e4m3") is BY_NAME["e4m3"]
    assert element("nf4") is CODES["nf4"]
    assert element("nf5") is None
