"""Scaled formats: their values on every code, their rounding, their text, and what they refuse."""

from fractions import Fraction

import numpy as np
import pytest
from formats import scaled as read
from formats import zeros_of

from tilec.ir.dtype import f16, f32
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, encode
from tilec.ir.named import QUANTISED, named, scaled
from tilec.ir.scaled import Scaled

NAMES = sorted(QUANTISED)
BLOCKS = ("tensor", "channel", "group=3")


def rounded(x: Fraction) -> Fraction:
    """The f32 nearest to an exact number, by numpy's conversion of a double that holds it."""
    assert Fraction(float(x)) == x
    return Fraction(float(np.float32(float(x))))


def meaning(format: Scaled, code: int, scale: float, zero: float) -> float:
    """The documented formula in exact arithmetic, with a rounding where it says."""
    s, z = Fraction(scale), Fraction(zero)
    mid = 2 ** (format.codes.bits - 1) if format.codes.kind == "uint" else 0
    match format.zero:
        case "none":
            return float(rounded(code * s))
        case "mid":
            return float(rounded((code - mid) * s))
        case "int" | "float":
            return float(rounded(rounded(code - z) * s))
        case "shift":
            return float(rounded(rounded((code - mid) * s) + z))
        case "min":
            return float(rounded(rounded(code * s) + z))


@pytest.mark.parametrize("name", NAMES)
def test_every_code_means_what_the_formula_says(name):
    t = QUANTISED[name]().codes
    low, high = int(t.low), int(t.high)
    codes = np.arange(low, high + 1)
    for zero in zeros_of(name):
        format = read(f"{name}<channel, scale=f16, zero={zero}>")
        scales = np.asarray([0.37, -1.5, 6e-8, 65504.0]).astype(np.float16).astype(float)
        zeros = {"int": np.asarray([low, high, high, low])}.get(
            zero, np.asarray([0.3, -2.25, 1e-7, 7.0]).astype(np.float16).astype(float)
        )
        parts = {"codes": np.tile(codes, (4, 1)), "scale": scales, "zero": zeros}
        got = format.values(parts, (4, len(codes)))
        want = [[meaning(format, int(c), s, z) for c in codes]
                for s, z in zip(scales, zeros, strict=True)]  # fmt: skip
        assert np.array_equal(got, want), format


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("name", NAMES)
def test_codes_are_the_nearest(name, block):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5, 10)) + 0.2
    for zero in zeros_of(name):
        format = read(f"{name}<{block}, scale=f32, zero={zero}>")
        parts = encode(format, x, Fit())
        got = np.abs(format.values(parts, x.shape) - x)
        for code in range(int(format.codes.low), int(format.codes.high) + 1):
            other = dict(parts, codes=np.full(x.shape, code))
            assert (got <= np.abs(format.values(other, x.shape) - x) + 1e-6).all(), (format, code)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_is_never_worse(name):
    x = np.random.default_rng(2).standard_normal((4, 64))
    for zero in zeros_of(name):
        format = read(f"{name}<group=16, scale=f32, zero={zero}>")
        plain, best = (
            np.square(format.values(encode(format, x, Fit(search)), x.shape) - x)
            .reshape(4, 4, 16)
            .sum(-1)
            for search in (False, True)
        )
        assert (best <= plain * (1 + 1e-5)).all()
        if name in ("int2", "int3", "uint2", "uint3"):  # of more bits, the whole range is best
            assert best.sum() < plain.sum()


def test_wide_codes_are_close():
    x = np.random.default_rng(3).standard_normal((64, 256))
    for name, most in (("int8", 0.006), ("int4", 0.09), ("int3", 0.2), ("int2", 0.45)):
        format = QUANTISED[name](group=32)
        error = format.values(encode(format, x, Fit(True)), x.shape) - x
        assert np.linalg.norm(error) < most * np.linalg.norm(x), name


def test_constant_and_zero_blocks():
    for zero in ("none", "int", "float", "shift"):
        format = read(f"int4<group=8, zero={zero}, scale=f32>")
        for value in (0.0, 1.5, -1.5):
            x = np.full((2, 16), value)
            got = format.values(encode(format, x, Fit()), x.shape)
            assert np.allclose(got, x, rtol=1e-6), (zero, value)


@pytest.mark.parametrize(
    "text",
    [
        "int4<group=128, scale=f16>",
        "uint4<group=128, scale=f16, zero=int>",
        "uint3<channel, scale=bf16, zero=none>",
        "int1<tensor, scale=f32, zero=shift>",
        "uint8<group=7, scale=f32>",
    ],
)
def test_text_reads_back(text):
    assert str(named(text)) == text


def test_defaults():
    assert str(named("int4")) == "int4<channel, scale=f16>"
    assert named("uint4") == named("uint4<channel, zero=mid>")
    assert named(" int4 < group = 32 , scale = f32 > ") == QUANTISED["int4"](32, scale=f32)
    assert QUANTISED["int4"](block="tensor") == named("int4<tensor>")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("int9", "no format is called `int9`"),
        ("imt4", "did you mean `int4`?"),
        ("f16<group=32>", "`f16` takes no options"),
        (
            "int4<grup=32>",
            "int4 has no option `grup`; it has group, scale, zero, zeros, rows, channel, tensor",
        ),
        ("int4<group=0>", "a group has at least 1 element, not 0"),
        ("int4<group=x>", "int4: group is `x`, expected a whole number"),
        ("int4<scale=i8>", "int4: a scale is f16, bf16, f32, e8m0 or a scaled format, not i8"),
        ("int4<scale=half>", "int4: scale is `half`, expected f16, bf16, f32, e8m0 or"),
        ("int4<zero=mid>", "signed codes have their middle at 0"),
        ("int4<zero=maybe>", "int4: no zero is called 'maybe'; there are none, mid, int"),
        ("int4<group=32, channel>", "expected a group or a block, not both"),
        ("int4<group=32, group=64>", "int4: `group` is given twice"),
    ],
)
def test_bad_formats(text, message):
    with pytest.raises(TileError) as e:
        named(text)
    assert message in str(e.value)


def test_refuses_what_has_no_code():
    int4 = QUANTISED["int4"](group=4)
    for bad in (np.nan, np.inf):
        with pytest.raises(TileError, match="not finite"):
            encode(int4, np.asarray([[1.0, bad]]), Fit())
    with pytest.raises(TileError, match="out of the range of f16"):
        encode(int4, np.full((1, 4), 1e-9) * [1, 2, 3, 4], Fit())
    with pytest.raises(TileError, match="out of the range of f16"):
        encode(int4, np.full((1, 4), 1e9), Fit())
    with pytest.raises(TileError, match="codes of 1 to 8 bits, not f16"):
        scaled(f16)
    with pytest.raises(TileError, match="at least one dimension"):
        int4.components(())
