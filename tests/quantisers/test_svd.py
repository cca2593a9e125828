"""SVDQuant's split: the error is that of rounding what the factors leave."""

import numpy as np
import pytest
from quantisers.weights import correlated, decaying, gaussian, heavy, outliers, relative

import tilec as tc
from tilec.ir.composed import LowRank, Plus
from tilec.ir.errors import TileError
from tilec.quantisers import svd_split

RANKS = [1, 2, 4, 8, 16, 32, 48, 63, 64]
INT4 = "int4<group=64>"


@pytest.mark.parametrize("make", [gaussian, heavy, decaying])
def test_error_falls_with_rank_to_that_of_f16_factors(make):
    w = make(64, 128)
    plain = relative(w, tc.quantize(w, INT4).dequantize())
    errors = [relative(w, svd_split(w, INT4, rank).dequantize()) for rank in RANKS]
    assert plain > errors[0]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


def test_the_rest_is_the_tail_of_singular_values_and_the_error_is_its_rounding():
    w = decaying(64, 128)
    singular = np.linalg.svd(w, compute_uv=False)
    for rank in (1, 4, 16):
        found = svd_split(w, INT4, rank)
        parts = found.parts()
        rest = w - parts["0.left"] @ parts["0.right"]
        tail = np.linalg.norm(singular[rank:])
        assert np.linalg.norm(rest) == pytest.approx(tail, rel=1e-3)
        rounding = np.linalg.norm(rest - tc.quantize(rest, INT4).dequantize())
        assert np.linalg.norm(w - found.dequantize()) == pytest.approx(rounding, rel=1e-5)
        assert 0.08 * tail < rounding < 0.11 * tail  # what 4 bits in groups of 64 lose


def test_rounds_are_never_worse_and_fit_the_factors_again():
    w = heavy(64, 128)
    errors = [relative(w, svd_split(w, INT4, 8, rounds=rounds).dequantize())
              for rounds in (1, 2, 4, 8)]  # fmt: skip
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9 * errors[0]


@pytest.mark.parametrize(("inputs", "ceiling"), [(outliers, 0.6), (correlated, 0.96)])
def test_inputs_make_outputs_nearer(inputs, ceiling):
    w, x = gaussian(64, 128, 1), inputs(256, 128)
    blind, seeing = (relative(x @ w.T, x @ svd_split(w, INT4, 8, given, 4).dequantize().T)
                     for given in (None, x))  # fmt: skip
    assert seeing < ceiling * blind


def test_inputs_of_any_magnitude_and_rank():
    w, x = gaussian(16, 32, 1), outliers(8, 32)
    one, other = (svd_split(w, INT4, 4, x * f, 2).dequantize() for f in (1, 2.0**30))
    assert np.array_equal(one, other)
    assert relative(w, svd_split(w, INT4, 4, x * 0).dequantize()) < 0.1


def test_the_format_is_a_sum():
    found = svd_split(gaussian(16, 64), "mxfp4", 3)
    assert found.format == Plus((LowRank(3), tc.format("mxfp4")))
    assert found.format == tc.format("plus<lowrank<3>, mxfp4>")


def test_rests_that_no_scale_holds_are_zero():
    """f16 scales end at 6e-8; the factors alone are nearer than that."""
    for size in (1e-3, 1e-4, 1e-5):
        w = gaussian(8, 64) * size
        assert relative(w, svd_split(w, INT4, 8).dequantize()) < 5e-4
    assert not svd_split(np.zeros((4, 64)), INT4, 2).dequantize().any()


def test_errors():
    w = gaussian(8, 64)
    for rank in (0, 9):
        with pytest.raises(TileError, match=f"svd_split: the rank is {rank}, expected 1 to 8"):
            svd_split(w, INT4, rank)
    with pytest.raises(TileError, match="svd_split: rounds is 0, expected at least 1"):
        svd_split(w, INT4, 2, rounds=0)
