"""Learnt codebooks: what they mean, how they are learnt, and how they lie in memory."""

import numpy as np
import pytest

from tilec.ir.codebook import Codebook, learnt
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, encode
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.ir.packing import Each, Plain, default_layout
from tilec.ir.published import PUBLISHED

NUMBERS = ["codebook<1>", "codebook<4>", "codebook<4, rows=1>", "codebook<3, rows=4, table=f32>",
           "codebook<5, columns=64>", "codebook<8, rows=2, columns=48, table=bf16>",
           "codebook<4, group=64>", "codebook<2, rows=1, channel, scale=f32>",
           "codebook<6, rows=3, columns=100, group=32, scale=e8m0>"]  # fmt: skip
VECTORS = ["codebook<4, vector=2>", "codebook<8, vector=4>", "codebook<10, vector=8, channel>",
           "codebook<6, vector=2, rows=8, columns=64, group=30, scale=bf16>",
           "codebook<9, vector=4, rows=10, table=bf16>"]  # fmt: skip
EVERY = [*NUMBERS, *VECTORS]
SHAPE = (30, 301)  # a row ends inside vectors, groups and blocks


def sample(n: int = 30, k: int = 301) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, k))


def rounded(text: str, x: np.ndarray, search: bool = False
            ) -> tuple[Format, dict[str, np.ndarray], np.ndarray]:  # fmt: skip
    format = named(text)
    parts = encode(format, x, Fit(search))
    return format, parts, format.values(parts, x.shape)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("text", EVERY)
def test_text_and_memory_read_back(text):
    format, parts, values = rounded(text, sample())
    assert named(str(format)) == format
    assert {c.name for c in format.components(SHAPE)} == set(parts)
    layout = default_layout(format, SHAPE)
    assert layout == Plain()
    back = layout.unpack(format, layout.pack(format, parts, SHAPE), SHAPE)
    for c in format.components(SHAPE):
        assert parts[c.name].shape == c.shape
        np.testing.assert_array_equal(back[c.name], parts[c.name], err_msg=c.name)
    np.testing.assert_array_equal(np.float32(values), values)


def test_texts_that_mean_the_same():
    for text, same in (("codebook<4, channel>", "codebook<4, scale=f16>"),
                       ("codebook(4, columns=32)", "codebook<4, rows=1, columns=32>"),
                       ("codebook<4, vector=1, table=f16>", "codebook<4>")):  # fmt: skip
        assert named(text) == named(same)
    assert str(named("codebook<4>")) == "codebook<4>"
    for name in ("squeezellm", "flute"):
        assert str(named(name)) == PUBLISHED[name].text
    with pytest.raises(TileError, match="squeezellm takes no options"):
        named("squeezellm<3>")


def test_bits_of_a_weight():
    """4 bits, and 16 entries of 16 bits a row of 4096; a vector's code is for all its elements."""
    shape = (4096, 4096)
    for text, bits in (("codebook<4, rows=1>", 4 + 16 * 16 / 4096),
                       ("codebook<3, group=128>", 3 + 16 / 128 + 8 * 16 / 4096**2),
                       ("codebook<8, vector=4, table=f32>", 2 + 256 * 4 * 32 / 4096**2),
                       ("codebook<12, vector=8>", 1.5 + 4096 * 8 * 16 / 4096**2)):  # fmt: skip
        assert named(text).bits(shape) == bits * 4096**2


