"""Planes: codes of every type taken apart at every place and put together again."""

from itertools import pairwise

import numpy as np
import pytest
from formats import PUBLISHED_SCALED, random_parts, scaled

from tilec.ir.bits import from_raw, raw
from tilec.ir.codes import CODES
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, encode
from tilec.ir.named import QUANTISED, named
from tilec.ir.packing import Each, Plain, default_layout
from tilec.ir.planes import Planes
from tilec.ir.scaled import Scaled

ELEMENTS = sorted([*QUANTISED, *(n for n in CODES if n != "e8m0"), "e4m3", "e5m2"])


def splits(bits: int) -> list[tuple[int, ...]]:
    """Every way to cut so many bits into planes."""
    cuts = [[i + 1 for i in range(bits - 1) if chosen >> i & 1] for chosen in range(1 << bits - 1)]
    return [tuple(b - a for a, b in pairwise([0, *c, bits])) for c in cuts]


@pytest.mark.parametrize("name", ELEMENTS)
def test_every_code_in_every_split(name):
    """Plane after plane holds the bits of the code, the lowest first."""
    inner = scaled(f"{name}<channel, scale=f32>")
    bits = inner.codes.bits
    every = np.arange(1 << bits)
    if name == "e5m2":  # whose NaNs are one in numpy
        every = every[np.isfinite(from_raw(inner.codes, every))]
    parts = {"codes": from_raw(inner.codes, every)[None], "scale": np.array([0.75])}
    want = inner.values(parts, (1, len(every)))
    for widths in splits(bits):
        format = Planes(inner, widths)
        apart = format.apart(parts)
        text = ["".join(f"{int(apart[f'plane{i}'][0, at]):0{w}b}"
                        for i, w in reversed(list(enumerate(widths))))
                for at in range(len(every))]  # fmt: skip
        assert text == [f"{c:0{bits}b}" for c in every]
        joined = format.joined(apart)
        np.testing.assert_array_equal(raw(inner.codes, joined["codes"])[0], every)
        got = format.values(apart, (1, len(every)))
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(np.signbit(got), np.signbit(want))


@pytest.mark.parametrize("name", PUBLISHED_SCALED)
def test_the_numbers_are_those_of_the_scaled_format(name):
    """Rounded alike, stored in as many bits, and back through memory."""
    inner, shape = scaled(name), (24, 512)
    widths = {3: "2, 1", 4: "3, 1", 5: "4, 1", 6: "4, 2", 7: "4, 2, 1"}.get(inner.codes.bits)
    format = named(f"planes<{name}, {widths}>" if widths else f"planes<{name}>")
    assert isinstance(format, Planes)
    assert named(str(format)) == format
    assert (format.value, format.group) == (inner.value, inner.group)
    x = np.random.default_rng(1).standard_normal(shape)
    plain, parts = (encode(f, x, Fit()) for f in (inner, format))
    np.testing.assert_array_equal(format.values(parts, shape), inner.values(plain, shape))
    joined = format.joined(parts)
    assert joined.keys() == plain.keys()
    for c in inner.components(shape):
        np.testing.assert_array_equal(joined[c.name], plain[c.name], err_msg=c.name)
    assert format.bits(shape) == inner.bits(shape)
    layout = default_layout(format, shape)
    assert layout == Plain()
    back = layout.unpack(format, layout.pack(format, parts, shape), shape)
    assert back.keys() == {c.name for c in format.components(shape)}
    for c in format.components(shape):
        np.testing.assert_array_equal(back[c.name], parts[c.name], err_msg=c.name)


def test_text():
    for text, widths in (("planes<int3<group=64>>", (1, 1, 1)), ("planes<int2, 1, 1>", (1, 1)),
                         ("planes(uint7, 4,2,1)", (4, 2, 1)), ("planes<nf4<tensor>, 4>", (4,)),
                         ("fp6_llm", (4, 2))):  # fmt: skip
        format = named(text)
        assert isinstance(format, Planes)
        assert format.widths == widths
        assert named(str(format)) == format
    assert str(named("planes<int3, 1, 1, 1>")) == "planes<int3<channel, scale=f16>>"
    assert str(named("fp6_llm")) == "planes<e3m2<channel, scale=f16>, 4, 2>"


def test_tensors_of_other_ranks_and_parts_of_sums():
    inner = scaled("uint5<group=32, zero=int>")
    format = Planes(inner, (4, 1))
    for shape in ((2, 5, 70), (70,)):
        parts = format.apart(random_parts(inner, shape))
        assert [c.shape for c in format.components(shape)][:2] == [shape, shape]
        np.testing.assert_array_equal(
            format.values(parts, shape), inner.values(format.joined(parts), shape)
        )
    for text in ("plus<planes<int3<group=32>>, lowrank<2>>", "permuted<planes<fp6, 4, 2>>",
                 "mixed<5, planes<uint8, 4, 4>, planes<int3>>"):  # fmt: skip
        whole, x = named(text), np.random.default_rng(2).standard_normal((20, 70))
        assert isinstance(default_layout(whole, x.shape), Each)
        alone = named(text.replace("planes<int3<group=32>>", "int3<group=32>")
                      .replace("planes<fp6, 4, 2>", "fp6").replace("planes<uint8, 4, 4>", "uint8")
                      .replace("planes<int3>", "int3"))  # fmt: skip
        got, want = (f.values(encode(f, x, Fit()), x.shape) for f in (whole, alone))
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("planes<f16>", "planes: expected a scaled format, whose codes have bits, not f16"),
        ("planes<coded<bf16>>", "planes: expected a scaled format, whose codes have bits, not"),
        ("planes<int4, 3, 2>", "planes: expected widths that add up to the 4 bits of i4, not 3, 2"),
        ("planes<int4, 4, 0>", "planes: expected widths that add up to the 4 bits of i4, not 4, 0"),
        ("planes<int4, 3, x>", "planes: expected a whole number, not `x`"),
        ("planes<int4, >", "planes: expected a whole number, not ``"),
        ("planes", "planes: expected planes<FORMAT, WIDTH, WIDTH, ...>, not nothing"),
        ("plane<int4>", "did you mean `planes`?"),
        ("fp6_llm<group=32>", "fp6_llm takes no options: it is planes<fp6, 4, 2>"),
    ],
)
def test_bad_formats(text, message):
    with pytest.raises(TileError) as e:
        named(text)
    assert message in str(e.value)


def test_what_does_not_round():
    with pytest.raises(TileError, match="not finite"):
        encode(named("planes<int4>"), np.full((2, 8), np.inf), Fit())
    assert isinstance(named("int4"), Scaled)
