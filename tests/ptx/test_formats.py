"""Floating-point formats: every code of 8 bits and less, and rounding in every mode."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from ptx.running import floats

from tilec.ir.errors import TileError
from tilec.ptx import arithmetic, formats
from tilec.ptx.formats import decode, encode

SMALL = {
    formats.E4M3: ml_dtypes.float8_e4m3fn,
    formats.E5M2: ml_dtypes.float8_e5m2,
    formats.E3M2: ml_dtypes.float6_e3m2fn,
    formats.E2M3: ml_dtypes.float6_e2m3fn,
    formats.E2M1: ml_dtypes.float4_e2m1fn,
    formats.UE8M0: ml_dtypes.float8_e8m0fnu,
}
WIDE = {
    formats.F16: (np.float16, np.uint16),
    formats.BF16: (ml_dtypes.bfloat16, np.uint16),
    formats.F32: (np.float32, np.uint32),
}


@pytest.mark.parametrize("f", SMALL, ids=lambda f: f.name)
def test_every_code_has_its_value(f):
    codes = np.arange(1 << f.bits, dtype=np.uint8)
    np.testing.assert_array_equal(decode(codes, f), codes.view(SMALL[f]).astype(np.float32))


@pytest.mark.parametrize("f", SMALL, ids=lambda f: f.name)
def test_every_value_has_its_code(f):
    codes = np.arange(1 << f.bits, dtype=np.uint8)
    values = decode(codes, f)
    keep = np.isfinite(values)
    for mode in ("rz", "rp") if f is formats.UE8M0 else ("rn", "rz", "rm", "rp"):
        np.testing.assert_array_equal(encode(values, f, mode, True)[keep], codes[keep])


@pytest.mark.parametrize("f", [k for k in SMALL if k.sign], ids=lambda f: f.name)
def test_rounding_to_the_nearest_agrees_with_ml_dtypes(f):
    even = np.linspace(-f.high * 1.1, f.high * 1.1, 4001)
    with np.errstate(invalid="ignore"):
        x = np.concatenate([floats("float32", 4000), even]).astype(np.float32)
    want = np.clip(x, -f.high, f.high).astype(SMALL[f]).astype(np.float32)
    got = decode(encode(x, f, "rn", True), f)
    top = f.high if f.specials == "none" else np.nan  # what a NaN becomes
    want = np.where(np.isnan(x), top, want)
    np.testing.assert_array_equal(got, want)
    assert (np.signbit(got) == np.signbit(want))[~np.isnan(x)].all()


@pytest.mark.parametrize("f", WIDE, ids=lambda f: f.name)
def test_rounding_of_wide_formats(f):
    kind, bits = WIDE[f]
    x = floats("float64", 6000).astype(np.float64)
    x = np.where(np.abs(x) > 1e39, 1e39, x)
    with np.errstate(all="ignore"):
        want = x.astype(np.float32).astype(kind) if f is formats.BF16 else x.astype(kind)
        got = encode(x, f)
        single = x.astype(np.float32) == x  # ml_dtypes goes by float32
    nan = np.isnan(x)
    sure = single if f is formats.BF16 else ~nan
    np.testing.assert_array_equal(got[sure], want.view(bits)[sure])
    assert (got[nan] == f.nan).all()


def neighbours(value: Fraction, f: formats.Format) -> tuple[Fraction, Fraction]:
    """The greatest value of a format not above a number, and the least not below."""
    size = abs(value)
    e = max(f.least, size.numerator.bit_length() - size.denominator.bit_length() - 1)
    while size >= Fraction(2) ** (e + 1):
        e += 1
    unit = Fraction(2) ** (e - f.mantissa)
    low = (value / unit).__floor__() * unit
    return low, low if low == value else low + unit


@pytest.mark.parametrize("f", [*WIDE, formats.TF32, formats.E4M3, formats.E2M1],
                         ids=lambda f: f.name)  # fmt: skip
@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp", "rna"])
def test_each_mode_picks_the_right_neighbour(f, mode):
    rng = np.random.default_rng(1)
    x = rng.standard_normal(150) * 2.0 ** rng.integers(f.least - 3, f.least + 9, 150)
    x = np.concatenate([x, np.ldexp(rng.integers(-99, 99, 100) + 0.5, f.least - f.mantissa)])
    x = x[np.abs(x) < f.high]
    got = decode(encode(x, f, mode), f).astype(np.float64)
    for v, g in zip(x.tolist(), got.tolist(), strict=True):
        low, high = neighbours(Fraction(v), f)
        toward_zero = low if v > 0 else high
        nearest = low if Fraction(v) - low < high - Fraction(v) else high
        tie = low != high and Fraction(v) - low == high - Fraction(v)
        if tie:
            unit = high - low
            even = low if (low / unit) % 2 == 0 else high
            nearest = even if mode == "rn" else (high if v > 0 else low)
        want = {"rz": toward_zero, "rm": low, "rp": high}.get(mode, nearest)
        assert Fraction(g) == want, (v, g)


def test_bf16_of_float64_is_rounded_once():
    """Just beside the middle of two bf16, closer than float32 can tell."""
    middle = 1 + 2.0**-8
    x = np.array([middle + 2.0**-40, middle, middle - 2.0**-40, -middle - 2.0**-40, 3 * middle])
    got = decode(encode(x, formats.BF16), formats.BF16)
    assert got.tolist() == [1 + 2.0**-7, 1, 1, -1 - 2.0**-7, 3.015625]


def test_overflow_depends_on_the_direction():
    x = np.array([1e6, -1e6, np.inf, -np.inf])
    for mode, want in {
        "rn": [np.inf, -np.inf, np.inf, -np.inf],
        "rz": [65504, -65504, np.inf, -np.inf],
        "rm": [65504, -np.inf, np.inf, -np.inf],
        "rp": [np.inf, -65504, np.inf, -np.inf],
    }.items():
        with np.errstate(over="ignore"):
            got = decode(encode(x, formats.F16, mode), formats.F16)
        np.testing.assert_array_equal(got, np.array(want, np.float32))
    got = decode(encode(x, formats.F16, "rn", True), formats.F16)
    np.testing.assert_array_equal(got, np.array([65504, -65504, 65504, -65504], np.float32))


def test_an_unknown_mode_is_refused():
    with pytest.raises(TileError, match="no rounding is called 'up'"):
        encode(np.ones(1), formats.F16, "up")


def exact(got: float, value: Fraction, f: formats.Format, mode: str) -> bool:
    """Whether a number is the rounding of an exact value (finite, not a tie)."""
    low, high = neighbours(value, f)
    nearest = low if value - low < high - value else high
    if low != high and value - low == high - value:
        nearest = low if (low / (high - low)) % 2 == 0 else high
    want = {"rz": low if value > 0 else high, "rm": low, "rp": high, "rn": nearest}[mode]
    return Fraction(got) == want


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("f", [formats.F32, formats.F16, formats.BF16], ids=lambda f: f.name)
def test_arithmetic_rounds_the_exact_result_once(f, mode):
    """Close to halfway and with cancellation, where rounding twice goes wrong."""
    rng = np.random.default_rng(2)

    def some() -> np.ndarray:
        x = rng.standard_normal(150) * 2.0 ** rng.integers(-7, 7, 150)
        return decode(encode(x, f), f)

    a, b = some(), some()
    c = np.where(rng.random(150) < 0.5, some(), -decode(encode(a * b, f), f))
    for name, codes, value in (
        ("add", arithmetic.add(a, b, f, mode), lambda x, y, _: x + y),
        ("multiply", arithmetic.multiply(a, b, f, mode), lambda x, y, _: x * y),
        ("fused", arithmetic.fused(a, b, c, f, mode), lambda x, y, z: x * y + z),
        ("divide", arithmetic.divide(a, b, f, mode), lambda x, y, _: x / y),
    ):
        got = decode(codes, f)
        for x, y, z, g in zip(a, b, c, got, strict=True):
            want = value(Fraction(float(x)), Fraction(float(y)), Fraction(float(z)))
            assert exact(float(g), want, f, mode), (name, x, y, z, g)


def test_a_fused_result_that_rounding_twice_gets_wrong():
    """(1 + 2**-12) squared lies in the middle of two float32, plus 2**-60 above it."""
    a = np.float32(1 + 2.0**-12)
    c = np.float32(2.0**-60)
    value = Fraction(float(a)) ** 2 + Fraction(float(c))
    one = np.array([a])
    twice = np.float32(float(a) * float(a) + float(c))
    got = decode(arithmetic.fused(one, one, np.array([c]), formats.F32, "rn"), formats.F32)[0]
    assert exact(float(got), value, formats.F32, "rn")
    for sign in (-1, 1):
        for part in (-c, c):
            a1, a2, a3 = np.array([sign * a]), one, np.array([sign * part])
            near = decode(arithmetic.fused(a1, a2, a3, formats.F32, "rn"), formats.F32)[0]
            want = sign * (Fraction(float(a)) ** 2 + Fraction(float(part)))
            assert exact(float(near), want, formats.F32, "rn")
    assert Fraction(float(twice)) != Fraction(float(got))


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_float64_sums_and_products(mode):
    a, b = floats("float64", 100, 1, False), floats("float64", 100, 2, False)
    scale = 2.0 ** -np.round(np.log2(np.maximum(np.abs(a), 1e-300)))
    a = np.where(a == 0, 1.5, a * scale)
    b = np.where(b == 0, 2.5, b * 2.0 ** -np.round(np.log2(np.maximum(np.abs(b), 1e-300))))
    c = -(a * b)
    sums = decode(arithmetic.add(a, b, formats.F64, mode), formats.F64)
    products = decode(arithmetic.multiply(a, b, formats.F64, mode), formats.F64)
    for x, y, s, p in zip(a.tolist(), b.tolist(), sums.tolist(), products.tolist(), strict=True):
        assert exact(s, Fraction(x) + Fraction(y), formats.F64, mode)
        assert exact(p, Fraction(x) * Fraction(y), formats.F64, mode)
    if mode == "rn":
        fused = decode(arithmetic.fused(a, b, c, formats.F64, mode), formats.F64)
        for x, y, z, g in zip(a.tolist(), b.tolist(), c.tolist(), fused.tolist(), strict=True):
            assert exact(g, Fraction(x) * Fraction(y) + Fraction(z), formats.F64, mode)


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_square_roots(mode):
    a = np.abs(floats("float32", 500, 3, False))
    a = np.where(a < 1e-30, np.float32(2), a).astype(np.float32)
    got = decode(arithmetic.square_root(a, formats.F32, mode), formats.F32)
    up = np.nextafter(got, np.float32(np.inf))
    down = np.nextafter(got, np.float32(0))
    for x, g, u, d in zip(a.tolist(), got.tolist(), up.tolist(), down.tolist(), strict=True):
        v, root = Fraction(x), Fraction(g)
        if mode == "rp":
            assert root**2 >= v > Fraction(d) ** 2
        elif mode == "rn":
            assert ((root + Fraction(d)) / 2) ** 2 < v < ((root + Fraction(u)) / 2) ** 2
        else:
            assert root**2 <= v < Fraction(u) ** 2
