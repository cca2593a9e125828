"""Coded exponents: every bit pattern comes back, and how few bits that takes."""

import ml_dtypes
import numpy as np
import pytest

from tilec.ir.coded import BLOCK, Coded, bits, fitted, of_bits
from tilec.ir.dtype import DType, bf16, f16, f32
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, encode
from tilec.ir.named import named
from tilec.ir.packing import Plain, default_layout
from tilec.ir.published import PUBLISHED

STORED = {bf16: ml_dtypes.bfloat16, f16: np.float16, f32: np.float32}
ELEMENTS = pytest.mark.parametrize("t", STORED, ids=str)


def patterns(x: np.ndarray) -> np.ndarray:
    """The bits of floats."""
    return x.view(f"u{x.itemsize}")


def normal(t: DType, *shape: int) -> np.ndarray:
    """The bits of a normal sample."""
    return patterns(np.random.default_rng(len(shape)).standard_normal(shape).astype(STORED[t]))


def every(t: DType) -> np.ndarray:
    """All patterns of 16 bits in some order; as many of 32, zeros, infinities and NaNs too."""
    rng = np.random.default_rng(0)
    if t.bits == 16:
        return rng.permutation(np.arange(1 << 16, dtype=np.uint16)).reshape(64, 1024)
    x = rng.integers(0, 1 << 32, (64, 1024), np.uint32)
    x[:, :8] = [0, 1 << 31, 1, 0x807FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFC12345]
    return x


def entropy(x: np.ndarray, t: DType) -> float:
    """Sign, mantissa and the entropy of exponents, which no codes of single exponents can beat."""
    exponent = x.astype(np.int64) >> t.mantissa & (1 << t.exponent) - 1
    share = np.bincount(exponent.reshape(-1)) / x.size
    share = share[share > 0]
    return 1 + t.mantissa - float((share * np.log2(share)).sum())


@ELEMENTS
def test_every_pattern_comes_back(t):
    """Subnormals, -0, infinities and every NaN too, as components and through memory."""
    x = every(t)
    format = fitted(x, t)
    parts = of_bits(format, x)
    np.testing.assert_array_equal(bits(format, parts, x.shape), x)
    back = Plain().unpack(format, Plain().pack(format, parts, x.shape), x.shape)
    np.testing.assert_array_equal(bits(format, back, x.shape), x)
    values = t.to_storage(format.values(parts, x.shape))
    infinity = (1 << t.exponent) - 1 << t.mantissa
    number = (x.astype(np.int64) & (1 << t.bits - 1) - 1) <= infinity
    np.testing.assert_array_equal(patterns(values)[number], x[number])
    assert np.isnan(values[~number].astype(float)).all()


@ELEMENTS
@pytest.mark.parametrize("shape", [(130, 300), (3, 5, 1100), (2049,), (1, 1)])
def test_a_normal_sample_comes_back(t, shape):
    x = normal(t, *shape)
    format = Coded(t)
    parts = of_bits(format, x)
    np.testing.assert_array_equal(bits(format, parts, shape), x)
    for c in format.components(shape):
        assert parts[c.name].shape == c.shape
    given = encode(format, x.view(STORED[t]).astype(float), Fit())
    for name, part in given.items():
        np.testing.assert_array_equal(part, parts[name], err_msg=name)


