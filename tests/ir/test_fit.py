"""Rounding to scaled formats: the published rules for scales, two levels, and what has no code."""

import math

import numpy as np
import pytest
from formats import PUBLISHED_SCALED

from tilec.ir import fit
from tilec.ir.codes import CODES
from tilec.ir.dtype import e4m3
from tilec.ir.errors import TileError
from tilec.ir.fit import Fit, Rule, encode
from tilec.ir.named import named
from tilec.ir.published import PUBLISHED
from tilec.ir.scaled import Scaled


def fitted(text: str, x, search: bool = False, rule: Rule = "range"):
    format = named(text)
    parts = encode(format, np.asarray(x, float), Fit(search, rule))
    return parts, format.values(parts, np.shape(x))


def power(rule: str, most: float, high: float, emax: int, digits: int) -> float:
    """The four rules as they are written down, in doubles far from their edges."""
    match rule:
        case "floor":
            return 2.0 ** (math.floor(math.log2(most)) - emax)
        case "ceil":
            return 2.0 ** (math.ceil(math.log2(most)) - emax)
        case "rceil":
            return 2.0 ** math.ceil(math.log2(most / high))
        case _:
            exponent = math.floor(math.log2(most))
            rounded = math.floor(most / 2.0**exponent * 2**digits + 0.5) / 2**digits
            return 2.0 ** (exponent + (rounded >= 2) - emax)


@pytest.mark.parametrize("rule", ["floor", "ceil", "rceil", "even"])
@pytest.mark.parametrize(
    ("name", "emax", "digits"),
    [("e2m1", 2, 1), ("e3m2", 4, 2), ("e2m3", 2, 3), ("e4m3", 8, 3), ("e5m2", 15, 2)],
)
def test_microscaling_rules(name, emax, digits, rule):
    high = float({"e4m3": e4m3.high, "e5m2": 57344.0}.get(name) or CODES[name].high)
    tops = np.random.default_rng(0).uniform(1e-6, 1e6, 300)
    parts, _ = fitted(f"{name}<group=2, scale=e8m0>", np.stack([tops, -tops / 3], 1), False, rule)
    want = [power(rule, float(t), high, emax, digits) for t in tops]
    np.testing.assert_array_equal(parts["scale"][:, 0], want)


def test_microscaling_rules_differ_where_the_mantissa_is_large():
    rules: list[Rule] = ["floor", "ceil", "rceil", "even"]
    sevens = np.full((1, 32), 7.0)
    scales = [float(fitted("mxfp4", sevens, False, r)[0]["scale"][0, 0]) for r in rules]
    assert scales == [1, 2, 2, 2]
    assert float(fitted("mxfp4", np.full((1, 32), 4.0), False, "ceil")[0]["scale"][0, 0]) == 1
    parts, values = fitted("mxfp4", np.zeros((1, 32)))
    assert parts["scale"][0, 0] == 2.0**-127
    assert not values.any()


def test_nvfp4_has_a_scale_for_the_tensor():
    x = np.random.default_rng(1).standard_normal((8, 64)) * 3
    parts, values = fitted("nvfp4", x)
    top = np.float32(np.abs(x).max() / 6 / 448)
    assert parts["scale.scale"] == top
    blocks = np.abs(x.reshape(8, 4, 16)).max(-1) / 6
    np.testing.assert_array_equal(parts["scale.codes"], e4m3.round(blocks / top, saturate=True))
    assert np.linalg.norm(values - x) < 0.1 * np.linalg.norm(x)


@pytest.mark.parametrize("name", PUBLISHED_SCALED)
def test_published_formats(name):
    """The text reads back, and rounding is about as good as the bits allow."""
    format = named(name)
    assert isinstance(format, Scaled)
    assert named(str(format)) == format
    assert PUBLISHED[name].source
    x = np.random.default_rng(2).standard_normal((64, 512))
    plain, best = (
        np.linalg.norm(fitted(name, x, s)[1] - x) / np.linalg.norm(x) for s in (False, True)
    )
    assert best <= plain * 1.01  # a search is over scales before they are rounded themselves
    assert best < 2.2 * 2.0 ** (0.35 - format.codes.bits) or best < 0.06


def test_options_replace_those_of_a_published_name():
    assert named("gptq<group=64>") == named("uint4<group=64, scale=f16, zero=int>")
    assert named("gptq(channel)") == named("uint4<channel, scale=f16, zero=int>")
    assert named("mxfp4<scale=f32>") == named("e2m1<group=32, scale=f32>")


@pytest.mark.parametrize(
    "name", ["onebit", "int1<group=64, scale=f32>", "int2<group=64, scale=f32>"]
)
def test_a_search_ends_at_least_squares(name):
    """No scale that is a little larger or smaller would be nearer, given the codes."""
    x = np.random.default_rng(3).standard_normal((16, 256))
    format = named(name)
    assert isinstance(format, Scaled)
    parts, values = fitted(name, x, True)
    error = np.square(values - x).sum()
    for factor in (0.99, 1.01):
        other = format.values(parts | {"scale": parts["scale"] * factor}, x.shape)
        assert np.square(other - x).sum() > error * 0.9999


@pytest.mark.parametrize("search", [False, True])
def test_scales_without_a_sign_are_not_negative(search):
    """Codes from -8 to 7: a scale of either sign is nearer, but here it can't be stored."""
    x = np.random.default_rng(4).standard_normal((16, 256))
    plain, coded = (
        fitted(f"int4<group=32, scale={s}>", x, search)[1]
        for s in ("f32", "uint8<group=8, scale=f32, zero=none>")
    )
    assert np.linalg.norm(coded - x) < 1.15 * np.linalg.norm(plain - x)