def element(format: Codebook, parts: dict[str, np.ndarray], n: int, k: int) -> float:
    """The definition, one element at a time, in f32."""
    code = int(parts["codes"][n, k // format.length])
    if format.width > 8:
        code += 256 * int(parts["high"][n, k // format.length])
    across, rows, columns = 1, format.tables.rows, format.tables.columns
    if columns is not None:
        across = -(-SHAPE[1] // columns)
    table = 0 if rows is None else n // rows * across + (k // columns if columns else 0)
    place = (table * format.entries + code) * format.length + k % format.length
    entry = np.float32(parts["table"][place])
    if format.block is None:
        return float(entry)
    group = format.block.columns
    scale = parts["scale"][n] if group is None else parts["scale"][n, k // group]
    return float(entry * np.float32(scale))


@pytest.mark.parametrize("text", EVERY)
def test_codebooks_mean_what_they_say(text):
    """Beside random components too, so that every bit of a code counts."""
    format, parts, values = rounded(text, sample())
    assert isinstance(format, Codebook)
    rng = np.random.default_rng(0)
    drawn = {c.name: rng.integers(0, 1 << c.dtype.bits, parts[c.name].shape)
             if c.dtype.kind == "uint" else c.dtype.round(rng.standard_normal(parts[c.name].shape))
             for c in format.components(SHAPE)}  # fmt: skip
    for own, got in ((parts, values), (drawn, format.values(drawn, SHAPE))):
        want = [[element(format, own, n, k) for k in range(SHAPE[1])] for n in range(SHAPE[0])]
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("text", EVERY)
def test_the_code_is_that_of_the_nearest_entry(text):
    """Of all entries of the table that the block has, none is nearer; each is tried."""
    x = sample()
    format, parts, values = rounded(text, x)
    assert isinstance(format, Codebook)
    for other in range(0, format.entries, max(1, format.entries // 16)):
        codes = {"codes": np.full_like(parts["codes"], other & 255)}
        codes |= {"high": np.full_like(parts["codes"], other >> 8)} if "high" in parts else {}
        away, own = (np.square(v - x)
                     for v in (format.values(parts | codes, x.shape), values))  # fmt: skip
        ends = range(0, SHAPE[1], format.length)
        away, own = (np.add.reduceat(a, ends, axis=1) for a in (away, own))
        assert (own <= away * (1 + 1e-6) + 1e-12).all()


@pytest.mark.parametrize("text", EVERY)
def test_tensors_of_other_ranks(text):
    x = sample().reshape(2, 15, 301)
    for one in (x, x[0, 0]):
        if one.ndim == 1 and (named(text).tables.rows or 1) > 1:  # type: ignore[attr-defined]
            with pytest.raises(TileError, match="need a matrix"):
                rounded(text, one)
            continue
        format, parts, values = rounded(text, one)
        assert values.shape == one.shape
        for c in format.components(one.shape):
            assert parts[c.name].shape == c.shape
    single = named("codebook<4, rows=1>")
    whole = encode(single, x, Fit())
    apart = [encode(single, m, Fit()) for m in x]
    for name in whole:
        want = np.concatenate([p[name] for p in apart])
        np.testing.assert_array_equal(whole[name].reshape(want.shape), want)


# -- learning --


@pytest.mark.parametrize("search", [False, True])
@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("codebook<4, rows=1>", "nf4<channel>"),
        ("codebook<4, group=64>", "nf4<group=64>"),
        ("codebook<4, group=128>", "nf4<group=128>"),
        ("codebook<3, rows=1>", "nf3<channel>"),
        ("codebook<2, group=64>", "int2<group=64>"),
        ("codebook<6, vector=2>", "nf3<channel>"),
    ],
)
def test_errors_on_a_normal_sample(text, other, search):
    """At most those of fixed tables of as many bits, which are made for this distribution."""
    x = np.random.default_rng(3).standard_normal((32, 1024))
    assert distance(rounded(text, x, search)[2], x) < distance(rounded(other, x, search)[2], x)


def test_what_a_codebook_is_for():
    """Rows that are not alike, or have outliers."""
    rng = np.random.default_rng(4)
    x = rng.standard_t(3, (32, 512)) * rng.uniform(0.1, 10, (32, 1))
    own = distance(rounded("codebook<4, rows=1>", x)[2], x)
    assert own < 0.7 * distance(rounded("nf4<channel>", x, True)[2], x)
    assert own < 0.7 * distance(rounded("codebook<4>", x)[2], x)


@pytest.mark.parametrize("text", [t for t in EVERY if "scale" not in str(named(t))])
def test_values_of_a_codebook_round_to_themselves(text):
    """As many different entries as there are codes lose nothing, in every block."""
    format, rng, shape = named(text), np.random.default_rng(5), (30, 304)
    parts = {}
    for c in format.components(shape):
        whole = c.dtype.kind == "uint"
        size = tuple(int(str(d)) for d in c.shape)
        drawn = rng.integers(0, 1 << c.dtype.bits, size) if whole else rng.integers(-50, 50, size)
        parts[c.name] = drawn if whole else drawn / 8.0
    x = format.values(parts, shape)
    np.testing.assert_array_equal(rounded(text, x)[2], x)


def test_weights_say_whose_errors_count():
    x, weight = sample(8, 400), np.ones((8, 400))
    x[:, ::4] *= 0.2
    weight[:, ::4] = 100.0
    for text in ("codebook<3, rows=1>", "codebook<3, rows=1, group=40>", "codebook<7, vector=2>"):
        format = named(text)
        assert isinstance(format, Codebook)
        for search in (False, True):
            plain, own = (
                format.values(learnt(format, x, w, Fit(search)), x.shape)
                for w in (np.ones(x.shape), weight)
            )
            assert distance(own[:, ::4], x[:, ::4]) < 0.8 * distance(plain[:, ::4], x[:, ::4])
            assert np.square(own - x).sum() > np.square(plain - x).sum()


@pytest.mark.parametrize("search", [False, True])
def test_blocks_with_large_scales_shape_the_table(search):
    """Errors count as they are in the tensor, not beside their scale."""
    rng = np.random.default_rng(6)
    large, small = rng.standard_normal((4, 512)), rng.random((60, 512)) ** 4 * 1e-3
    x = np.concatenate([large, small])
    alone, among = (distance(rounded("codebook<3, group=32>", a, search)[2], a) for a in (large, x))
    assert among < 1.02 * alone


def test_padding_does_not_count():
    """The table of the last columns is what it is for these alone."""
    x = sample(7, 70)
    for text in ("codebook<1, rows=3", "codebook<1, vector=2, rows=3"):
        tables = encode(named(f"{text}, columns=64>"), x, Fit())["table"].reshape(3, 2, -1)
        tail = encode(named(f"{text}>"), x[:, 64:], Fit())["table"].reshape(3, -1)
        np.testing.assert_allclose(tables[:, 1], tail)


def test_a_search_fits_scales_and_tables_to_one_another():
    x = sample(16, 512)
    for text in ("codebook<3, group=32>", "codebook<3, group=32, scale=f32>"):
        assert distance(rounded(text, x, True)[2], x) < 0.99 * distance(rounded(text, x)[2], x)
    again = rounded("codebook<3, group=32>", x, True)[1]
    for name, part in rounded("codebook<3, group=32>", x.copy(), True)[1].items():
        np.testing.assert_array_equal(part, again[name])


def test_sums_of_codebooks():
    """AQLM's two: the second takes what the first left."""
    x = sample(64, 256)
    one = rounded("codebook<6, vector=4>", x)[2]
    format, parts, two = rounded("plus<codebook<6, vector=4>, codebook<6, vector=4>>", x)
    assert distance(two, x) < 0.65 * distance(one, x)
    assert isinstance(default_layout(format, x.shape), Each)
    assert {"0.codes", "0.table", "1.codes", "1.table"} == set(parts)


@pytest.mark.parametrize("text", EVERY)
def test_zeros(text):
    assert not rounded(text, np.zeros((3, 50)))[2].any()
    x = np.zeros((3, 50))
    x[1, 7] = 2.0
    values = rounded(text, x)[2]
    assert values[1, 7] == 2.0
    assert np.count_nonzero(values) == 1


# -- what is refused --


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codebook", "codebook: expected codebook<BITS, vector=LENGTH, rows=N"),
        ("codebook<x>", "codebook: expected a whole number, not `x`"),
        ("codebook<0>", "codebook: codes of numbers have 1 to 8 bits, not 0"),
        ("codebook<9>", "codebook: codes of numbers have 1 to 8 bits, not 9"),
        ("codebook<17, vector=8>", "codebook: codes of vectors have 1 to 16 bits, not 17"),
        ("codebook<4, vector=3>", "codebook: a vector has 2, 4, 8 elements, not 3"),
        ("codebook<4, vector=4, columns=6>", "a table is for a multiple of 4 columns, not 6"),
        ("codebook<4, row=1>", "did you mean `rows`?"),
        ("codebook<4, rows=1, rows=2>", "codebook: `rows` is given twice"),
        ("codebook<4, rows=0>", "a block has rows: at least 1 element, not 0"),
        ("codebook<4, group=8, channel>", "codebook: expected a group or a channel, not both"),
        ("codebook<4, table=i8>", "codebook: entries are floats of at most 32 bits, not i8"),
        ("codebook<4, table=f64>", "codebook: entries are floats of at most 32 bits, not f64"),
        ("codebook<4, scale=u4>", "codebook: scales are floats of at most 32 bits, not u4"),
        ("codebok<4>", "did you mean `codebook`?"),
    ],
)
def test_bad_formats(text, message):
    with pytest.raises(TileError) as e:
        named(text)
    assert message in str(e.value)


def test_tensors_that_have_no_such_format():
    with pytest.raises(TileError, match="at least one dimension, not a scalar"):
        named("codebook<4>").components(())
    for text in EVERY:
        with pytest.raises(TileError, match="not finite"):
            rounded(text, np.full((4, 64), np.nan))
    for size in (1e9, 1e-12):
        with pytest.raises(TileError, match=r"a table whose largest entry is .* of f16"):
            rounded("codebook<4>", sample() * size)
        with pytest.raises(TileError, match=r"the scale of a block .* out of the range of f16"):
            rounded("codebook<4, group=64>", sample() * size)
        assert (
            distance(rounded("codebook<4, table=f32>", sample() * size)[2], sample() * size) < 0.1
        )
