"""Rows that are joined of parts: read by consecutive places, a part of them at a time."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest

import tilec as tc
from tilec.compile import engine
from tilec.cpu import cpu_source
from tilec.ops import rotary

SIZES = [(2, 5, 64), (1, 3, 12), (2, 4, 40), (1, 2, 8), (3, 3, 24)]


@pytest.mark.parametrize(("b", "t", "half"), SIZES)
@pytest.mark.parametrize(
    ("dtype", "near"), [(np.float32, 1e-6), (ml_dtypes.bfloat16, 8e-3), (np.float16, 1e-3)]
)
def test_rotary_by_parts(b: int, t: int, half: int, dtype: type, near: float):
    rng = np.random.default_rng([b, t, half])
    x = rng.standard_normal((b, t, 2 * half)).astype(dtype)
    cos, sin = (rng.standard_normal((t, half)).astype(np.float32) for _ in range(2))
    first, second = x[..., :half].astype(np.float64), x[..., half:].astype(np.float64)
    want = np.concatenate([first * cos - second * sin, second * cos + first * sin], -1)
    got = rotary.rotary(x, cos, sin).astype(np.float64)
    assert np.linalg.norm(got - want) <= near * np.linalg.norm(want)


@tc.kernel
def shifted(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = x[m, n.index - 5] + x[m, n.index + 3]


@pytest.mark.parametrize("n", [1, 7, 16, 40, 531])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.int32])
def test_places_beyond_a_row_read_zero(n: int, dtype: type):
    x = np.random.default_rng(n).integers(-9, 10, (3, n)).astype(dtype)
    y = np.full((3, n), 77, dtype)
    shifted(x, y)
    wide = np.pad(x.astype(np.float64), ((0, 0), (5, 3)))
    np.testing.assert_array_equal(y.astype(np.float64), wide[:, :n] + wide[:, 8:])


def rotary_code(half: int) -> str:
    types = {"x": tc.bf16, "cos": tc.f32, "sin": tc.f32}
    kernel = rotary.rotary.kernel(**types)
    return cpu_source(kernel.definition, types, {"B": 2, "T": 8, "H": half}, engine()).text


@pytest.mark.skipif("avx512bw" not in engine().machine.features, reason="vectors with masks")
def test_vectors_of_a_short_row_have_code_of_their_own():
    text = rotary_code(64)
    assert "masked" not in text
    assert "first" not in text  # nothing is decided when it runs
    assert text.count("load <16 x i16>") == 2 * 128 // 16  # each half of x is read for both halves


@pytest.mark.skipif("avx512bw" not in engine().machine.features, reason="vectors with masks")
def test_a_vector_of_a_long_row_computes_one_part_and_gathers_nothing():
    text = rotary_code(256)
    assert "masked.gather" not in text
    assert re.search(r"phi <16 x float> \[.*%first\d+\], \[.*%second\d+\]", text)