def test_scales_that_are_too_small_or_large():
    for text, value in (("int4<group=4, scale=f16>", 1e-9), ("int4<group=4, scale=f16>", 1e9),
                        ("e4m3<channel, scale=f16>", 1e9)):  # fmt: skip
        with pytest.raises(TileError, match="out of the range of"):
            fitted(text, np.full((1, 4), value) * [1, 2, 3, 4])
    _, values = fitted("int4<group=4, scale=e8m0>", np.full((1, 4), 1e38) * [1, -1, 0.5, 0])
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("e8m0<group=32>", "it is for scales, not codes"),
        ("f16<group=32>", "takes no options"),
        ("int4<group=32, scale=i8>", "a scale is f16, bf16, f32, e8m0 or a scaled format, not i8"),
        ("int4<group=32, zeros=f16>", "int4: zero=none stores no zeros"),
        ("e2m1<zero=int>", "codes that are no integers have no integer zero"),
        ("int4<tensor, scale=int8<tensor>>", "one scale for the whole tensor can't be scaled"),
        ("int4<tensor, rows=4>", "expected a group or a block, not both"),
        ("int4<rows=0, group=4>", "int4: a rows has at least 1 element, not 0"),
        ("int4<group=32, scale=int8<grup=4>>", "int8 has no option `grup`"),
        ("nvpf4", "did you mean `nvfp4`"),
    ],
)
def test_bad_formats(text, message):
    with pytest.raises(TileError) as e:
        named(text).components((8, 8))
    assert message in str(e.value)


def test_an_unknown_rule():
    with pytest.raises(
        TileError, match="no rule for scales is called 'up'; there are range, floor"
    ):
        Fit(rule="up")  # type: ignore[arg-type]


def test_blocks_of_rows_need_a_matrix():
    with pytest.raises(TileError, match="blocks of 128 rows need a matrix"):
        named("fp8_block").components((8,))


PIECEWISE = ["int4<group=32>", "int4<channel>", "int8<tensor>", "uint4<group=32, zero=int>",
             "uint3<group=48, zero=float, scale=f32>", "uint4<group=32, zero=shift>", "q4_k",
             "int4<group=16, zero=min, scale=f32>", "int2<group=32>", "nf4<group=32>", "nvfp4",
             "mxfp8", "int8<rows=16, group=32>"]  # fmt: skip


def uneven() -> np.ndarray:
    """Blocks of all magnitudes, of zeros, of one value, and without a full last one."""
    x = np.random.default_rng(7).standard_normal((40, 272)) ** 3
    x[3:5], x[6], x[8, :136] = 0, 1, -2.5
    x[9] *= 1e-4
    return x


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize("name", PIECEWISE)
def test_pieces_are_rounded_as_the_whole(name, search, monkeypatch):
    whole = encode(named(name), uneven(), Fit(search))
    monkeypatch.setattr(fit, "PIECE", 300)
    monkeypatch.setattr(fit, "CHUNK", 1700)
    apart = encode(named(name), uneven(), Fit(search))
    assert whole.keys() == apart.keys()
    for component, found in whole.items():
        assert np.array_equal(found, apart[component]), component


@pytest.mark.parametrize("name", [*PIECEWISE, "e4m3_finite<group=32, scale=f32>"])
def test_errors_are_those_of_the_codes(name, monkeypatch):
    """What a search compares is, bit for bit, the error of what is then stored."""
    format, x = named(name), uneven()
    assert isinstance(format, Scaled)
    blocks, valid = format.block.split(x)
    rows, within = (a.reshape(-1, blocks.shape[-1]) for a in (blocks, valid))
    ends = fit._Ends.of(rows)
    assert np.array_equal(ends.edge, rows[range(len(rows)), np.abs(rows).argmax(-1)])
    for scale, zero in fit._candidates(format, ends, Fit(True)):
        codes, value = fit.rounded(format, rows, scale, zero)
        want = (np.square(value - rows) * within).sum(-1)
        for piece in (1 << 16, 20):
            monkeypatch.setattr(fit, "PIECE", piece)
            room = np.empty(rows.shape)
            assert np.array_equal(fit._error(format, rows, within, scale, zero, room), want)
        assert np.array_equal(fit._codes(format, rows, scale, zero), codes)


def test_a_scale_that_is_not_finite_is_refused_wherever_it_is():
    x = np.random.default_rng(8).standard_normal((64, 64))
    x[50, 3] = 1e9
    for search in (True, False):
        with pytest.raises(TileError, match=r"whose largest element is 1e\+09 is out of the range"):
            encode(named("int4<group=32>"), x, Fit(search))


@pytest.mark.parametrize("name", [n for n, t in CODES.items() if t.low <= 0])
def test_values_of_tables_are_nearest_in_place_too(name):
    """Also half way between two values, and next to that."""
    table = CODES[name].table
    assert table is not None
    values = np.unique(table.values[np.isfinite(table.values)])
    middles = (values[1:] + values[:-1]) / 2
    near = [np.nextafter(middles, side) for side in (-np.inf, np.inf)]
    x = np.concatenate([values, middles, *near, np.random.default_rng(9).standard_normal(99) * 4])
    want, found = table.round(x, "nearest", True, None), x.copy()
    table.to_nearest(found)
    assert np.array_equal(found, want)
