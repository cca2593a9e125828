"""Widths of experts: as they are given, or where they take off most error for a bit."""

from itertools import product

import numpy as np
import pytest

import tilec as tc
from tilec.ir.composed import Experts
from tilec.ir.errors import TileError
from tilec.ir.named import named
from tilec.quantisers import experts

CHOICE = ["int4<group=64>", "int2<group=64>"]  # 4.25 and 2.25 bits a weight


def weights(n: int = 6) -> np.ndarray:
    """Experts of sizes that are not in order."""
    sizes = np.random.default_rng(0).permutation(1.5 ** np.arange(n))
    return np.random.default_rng(1).standard_normal((n, 16, 128)) * sizes[:, None, None]


def formats_of(w: tc.PackedTensor) -> list[str]:
    """The format of each expert."""
    assert isinstance(w.format, Experts)
    counts = [*w.format.counts, w.shape[0] - sum(w.format.counts)]
    placed = [str(f) for f, n in zip(w.format.formats, counts, strict=True) for _ in range(n)]
    return [placed[p] for p in w.parts()["place"]]


def errors(x: np.ndarray, text: str) -> np.ndarray:
    rounded = np.stack([tc.quantize(e, text, search=False).dequantize() for e in x])
    return np.square(rounded - x).sum((1, 2))


def test_formats_that_are_given():
    x = weights()
    given = ["int4<group=64>", "int8", "int2<group=32>", "int8", "int4<group=64>", "nvfp4"]
    w = experts(x, given)
    assert formats_of(w) == [str(named(f)) for f in given]
    for e, text in enumerate(given):
        alone = tc.quantize(x[e], text, search=False).dequantize()
        np.testing.assert_allclose(w.dequantize()[e], alone, rtol=1e-6 if text != "nvfp4" else 0.1)
    same = experts(x, [named("int4")] * 6)
    assert str(same.format) == "experts<int4<channel, scale=f16>>"
    assert same.parts()["order"].tolist() == list(range(6))


@pytest.mark.parametrize(("bits", "wide"), [(2.25, 0), (2.6, 1), (3.25, 3), (4.2, 5), (4.25, 6)])
def test_a_budget_goes_to_the_experts_with_the_largest_error(bits, wide):
    x = weights()
    w = experts(x, CHOICE, bits)
    four = [f.startswith("int4") for f in formats_of(w)]
    assert sum(four) == wide
    lost = errors(x, CHOICE[1])
    assert {*np.flatnonzero(four)} == {*np.argsort(-lost)[:wide]}
    assert (2.25 + 2 * wide / 6) <= bits + 1e-9


def test_a_budget_of_three_widths_is_near_the_best_choice():
    x, choice, bits = weights(5), ["int8<group=64>", *CHOICE], 4.5
    cost = [named(f).bits((16, 128)) / (16 * 128) for f in choice]
    lost = np.array([errors(x, f) for f in choice])
    every = [c for c in product(range(3), repeat=5) if sum(cost[i] for i in c) <= 5 * bits + 1e-9]
    best = min(sum(lost[i, e] for e, i in enumerate(c)) for c in every)
    w = experts(x, choice, bits)
    found = float(np.square(w.dequantize() - x).sum())
    assert best * (1 - 1e-6) <= found <= 1.5 * best
    spent = [cost[[str(named(f)) for f in choice].index(f)] for f in formats_of(w)]
    assert sum(spent) <= 5 * bits


def test_importance_weighs_errors():
    x = weights()
    importance = np.zeros(6)
    importance[[1, 4]] = 1
    w = experts(x, CHOICE, 2.25 + 2 * 2 / 6, importance=importance)
    assert [f.startswith("int4") for f in formats_of(w)] == [False, True, False, False, True, False]


def test_the_same_numbers_give_the_same_bits():
    torch = pytest.importorskip("torch")
    x = weights()
    first, again = experts(x, CHOICE, 3.0), experts(torch.from_numpy(x), CHOICE, 3.0)
    assert first.format == again.format
    for name, part in first.parts().items():
        np.testing.assert_array_equal(part, again.parts()[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.ones((4, 8))}, "the weights have shape [4, 8], expected [E, N, K]"),
        ({"weight": np.full((2, 4, 64), np.nan)}, "the weights have elements that are not finite"),
        ({"bits": 2.0}, "int2<group=64, scale=f16> has the fewest bits a weight, 2.25; expected at "
                        "most 2"),
        ({"bits": None}, "2 formats for 6 experts; a choice of formats needs a number of bits"),
        ({"formats": []}, "experts: expected formats to choose from"),
        ({"formats": ["int4", "in2"]}, "no format is called `in2`"),
        ({"formats": ["f16", "f16"]}, "each is quantised and its rows are alike, not f16"),
        ({"importance": np.ones(5)}, "the importance has shape [5] and is at least 1, expected 6"),
        ({"importance": -np.ones(6)}, "the importance has shape [6] and is at least -1, expected"),
    ],
)  # fmt: skip
def test_what_is_refused(change, message):
    options = {"weight": weights(), "formats": CHOICE, "bits": 20.0} | change
    with pytest.raises(TileError) as e:
        experts(**options)
    assert message in str(e.value)