def element(format: Coded, parts: dict[str, np.ndarray], n: int, k: int) -> int:
    """The definition, one element at a time, in strings of bits."""
    t, code = format.element, int(parts["codes"][n, k])
    low = int(parts["low"][n, k])
    if code == (1 << format.width) - 1:
        return int(parts["escapes"][int(parts["start"][n, k // 256]) + low])
    rest = f"{low:08b}"
    if format.high:
        rest = f"{int(parts['high'][n, k]):0{format.high}b}" + rest
    exponent = f"{int(parts['table'][code]):0{t.exponent}b}"
    return int(rest[0] + exponent + rest[1:], 2)


@ELEMENTS
def test_elements_mean_what_the_format_says(t):
    x = normal(t, 5, 1500)
    format = Coded(t)
    parts = of_bits(format, x)
    assert (parts["codes"] == 7).any()
    want = [[element(format, parts, n, k) for k in range(1500)] for n in range(5)]
    np.testing.assert_array_equal(x, want)


def test_escapes_are_what_the_most_frequent_exponents_leave():
    x = normal(bf16, 9, 2500)
    parts = of_bits(Coded(), x)
    exponent = x >> 7 & 255
    count = np.bincount(exponent.reshape(-1), minlength=256)
    assert set(parts["table"]) == set(np.argsort(-count)[:7])
    escaped = ~np.isin(exponent, parts["table"])
    np.testing.assert_array_equal(parts["codes"] == 7, escaped)
    np.testing.assert_array_equal(parts["escapes"][: escaped.sum()], x[escaped])
    assert not parts["escapes"][escaped.sum() :].any()
    blocks = [row[k : k + BLOCK].sum() for row in escaped for k in range(0, 2500, BLOCK)]
    before = np.cumsum([0, *blocks[:-1]])
    np.testing.assert_array_equal(parts["start"].reshape(-1), before)


def test_bits_of_a_normal_sample():
    """Within one bit of the entropy: 8 of sign and mantissa, 3 of a code, 16 for each of 26 escapes
    in 1024 elements, and 32 for where those of 256 columns begin."""
    x = normal(bf16, 2048, 4096)
    format = fitted(x)
    assert format == Coded(bf16, 3, 26)
    assert format.bits(x.shape) / x.size == pytest.approx(8 + 3 + 26 / 64 + 32 / 256, abs=1e-4)
    assert entropy(x, bf16) == pytest.approx(10.545, abs=2e-3)
    assert format.bits(x.shape) / x.size < entropy(x, bf16) + 1
    assert Coded().bits(x.shape) / x.size == pytest.approx(11.75, abs=1e-4)
    assert fitted(normal(f16, 512, 4096), f16).bits((512, 4096)) / (512 * 4096) < 14.6


@ELEMENTS
def test_the_fitted_format_has_the_fewest_bits(t):
    for x in (normal(t, 40, 700), every(t), np.zeros_like(normal(t, 3, 5))):
        best = fitted(x, t)
        held = []
        for width in range(1, t.exponent + 1):
            for room in (1, 2, 8, best.room - 1, best.room, 300, 1024):
                try:
                    format = Coded(t, width, max(room, 1))
                    of_bits(format, x)
                    held.append(format.bits(x.shape))
                except TileError:
                    pass
        assert best.bits(x.shape) == min(held)


def test_numbers_round_to_the_element_and_no_further():
    x = np.array([[-0.0, 0.0, 1e-40, 1 + 2.0**-9, 1e300, -1e300, np.inf, -np.inf]])
    got = Coded().values(encode(Coded(), x, Fit()), x.shape)
    want = np.clip(x, -1e38, 1e38).astype(ml_dtypes.bfloat16).astype(float)
    want[0, 4:] = bf16.high, -bf16.high, np.inf, -np.inf
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(x))


def test_too_many_escapes():
    x = normal(bf16, 16, 1024)
    with pytest.raises(TileError) as e:
        of_bits(Coded(bf16, 2, 32), x)
    assert "elements have other exponents than the 3 most frequent" in str(e.value)
    assert "there is room for 512" in str(e.value)
    holds = named(str(e.value).split("hint: ")[1].removesuffix(" holds them"))
    assert isinstance(holds, Coded)
    np.testing.assert_array_equal(bits(holds, of_bits(holds, x), x.shape), x)


def test_a_block_of_escapes_only():
    """A byte numbers them all."""
    x = np.full((20, 4 * BLOCK), 0x3F80, np.uint16)
    x[3, BLOCK : 2 * BLOCK] = 0x4F80 + np.arange(BLOCK) % 128
    format = Coded(bf16, 1, 13)
    parts = of_bits(format, x)
    assert parts["low"][3, BLOCK : 2 * BLOCK].tolist() == list(range(BLOCK))
    np.testing.assert_array_equal(bits(format, parts, x.shape), x)
    x[9, :4] = 0x4F80  # as many as there is room for
    np.testing.assert_array_equal(bits(format, of_bits(format, x), x.shape), x)
    x[9, 4] = 0x4F80
    with pytest.raises(TileError, match=r"261 of 20480 elements .* room for 260"):
        of_bits(format, x)


def test_text_and_layout():
    for text in ("coded<bf16>", "coded<f16, 2, 100>", "coded<f32, 4>", "df11"):
        format = named(text)
        assert isinstance(format, Coded)
        assert named(str(format)) == format
        assert default_layout(format, (4, 4)) == Plain()
    assert str(named("coded<bf16>")) == "coded<bf16, 3, 40>"
    assert named("df11").value == bf16
    with pytest.raises(TileError, match="df11 takes no options: it is coded<bf16>"):
        named("df11<group=4>")


def test_published_formats():
    for name in ("df11", "fp6_llm"):
        format = named(name)
        assert named(str(format)) == format
        assert PUBLISHED[name].source
        x = np.random.default_rng(2).standard_normal((64, 512))
        got = format.values(encode(format, x, Fit()), x.shape)
        assert np.linalg.norm(got - x) < 0.06 * np.linalg.norm(x)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("coded<i8>", "coded: elements are bf16, f16 or f32, not i8"),
        ("coded<half>", "coded: expected f16, bf16 or f32, not `half`"),
        ("coded<bf16, 9>", "coded: a code of an exponent of bf16 has 1 to 8 bits, not 9"),
        ("coded<f16, 6>", "coded: a code of an exponent of f16 has 1 to 5 bits, not 6"),
        ("coded<bf16, 3, 0>", "coded: expected room for 1 to 1024 escapes for every 1024 elements"),
        ("coded<bf16, x>", "coded: expected a whole number, not `x`"),
        ("coded", "coded: expected coded<bf16, WIDTH, ROOM>, not nothing"),
        ("codet<bf16>", "did you mean `coded`?"),
    ],
)
def test_bad_formats(text, message):
    with pytest.raises(TileError) as e:
        named(text)
    assert message in str(e.value)


def test_tensors_that_have_no_such_format():
    with pytest.raises(TileError, match="has NaNs, whose bits no number keeps"):
        encode(Coded(), np.array([[1.0, np.nan]]), Fit())
    with pytest.raises(TileError, match="at least one dimension, not a scalar"):
        Coded().components(())
