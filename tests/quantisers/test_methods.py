"""What all quantisers have in common, and GPTQ's wrapper."""

from inspect import signature

import numpy as np
import pytest
from quantisers.weights import correlated, gaussian, heavy, relative

import tilec as tc
from tilec.ir.errors import TileError
from tilec.quantisers import METHODS, gptq

torch = pytest.importorskip("torch")

W, X = heavy(16, 128), correlated(64, 128)
CALLS = {
    "hqq": lambda f, w=W, x=X: f(w, "hqq"),
    "awq": lambda f, w=W, x=X: f(w, x, "int4<group=32>", 5)[0],
    "svd_split": lambda f, w=W, x=X: f(w, "int4<group=32>", 3, x, 2),
    "dgq": lambda f, w=W, x=X: f(w, "dgq<group=32>", x),
    "gptq": lambda f, w=W, x=X: f(w, x, "int4<group=32>"),
    "kmeans": lambda f, w=W, x=X: f(w, "codebook<4, rows=1, group=32>", x),
}
CALIBRATED = sorted(CALLS.keys() - {"hqq"})


def same(a, b) -> bool:
    """Whether two packed tensors have the same components, bit for bit."""
    mine, other = a.parts(), b.parts()
    return (a.format, a.shape, mine.keys()) == (b.format, b.shape, other.keys()) and all(
        np.array_equal(mine[k], other[k]) for k in mine
    )


def test_each_method_is_here():
    assert METHODS.keys() == CALLS.keys()
    for name, method in METHODS.items():
        assert next(iter(signature(method).parameters)) == "weight"
        assert method.__name__ == name
        assert method.__doc__


@pytest.mark.parametrize("name", CALLS)
def test_the_same_numbers_give_the_same_bits(name):
    call, f = CALLS[name], METHODS[name]
    w, x = W.copy(), X.copy()
    first = call(f, w, x)
    assert np.array_equal(w, W)
    assert np.array_equal(x, X)
    assert same(first, call(f))
    assert same(first, call(f, np.asfortranarray(W), np.asfortranarray(X)))
    assert same(first, call(f, torch.from_numpy(W), torch.from_numpy(X)))


@pytest.mark.parametrize("name", CALLS)
def test_torch_of_half_a_word_is_its_numbers(name):
    w, x = (torch.from_numpy(a).to(torch.bfloat16) for a in (W, X))
    call, f = CALLS[name], METHODS[name]
    assert same(
        call(f, w.requires_grad_(), x), call(f, *(a.detach().float().numpy() for a in (w, x)))
    )


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.full((4, 64), np.nan), "the weights have elements that are not finite"),
        (np.full((4, 64), np.inf), "the weights have elements that are not finite"),
        (np.ones((0, 64)), r"the weights have shape \[0, 64\], expected elements"),
        (np.ones(()), r"the weights have shape \[\], expected elements"),
        ([["a", "b"]], "the weights are list, expected an array of numbers"),
    ],
)
def test_bad_weights(name, given, message):
    with pytest.raises(TileError, match=f"{name}: {message}"):
        CALLS[name](METHODS[name], given)


@pytest.mark.parametrize("name", CALIBRATED)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.full((4, 128), np.nan), "the inputs have elements that are not finite"),
        (np.ones((4, 127)), r"the inputs have shape \[4, 127\], expected \[samples, 128\] beside "
                            r"weights \[16, 128\]"),
        (np.ones(128), r"the inputs have shape \[128\], expected \[samples, 128\]"),
        (np.ones((0, 128)), r"the inputs have shape \[0, 128\], expected elements"),
    ],
)  # fmt: skip
def test_bad_inputs(name, given, message):
    with pytest.raises(TileError, match=f"{name}: {message}"):
        CALLS[name](METHODS[name], W, given)


@pytest.mark.parametrize("name", CALIBRATED)
def test_weights_that_are_no_matrix(name):
    with pytest.raises(TileError, match=rf"{name}: the weights have shape \[2, 4, 8\], expected"):
        CALLS[name](METHODS[name], np.ones((2, 4, 8)))


@pytest.mark.parametrize("name", ["hqq", "dgq"])
def test_formats_that_are_not_scaled(name):
    for text in ("f16", "plus<lowrank<2>, int4<group=64>>"):
        with pytest.raises(TileError, match=f"{name}: expected a scaled format such as int4"):
            METHODS[name](W, text)
    with pytest.raises(TileError, match="no format is called `hqqq`"):
        METHODS[name](W, "hqqq")


def test_gptq_and_svd_take_scaled_formats_only():
    with pytest.raises(TileError, match="gptq: expected a scaled format such as int4"):
        gptq(W, X, "lowrank<2>")
    with pytest.raises(TileError, match="svd_split: expected a scaled format such as int4"):
        METHODS["svd_split"](W, "outliers<2>", 2)


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("text", ["int4<group=32>", "gptq", "mxfp4", "dgq<group=32>"])
def test_gptq_is_calibrated_rounding(text, search):
    """The bits of `quantize` with inputs; at most 0.6 of the output error of rounding."""
    w, x = gaussian(40, 128, 1), correlated(256, 128)
    found = gptq(w, x, text, search)
    assert same(found, tc.quantize(w, text, inputs=x, search=search))
    plain = tc.quantize(w, text, search=search)
    errors = [relative(x @ w.T, x @ q.dequantize().T) for q in (plain, found)]
    assert errors[1] < 0.6 * errors[0]
