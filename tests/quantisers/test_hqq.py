"""HQQ: never worse in its norm, better by a stated part, for every kind of stored zero."""

import numpy as np
import pytest
from quantisers.weights import KINDS, gaussian, heavy, outliers, relative

import tilec as tc
from tilec.ir.errors import TileError
from tilec.quantisers import hqq

FORMATS = ["hqq", "gptq", "tinygemm", "q4_1", "q4_k", "quip", "int3<group=48, zero=float>",
           "uint2<group=64, zero=int>", "nf4<group=64, zero=shift>", "uint4<tensor, zero=min>",
           "uint4<rows=4, group=32, scale=f32, zero=float>"]  # fmt: skip


def objective(w, q) -> float:
    """What HQQ makes small: the sum of |error|**0.7."""
    return float((np.abs(w - q.dequantize()) ** 0.7).sum())


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("text", FORMATS)
def test_never_worse_than_rounding_to_nearest(text, search):
    for make in KINDS.values():
        w = make(16, 200 if text != "q4_k" else 256)
        plain, found = tc.quantize(w, text, search=search), hqq(w, text, search=search)
        assert objective(w, found) <= objective(w, plain) * (1 + 1e-6)
        scales = [{k: v for k, v in q.parts().items() if "scale" in k and "zero" not in k}
                  for q in (plain, found)]  # fmt: skip
        np.testing.assert_equal(scales[0], scales[1])


def test_no_block_is_worse():
    w = heavy(16, 256)
    plain, found = (
        q.dequantize() - w for q in (tc.quantize(w, "hqq", search=False), hqq(w, "hqq"))
    )
    sums = [(np.abs(e) ** 0.7).reshape(16, 4, 64).sum(-1) for e in (plain, found)]
    assert (sums[1] <= sums[0] * (1 + 1e-6)).all()
    assert (sums[1] < sums[0] * 0.999).mean() > 0.6


@pytest.mark.parametrize(
    ("make", "bits", "ceiling"),
    [(gaussian, 4, 0.97), (heavy, 4, 0.97), (heavy, 3, 0.96), (heavy, 2, 0.88),
     (outliers, 4, 0.97), (outliers, 3, 0.83), (outliers, 2, 0.7)],
)  # fmt: skip
def test_how_much_better(make, bits, ceiling):
    """Of the norm of rounding to nearest: 3% less at 4 bits, a third at 2 bits with outliers."""
    w, text = make(64, 512), f"uint{bits}<group=64, zero=float>"
    plain = tc.quantize(w, text, search=False)
    assert objective(w, hqq(w, text)) < ceiling * objective(w, plain)


def test_squared_error_falls_too_where_tails_are_heavy():
    w, text = outliers(64, 512), "uint2<group=64, zero=float>"
    plain = tc.quantize(w, text, search=False)
    assert relative(w, hqq(w, text).dequantize()) < 0.5 * relative(w, plain.dequantize())


def test_rounds():
    w = heavy(16, 256)
    assert np.array_equal(hqq(w, "hqq", 0).dequantize(),
                          tc.quantize(w, "hqq", search=False).dequantize())  # fmt: skip
    errors = [objective(w, hqq(w, "hqq", rounds)) for rounds in (0, 1, 5, 20, 40)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[3]


def test_weights_of_any_magnitude():
    """Powers of two change nothing but the exponents of scales."""
    w = heavy(8, 128)
    one, small = (hqq(w * f, "uint3<group=64, scale=f32, zero=float>").dequantize()
                  for f in (1.0, 2.0**-20))  # fmt: skip
    assert np.array_equal(one, small * 2.0**20)


@pytest.mark.parametrize("shape", [(64,), (2, 3, 64), (3, 70)])
def test_shapes(shape):
    w = np.random.default_rng(0).standard_t(3, shape)
    found = hqq(w, "hqq")
    assert found.shape == shape
    assert objective(w, found) < objective(w, tc.quantize(w, "hqq", search=False))


def test_blocks_without_range_are_exact():
    assert not hqq(np.zeros((2, 64)), "hqq").dequantize().any()
    assert (hqq(np.full((2, 64), 0.5), "tinygemm").dequantize() == 0.5).all()


@pytest.mark.parametrize("text", ["int4<group=64>", "marlin", "mxfp4"])
def test_formats_without_zeros(text):
    with pytest.raises(TileError, match="stores no zeros; expected zero=float, int, shift or min"):
        hqq(gaussian(2, 64), text)


def test_rounds_below_zero():
    with pytest.raises(TileError, match="hqq: rounds is -1, expected at least 0"):
        hqq(gaussian(2, 64), "hqq", -1)
