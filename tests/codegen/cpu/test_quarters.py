"""Sine and cosine of angles of any size, and the bits of 2/pi that they need."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import tilec as tc
from tilec.codegen.cpu.quarters import two_over_pi

# The double that is nearest to a multiple of pi/2 (J.-M. Muller, Elementary Functions).
WORST = 6381956970095103.0 * 2.0**797


@tc.kernel
def turned(x: tc.Tensor["M"], s: tc.Tensor["M"], c: tc.Tensor["M"]):
    for m in tc.tiles("M"):
        s[m] = tc.sin(x[m])
        c[m] = tc.cos(x[m])


def angles(dtype: type) -> np.ndarray:
    """Of every exponent, near multiples of pi/2, and special ones."""
    rng = np.random.default_rng(0)
    exponents = np.arange(-20, np.finfo(dtype).maxexp)
    x = np.ldexp(rng.uniform(1, 2, (5, len(exponents))), exponents).ravel()
    near = np.arange(1, 400) * np.exp2(rng.integers(0, 60, 399)) * (math.pi / 2)
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, float(np.finfo(dtype).max), 2.0**30, 1.7e9]
    x = np.concatenate([x, near, special])
    return np.concatenate([x, -x]).astype(dtype)


@pytest.mark.parametrize(("dtype", "ulps"), [(np.float32, 1), (np.float64, 4)])
def test_sines_and_cosines(dtype, ulps):
    x = angles(dtype)
    found = [np.full_like(x, 7) for _ in range(2)]
    turned(x, *found)
    with np.errstate(invalid="ignore"):
        expected = [np.sin(x.astype(np.float64)), np.cos(x.astype(np.float64))]
    for got, want in zip(found, expected, strict=True):
        finite = np.isfinite(x)
        assert np.isnan(got[~finite]).all()
        unit = np.spacing(np.abs(want[finite]).astype(dtype)).astype(np.float64)
        error = np.abs(got[finite].astype(np.float64) - want[finite]) / unit
        assert error.max() <= ulps, x[finite][error.argmax()]


def test_the_worst_angle():
    """Its cosine is how far it is from the multiple of pi/2, here in fractions."""
    bits = sum(Fraction(w, 1 << 64 * i) for i, w in enumerate(two_over_pi()))
    turns = Fraction(WORST) * bits
    distance = abs(float((turns - round(turns)) / bits))
    x, s, c = np.array([WORST, -WORST]), np.zeros(2), np.zeros(2)
    turned(x, s, c)
    assert s.tolist() == [1.0, -1.0]
    assert (c < 0).all()
    assert distance < 2.0**-60
    assert abs(np.abs(c) - distance).max() <= 2 * np.spacing(distance)


def test_the_bits_of_two_over_pi():
    """Against pi from the arctangents of Gauss, which are others than those used."""
    zeros, *words = two_over_pi()
    assert zeros == 0
    value = sum(Fraction(w, 1 << 64 * (i + 1)) for i, w in enumerate(words))
    one = 1 << 64 * len(words) + 64

    def tangent(n: int) -> int:
        power, total, k = one // n, 0, 1
        while power:
            total, power, k = total + (2 - k % 4) * (power // k), power // (n * n), k + 2
        return total

    pi = Fraction(4 * (12 * tangent(18) + 8 * tangent(57) - 5 * tangent(239)), one)
    assert 0 <= 2 / pi - value < Fraction(1, 1 << 64 * len(words))
