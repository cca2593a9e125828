"""AWQ: outputs are nearer where input channels differ, and never further than rounding's."""

import numpy as np
import pytest
from quantisers.weights import correlated, gaussian, outliers, relative

import tilec as tc
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.quantisers import awq
from tilec.runtime.tensor import PackedTensor

FORMATS = ["int4<group=64>", "gptq", "uint3<group=64, zero=int>", "nvfp4", "int4<channel>",
           "plus<outliers<2>, int4<group=64>>"]  # fmt: skip


def error(w: Array, x: Array, q: PackedTensor, scale: Array | float = 1.0) -> float:
    """The relative error of outputs."""
    return relative(x @ w.T, (x / scale) @ q.dequantize().astype(float).T)


@pytest.mark.parametrize(("size", "ceiling"), [(20, 0.75), (50, 0.6)])
@pytest.mark.parametrize("text", FORMATS[:5])
def test_outlier_channels(text, size, ceiling):
    """Of the error of the better rounding: at most 0.75 where channels are 20 times the others,
    0.6 where they are 50 times the others."""
    w, x = gaussian(64, 256, 1), outliers(512, 256, 0, size)
    plain = min(error(w, x, tc.quantize(w, text, search=search)) for search in (False, True))
    assert error(w, x, *awq(w, x, text)) < ceiling * plain


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("x", [gaussian(128, 128, 2), correlated(128, 128)])
def test_never_worse_than_rounding(text, x):
    w = gaussian(24, 128, 1)
    plain = min(error(w, x, tc.quantize(w, text, search=search)) for search in (False, True))
    assert error(w, x, *awq(w, x, text)) <= plain * (1 + 1e-6)


@pytest.mark.parametrize("text", ["int4<group=64>", "gptq", "mxfp4"])
def test_alpha_zero_is_rounding_to_nearest(text):
    w, x = gaussian(16, 128, 1), outliers(64, 128)
    found, scale = awq(w, x, text, 0, search=False)
    assert (scale == 1).all()
    assert np.array_equal(found.dequantize(), tc.quantize(w, text, search=False).dequantize())
    even = np.sign(gaussian(64, 128))  # channels of one magnitude: every alpha is the same
    found, scale = awq(w, even, text, search=False)
    assert (scale == 1).all()


def test_the_scale_is_a_power_of_the_activation():
    w, x = gaussian(16, 128, 1), outliers(64, 128)
    scale = awq(w, x, "int4<group=64>")[1].astype(float)
    size = np.log(np.abs(x).mean(0))
    alpha, _ = np.polyfit(size, np.log(scale), 1)
    assert round(alpha * 20) == pytest.approx(alpha * 20, abs=1e-4)
    assert 0 < alpha <= 1
    assert np.log(scale) - alpha * size == pytest.approx(np.log(scale[0]) - alpha * size[0])
    assert scale.max() * scale.min() == pytest.approx(1)
    assert (scale.dtype, scale.shape) == (np.float64, (128,))


def test_the_tensor_is_the_scaled_weight():
    w, x = gaussian(16, 128, 1), outliers(64, 128)
    found, scale = awq(w, x, "int8<group=64>", search=False)
    assert np.array_equal(
        found.dequantize(), tc.quantize(w * scale, "int8<group=64>", search=False).dequantize()
    )
    assert relative(w * scale, found.dequantize()) < 0.01


@pytest.mark.parametrize("text", ["uint3<group=64, zero=int>", "int3<channel>", "int4<group=48>"])
def test_clipping_is_nearer(text):
    w, x = gaussian(32, 128, 1), correlated(256, 128)
    plain, clipped = (error(w, x, *awq(w, x, text, 4, clip=c)) for c in (False, True))
    assert clipped < 0.97 * plain


def test_clipping_counts_inputs_as_they_are_divided():
    w, x = gaussian(32, 128, 1), outliers(256, 128, 0, 50)
    plain, clipped = (error(w, x, *awq(w, x, "int4<group=64>", clip=c)) for c in (False, True))
    assert clipped < 0.88 * plain


def test_dead_channels_and_no_inputs_at_all():
    w, x = gaussian(8, 64, 1), outliers(32, 64)
    x[:, :5] = 0
    found, scale = awq(w, x, "int4<group=32>")
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    assert error(w, x, found, scale) < 0.1
    found, scale = awq(w, x * 0, "int4<group=32>", clip=True)
    assert (scale == 1).all()
    assert np.array_equal(
        found.dequantize(), tc.quantize(w, "int4<group=32>", search=False).dequantize()
    )


def test_few_samples_are_measured_as_they_are():
    """The error is the same number whether or not there are more samples than columns."""
    w, x = gaussian(8, 64, 1), outliers(48, 64)
    once, twice = awq(w, x, "int3<group=32>"), awq(w, np.tile(x, (2, 1)), "int3<group=32>")
    assert np.array_equal(once[1], twice[1])
    assert np.array_equal(once[0].dequantize(), twice[0].dequantize())


def test_errors():
    w, x = gaussian(8, 64), gaussian(4, 64)
    with pytest.raises(TileError, match="awq: expected a format with scales, not bf16"):
        awq(w, x, "bf16")
    for text in ("fp8_block", "fp8", "plus<outliers<2>, int4<group=64>>"):
        with pytest.raises(TileError, match="awq: clip needs a scale for each group or channel"):
            awq(w, x, text, clip=True)
    with pytest.raises(TileError, match="awq: steps is -2, expected at least 0"):
        awq(w, x, "int4", -2)
