"""K-means as a quantiser: whose errors count, and what is refused."""

import numpy as np
import pytest
from quantisers.weights import KINDS, correlated, gaussian, heavy, relative

import tilec as tc
from tilec.ir.errors import TileError
from tilec.quantisers import kmeans


def output_error(w: np.ndarray, x: np.ndarray, q: tc.PackedTensor) -> float:
    return relative(x @ w.T, x @ q.dequantize().T)


@pytest.mark.parametrize("kind", KINDS)
def test_less_error_than_codes_of_the_same_width(kind):
    w = KINDS[kind](64, 512)
    for text, other in (("codebook<3, rows=1>", "int3<channel>"), ("squeezellm", "nf4<channel>"),
                        ("flute", "nf4<group=128>")):  # fmt: skip
        found = relative(w, kmeans(w, text).dequantize())
        assert found < relative(w, tc.quantize(w, other).dequantize())


def test_no_weights_are_rounding():
    w = gaussian(16, 200)
    found, plain = kmeans(w, "flute", search=False), tc.quantize(w, "flute", search=False)
    np.testing.assert_array_equal(found.dequantize(), plain.dequantize())
    even = kmeans(w, "flute", sensitivity=np.full(200, 7.0), search=False)
    np.testing.assert_array_equal(even.dequantize(), plain.dequantize())


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize("text", ["codebook<3, rows=1>", "codebook<3, rows=1, group=64>"])
def test_inputs_say_which_columns_count(text, search):
    """Columns that matter are few and small: without inputs they would get no entries."""
    rng = np.random.default_rng(0)
    w, x = gaussian(32, 256), rng.standard_normal((128, 256)) * 0.1
    w[:, ::8] *= 0.1
    x[:, ::8] *= 100
    plain, found = kmeans(w, text, search=search), kmeans(w, text, x, search=search)
    assert output_error(w, x, found) < 0.5 * output_error(w, x, plain)
    moment = np.square(x).mean(0)
    same = kmeans(w, text, sensitivity=moment, search=search)
    np.testing.assert_array_equal(found.dequantize(), same.dequantize())


def test_a_sensitivity_of_each_element():
    w = heavy(16, 200)
    fisher = np.random.default_rng(1).exponential(1.0, w.shape) ** 4
    plain, found = kmeans(w), kmeans(w, sensitivity=fisher)
    lost, kept = ((fisher * np.square(q.dequantize() - w)).sum() for q in (plain, found))
    assert kept < 0.3 * lost
    none = fisher * (np.arange(16) > 3)[:, None]  # rows that do not count are near all the same
    values = kmeans(w, sensitivity=none).dequantize()
    assert relative(w[:4], values[:4]) < 1.05 * relative(w[:4], plain.dequantize()[:4])


def test_tensors_that_are_no_matrix():
    w = gaussian(12, 96).reshape(2, 6, 96)
    assert kmeans(w, "codebook<4, rows=1>").shape == (2, 6, 96)
    with pytest.raises(TileError, match=r"kmeans: the weights have shape \[2, 6, 96\], expected"):
        kmeans(w, "codebook<4>", correlated(8, 96))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "int4<group=32>"}, "kmeans: expected learnt tables such as codebook<4, row"),
        ({"format": "codebok<4>"}, "no format is called `codebok`"),
        ({"sensitivity": -np.ones(96)}, "the sensitivity is at least 0, and not 0 everywhere; it "
                                        "is -1 to -1"),
        ({"sensitivity": np.zeros(96)}, "the sensitivity is at least 0, and not 0 everywhere"),
        ({"sensitivity": np.ones(95)}, "the sensitivity has shape [95] beside weights [8, 96]"),
        ({"sensitivity": np.full(96, np.nan)}, "the sensitivity have elements that are not finite"),
        ({"sensitivity": np.ones(96), "inputs": np.ones((4, 96))}, "expected inputs or a sensitiv"),
        ({"inputs": np.zeros((4, 96))}, "the mean squares of inputs is at least 0, and not 0 e"),
    ],
)  # fmt: skip
def test_what_is_refused(options, message):
    with pytest.raises(TileError) as e:
        kmeans(gaussian(8, 96), **options)
    assert message in str(e.value)
