"""DGQ: the expanded integers have 8 bits, at a stated loss beside float group scales."""

import numpy as np
import pytest
from quantisers.weights import KINDS, gaussian, heavy, outliers, relative

import tilec as tc
from tilec.ir.errors import TileError
from tilec.quantisers import dgq


def expanded(q):
    """(code - zero) * scale_code of every element."""
    parts, group = q.parts(), q.format.group
    zero, level = (np.repeat(parts[name], group, 1)[:, : q.shape[1]]
                   for name in ("zero", "scale.codes"))  # fmt: skip
    return (parts["codes"] - zero) * level


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", [16, 48, 128])
def test_expanded_integers_have_8_bits(kind, group):
    for seed in range(4):
        w = KINDS[kind](24, 256, seed) * 10.0 ** (seed - 2)
        found = dgq(w, f"dgq<group={group}>")
        whole = expanded(found)
        assert whole.min() >= -128
        assert whole.max() <= 127
        values = whole * found.parts()["scale.scale"][:, None]
        np.testing.assert_allclose(found.dequantize(), values, rtol=1e-6)


def test_rounding_to_nearest_leaves_8_bits():
    """Why the search is there: group scales of 8 bits alone expand to far more."""
    assert np.abs(expanded(tc.quantize(gaussian(24, 256), "dgq"))).max() > 1000


def test_one_sided_groups_beside_wide_ones():
    """The hardest rows: a group of one sign as wide as 127 steps, and groups a hundredth of it."""
    w = np.abs(gaussian(16, 256)) * np.repeat([1.0, 0.01, -1.0, -0.01], 64)
    whole = expanded(dgq(w, "dgq<group=64>"))
    assert whole.min() >= -128
    assert whole.max() <= 127


@pytest.mark.parametrize(
    ("make", "group", "ceiling"),
    [(gaussian, 32, 1.01), (gaussian, 64, 1.005), (gaussian, 128, 1.005), (heavy, 32, 1.055),
     (heavy, 64, 1.03), (heavy, 128, 1.02), (outliers, 32, 1.06), (outliers, 64, 1.04),
     (outliers, 128, 1.02)],
)  # fmt: skip
def test_loss_beside_float_group_scales(make, group, ceiling):
    """Within 1% on Gaussian weights and 6% on heavy tails, of scales searched in f16."""
    w = make(128, 512)
    free = tc.quantize(w, f"uint4<group={group}, scale=f16, zero=int>")
    assert relative(w, dgq(w, f"dgq<group={group}>").dequantize()) < ceiling * relative(
        w, free.dequantize()
    )


def test_inputs_weigh_columns():
    w, x = heavy(32, 256), outliers(64, 256)
    energy = np.square(x).mean(0)
    blind, seeing = (float((np.square(q.dequantize() - w) * energy).sum())
                     for q in (dgq(w), dgq(w, inputs=x)))  # fmt: skip
    assert seeing < 0.85 * blind
    assert np.abs(expanded(dgq(w, inputs=x)) + 0.5).max() <= 127.5
    even = dgq(w, inputs=np.sign(x))  # columns of one energy
    assert np.array_equal(even.dequantize(), dgq(w).dequantize())


def test_the_name_qserve_is_the_same_format():
    w = gaussian(8, 256)
    assert np.array_equal(dgq(w, "qserve").dequantize(), dgq(w).dequantize())


def test_rows_of_zeros_and_short_groups():
    w = gaussian(4, 200)
    w[1] = 0
    found = dgq(w, "dgq<group=64>").dequantize()
    assert not found[1].any()
    assert relative(w, found) < 0.15


@pytest.mark.parametrize("text", ["gptq", "int4<group=64>", "uint4<group=32, scale=uint8<channel>>",
                                  "uint4<group=64, scale=e4m3<channel, scale=f16>, zero=int>",
                                  "uint4<group=64, scale=uint8<tensor, zero=none>, zero=int>",
                                  "uint4<rows=2, group=64, scale=uint8<channel, zero=none>, "
                                  "zero=int>"])  # fmt: skip
def test_other_formats(text):
    with pytest.raises(TileError, match="dgq: expected zero=int and groups with unsigned integers"):
        dgq(gaussian(8, 64), text)


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_rows_out_of_range(size):
    with pytest.raises(TileError, match="out of the range of f16"):
        dgq(gaussian(8, 64) * size)
