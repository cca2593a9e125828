"""The format of operands that a kernel rounds: its rule, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tilec as tc
from tilec.ir.errors import TileError
from tilec.ir.named import named


def test_the_rule_in_numbers():
    """amax / 127, the nearest code; groups apart; a row of zeros stays one."""
    x = np.array([[1.27, -0.635, 0.0, 0.004], [0, 0, 0, 0]], np.float32)
    a = tc.dynamic(x, "int8<scale=f32>")
    step = np.float32(np.float32(1.27) / np.float32(127))
    assert np.array_equal(a.dequantize()[0], np.array([127, -64, 0, 0], np.float32) * step)
    assert not a.dequantize()[1].any()
    two = tc.dynamic(x, "int8<group=2, scale=f32>").dequantize()
    assert two[0, 3] == np.float32(0.004)


def test_error_is_that_of_rounding():
    """Uniform steps of amax / 127 leave an error of step / sqrt(12) an element."""
    x = np.random.default_rng(0).standard_normal((64, 512)).astype(np.float32)
    y = tc.dynamic(x, "int8<scale=f32>").dequantize()
    step = np.abs(x).max(1, keepdims=True) / 127
    ratio = np.sqrt(np.mean(((y - x) / step) ** 2)) * np.sqrt(12)
    assert 0.98 < ratio < 1.02


def test_powers_of_two_are_rounded_up():
    """448 is e4m3's greatest: a block's greatest element is a code of more than half of it."""
    x = np.zeros((8, 32), np.float32)
    x[:, 3] = most = [448, 449, 1, 0.875, 3.4e38, 1e-45, 0, np.inf]
    rounded = named("dynamic<mxfp8, f32>").rounded(x)  # type: ignore[attr-defined]
    scale = rounded["scale"][:, 0]
    want = np.exp2([0.0, 1.0, -8.0, -9.0, 120.0, -126.0, -126.0])
    np.testing.assert_array_equal(scale[:-1], want)
    assert np.isnan(scale[-1])
    codes = rounded["codes"][:, 3]
    np.testing.assert_array_equal(codes[[0, 2, 3, 5, 6]], [448, 256, 448, 0, 0])
    assert (codes[[0, 1, 2, 3, 4]] > 224 - 1).all()
    np.testing.assert_allclose((codes * scale)[:5], most[:5], rtol=2**-4)


def test_text_reads_back():
    for text in (
        "dynamic<int8<channel, scale=f32>, bf16>",
        "dynamic<e4m3<group=128, scale=f32>, f32>",
    ):
        assert str(named(text)) == text
        assert named(str(named(text))) == named(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dynamic<uint8>", "signed codes without a zero"),
        ("dynamic<int8<zero=int>>", "signed codes without a zero"),
        ("dynamic<int8<tensor>>", "a scale for a row"),
        ("dynamic<int8<rows=4, group=4>>", "a scale for a row"),
        ("dynamic<int8<group=32, scale=e2m1>>", "a scale in f32, f16, bf16 or e8m0"),
        ("dynamic<f16>", "expected a scaled format"),
        ("dynamic<int8, i8>", "has floats, not i8"),
        ("dynamic<int8, f16, f16>", "expected dynamic<FORMAT, f32>"),
    ],
)
def test_refused(text, message):
    with pytest.raises(TileError, match=message):
        named(text)


def test_refused_tensors():
    with pytest.raises(TileError, match="not contiguous"):
        tc.dynamic(np.zeros((4, 8), np.float32).T, "int8<scale=f32>")
    with pytest.raises(TileError, match="has floats, not i32"):
        tc.dynamic(torch.zeros(4, 8, dtype=torch.int32), "int8<scale=f32>")
    with pytest.raises(TileError, match="expected a tensor"):
        tc.dynamic(3.0, "int8<scale=f32>")
