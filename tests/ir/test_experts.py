"""Experts of several formats: each as if it were alone, at the place that it was given."""

import numpy as np
import pytest

from tilec.ir.composed import Experts, experts, part
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, encode
from tilec.ir.named import named
from tilec.ir.packing import Each, default_layout

TWO = "experts<3, int4<group=64>, int2<group=32>>"
THREE = "experts<1, int8, 2, uint4<group=64, zero=int>, int2<channel>>"
EVERY = [TWO, THREE, "experts<int4<group=64>>", "experts<2, codebook<4, rows=1>, nf4<group=64>>",
         "experts<1, plus<lowrank<3>, int4<group=32>>, permuted<int3<group=32>>>",
         "experts<2, fp8_block, nvfp4>"]  # fmt: skip
SHAPE = (7, 19, 150)


def weights() -> np.ndarray:
    """Experts of different sizes, not in the order of these."""
    rng = np.random.default_rng(0)
    return rng.standard_normal(SHAPE) * np.array([1, 4, 0.5, 3, 2, 5, 0.1])[:, None, None]


@pytest.mark.parametrize("text", EVERY)
def test_text_and_memory_read_back(text):
    format = named(text)
    assert named(str(format)) == format
    parts = encode(format, weights(), Fit())
    assert set(parts) == {c.name for c in format.components(SHAPE)}
    layout = default_layout(format, SHAPE)
    assert isinstance(layout, Each)
    arrays = layout.pack(format, parts, SHAPE)
    assert len(arrays) == layout.arrays(format, SHAPE)
    back = layout.unpack(format, arrays, SHAPE)
    assert back.keys() == parts.keys()
    for name, value in parts.items():
        np.testing.assert_array_equal(back[name], value)
        assert layout.place(format, SHAPE, name).array < len(arrays)


@pytest.mark.parametrize("text", [TWO, THREE, "experts<2, codebook<4, rows=1>, nf4<group=64>>"])
def test_each_expert_is_as_if_it_were_alone(text):
    format, x = named(text), weights()
    assert isinstance(format, Experts)
    parts = encode(format, x, Fit())
    values = format.values(parts, SHAPE)
    counts = [*format.counts, 7 - sum(format.counts)]
    formats = [f for f, n in zip(format.formats, counts, strict=True) for _ in range(n)]
    np.testing.assert_array_equal(np.sort(parts["order"]), np.arange(7))
    for place, expert in enumerate(parts["order"]):
        assert parts["place"][expert] == place
        alone = encode(formats[place], x[expert], Fit())
        want = formats[place].values(alone, x[expert].shape)
        np.testing.assert_array_equal(values[expert], want)


def test_the_experts_that_are_rounded_worst_have_the_first_formats():
    parts = encode(named(THREE), weights(), Fit())
    assert parts["order"].tolist() == [5, 1, 3, 4, 0, 2, 6]  # by size, the largest first


def test_an_order_that_is_given():
    format, x = named(TWO), weights()
    assert isinstance(format, Experts)
    order = np.array([6, 0, 3, 1, 2, 4, 5])
    parts = experts(format, x, order, Fit())
    wide = encode(format.formats[0], x[order[:3]].reshape(-1, 150), Fit())
    for name, value in wide.items():
        np.testing.assert_array_equal(part(parts, "0")[name], value)


def test_what_a_format_has_once_is_shared():
    """The scale of a tensor is that of all experts of the format."""
    parts = encode(named("experts<2, int8<tensor, scale=f32>, int4>"), weights(), Fit())
    both = encode(named("int8<tensor, scale=f32>"), weights()[[5, 1]], Fit())
    assert parts["0.scale"].shape == ()
    assert parts["0.scale"] == both["scale"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experts", "experts: expected experts<COUNT, FORMAT, ..., FORMAT>, not nothing"),
        ("experts<int4, int2>", "experts: expected experts<COUNT, FORMAT, ..., FORMAT>, not int4"),
        ("experts<x, int4, int2>", "experts: expected a whole number, not `x`"),
        ("experts<0, int4, int2>", "experts: expected at least 1 of a format, not 0"),
        ("experts<1, f16, int2>", "experts: each is quantised and its rows are alike, not f16"),
        ("experts<1, mixed<4, int8, int4>, int2>", "and its rows are alike, not mixed<4"),
        ("experts<experts<int4>>", "and its rows are alike, not experts<int4"),
        ("plus<int4, experts<int4>>", "plus: a part is quantised and not composed itself, not exp"),
        ("mixed<4, int4, experts<int4>>", "mixed: rows are quantised and not mixed themselves, no"),
        ("permuted<experts<int4>>", "permuted: columns are quantised and in one order, not exper"),
        ("expert<int4>", "did you mean `experts`?"),
    ],
)
def test_bad_formats(text, message):
    with pytest.raises(TileError) as e:
        named(text)
    assert message in str(e.value)


def test_shapes_that_do_not_fit():
    format = named(TWO)
    with pytest.raises(TileError, match=r"expected weights \[E, N, K\], not 2 dimensions"):
        format.components((8, 8))
    with pytest.raises(TileError, match="expected at least 4 experts, not 3"):
        format.components((3, 8, 64))
    with pytest.raises(TileError, match="expected formats, and how many have each but the last"):
        Experts((named("int4"), named("int2")))
    with pytest.raises(TileError, match="not finite"):
        encode(format, np.full(SHAPE, np.nan), Fit())
