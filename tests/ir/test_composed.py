"""Formats made of formats: what they mean, how they are rounded, and how they lie in memory."""

import numpy as np
import pytest

from tilec.ir.composed import LowRank, Mixed, Outliers, Permuted, Plus, part
from tilec.ir.dtype import f32
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, encode
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.ir.packing import Each, default_layout

SVDQUANT = "plus<lowrank<8>, int4<group=64>>"
GEAR = "plus<outliers<5>, int2<group=64>, lowrank<4, f32>>"
MIXLLM = "mixed<10, int8<channel>, int4<group=64>>"
NESTED = f"mixed<4, {SVDQUANT}, int3<group=32>>"
ORDERED = f"permuted<{SVDQUANT}>"
EVERY = [SVDQUANT, GEAR, MIXLLM, NESTED, ORDERED, "plus<int4<group=32>, int2<channel>>"]


def weight(n: int = 70, k: int = 150) -> np.ndarray:
    """Rows of different sizes, a few large elements, and a strong direction."""
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, k)) * rng.uniform(0.5, 2, (n, 1))
    x += 3 * np.outer(rng.standard_normal(n), rng.standard_normal(k))
    x[rng.integers(0, n, 30), rng.integers(0, k, 30)] *= 20
    return x


def rounded(text: str, x: np.ndarray) -> tuple[Format, dict[str, np.ndarray], np.ndarray]:
    format = named(text)
    parts = encode(format, x, Fit())
    return format, parts, format.values(parts, x.shape)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("text", EVERY)
def test_text_and_memory_read_back(text):
    format, parts, _ = rounded(text, weight())
    assert named(str(format)) == format
    assert set(parts) == {c.name for c in format.components((70, 150))}
    layout = default_layout(format, (70, 150))
    assert isinstance(layout, Each)
    arrays = layout.pack(format, parts, (70, 150))
    assert len(arrays) == layout.arrays(format, (70, 150))
    back = layout.unpack(format, arrays, (70, 150))
    assert back.keys() == parts.keys()
    for name, value in parts.items():
        np.testing.assert_array_equal(back[name], value)
        assert layout.place(format, (70, 150), name).array < len(arrays)


def test_a_sum_is_the_sum_of_its_parts():
    x = weight()
    format, parts, values = rounded(GEAR, x)
    assert isinstance(format, Plus)
    total = np.zeros(x.shape)
    for i, p in enumerate(format.parts):
        total = f32.round(total + p.values(part(parts, str(i)), x.shape))
    np.testing.assert_array_equal(values, total)


def test_each_part_makes_up_for_those_before():
    x = weight()
    plain = distance(rounded("int4<group=64>", x)[2], x)
    assert distance(rounded(SVDQUANT, x)[2], x) < 0.6 * plain
    two = distance(rounded("int2<group=64>", x)[2], x)
    gear = distance(rounded(GEAR, x)[2], x)
    assert gear < distance(rounded("plus<int2<group=64>, lowrank<4, f32>>", x)[2], x) < two


def test_low_rank_is_the_best_of_its_rank():
    x = weight()
    s = np.linalg.svd(x, compute_uv=False)
    for rank in (1, 7, 70, 90):
        _, parts, values = rounded(f"lowrank<{rank}, f32>", x)
        assert parts["left"].shape == (70, rank)
        tail = np.sqrt(np.square(s[rank:]).sum())
        assert abs(np.linalg.norm(values - x) - tail) < 1e-5 * s[0]


def test_outliers_are_the_largest_of_a_row():
    x = weight()
    _, parts, values = rounded("outliers<3, f32>", x)
    for row, kept in zip(np.abs(x), np.abs(values), strict=True):
        assert np.count_nonzero(kept) == 3
        assert kept[kept > 0].min() >= np.sort(row)[-3] * 0.999999
    assert (np.diff(parts["place"], axis=1) > 0).all()
    _, _, values = rounded("outliers<9, f32>", x[:, :4])  # a row has fewer than that
    np.testing.assert_allclose(values, x[:, :4], rtol=1e-7)


def test_a_permuted_weight_has_its_columns_elsewhere():
    x = weight()
    format, parts, values = rounded("permuted<int4<group=32>>", x)
    assert isinstance(format, Permuted)
    order = parts["order"]
    np.testing.assert_array_equal(parts["place"][order], np.arange(150))
    inner = format.inner.values(part(parts, "0"), x.shape)
    np.testing.assert_array_equal(values[:, order], inner)
    sizes = np.abs(x).max(0)[order]
    assert (np.diff(sizes) <= 0).all()
    x[:, ::7] *= 30  # columns of like size share scales, which helps the small ones
    small = np.arange(150) % 7 > 0
    plain, best = (
        rounded(t, x)[2][:, small] for t in ("int4<group=32>", "permuted<int4<group=32>>")
    )
    assert distance(best, x[:, small]) < 0.5 * distance(plain, x[:, small])


def test_mixed_rows_are_those_that_are_rounded_worst():
    x = weight()
    format, parts, values = rounded(MIXLLM, x)
    assert isinstance(format, Mixed)
    rows = np.concatenate([parts["0.rows"], parts["1.rows"]])
    assert len(parts["0.rows"]) == 7
    np.testing.assert_array_equal(np.sort(rows), np.arange(70))
    four = rounded("int4<group=64>", x)[2]
    np.testing.assert_array_equal(values[parts["1.rows"]], four[parts["1.rows"]])
    lost = np.square(four - x).sum(1)
    assert lost[parts["0.rows"]].min() >= lost[parts["1.rows"]].max()
    assert np.square(values - x).sum() < 0.75 * lost.sum()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plus<int4<group=64>>", "plus: expected at least two formats"),
        ("plus<int4<group=64>, f16>", "plus: a part is quantised and not composed itself, not f16"),
        (
            "plus<int4, plus<int4, int2>>",
            "plus: a part is quantised and not composed itself, not plus<",
        ),
        ("lowrank<0>", "lowrank: expected a rank of at least 1, not 0"),
        ("lowrank<x>", "lowrank: expected a whole number, not `x`"),
        ("lowrank<4, i8>", "lowrank: factors are f16, bf16 or f32, not i8"),
        ("lowrank", "lowrank: expected lowrank<RANK, f16>, not nothing"),
        ("outliers<0>", "outliers: expected at least 1 in a row, not 0"),
        ("outliers<4, half>", "outliers: expected f16, bf16 or f32, not `half`"),
        ("mixed<1, int8, int4>", "mixed: expected one row in 2 or more, not in 1"),
        ("mixed<4, int8>", "mixed: expected mixed<EVERY, FORMAT, FORMAT>, not 4, int8"),
        ("mixed<4, f16, int4>", "mixed: rows are quantised and not mixed themselves, not f16"),
        ("permuted<f16>", "permuted: columns are quantised and in one order, not f16"),
        ("permuted", "permuted: expected permuted<FORMAT>, not nothing"),
        ("lowrnk<4>", "did you mean `lowrank`?"),
    ],
)
def test_bad_formats(text, message):
    with pytest.raises(TileError) as e:
        named(text)
    assert message in str(e.value)


def test_what_is_no_matrix_or_not_finite():
    for format in (LowRank(2), Outliers(2)):
        with pytest.raises(TileError, match="expected a matrix, not 3 dimensions"):
            format.components((2, 3, 4))
    for text in EVERY:
        with pytest.raises(TileError, match="not finite"):
            rounded(text, np.full((4, 64), np.nan))
