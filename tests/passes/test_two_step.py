"""Codes times their groups' scales in 8 bits: the range of every format, and products."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from formats import PUBLISHED_SCALED, random_parts, scaled

from tilec.ir.bits import from_raw
from tilec.ir.dtype import Array, i8, u8
from tilec.ir.interpret import interpret
from tilec.lang.text import parse
from tilec.passes import parse_pipeline, run
from tilec.passes.two_step import expansion

LINEAR = """kernel linear(x: i8[M, K], w: %s[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}"""
U4, U3 = "uint4<channel, scale=f16, zero=none>", "uint3<channel, scale=f16, zero=none>"


@pytest.mark.parametrize(
    ("text", "low", "high", "dtype"),
    [
        (f"int4<group=16, scale={U4}>", -120, 105, i8),
        (f"uint4<group=16, scale={U4}>", -120, 105, i8),
        (f"uint4<group=16, scale={U4}, zero=none>", 0, 225, u8),
        (f"uint4<group=32, scale={U3}, zero=int>", -105, 105, i8),
        (f"uint4<group=32, scale={U4}, zero=int>", -225, 225, None),
        (f"uint2<group=32, scale={U4}, zero=int, zeros=u3>", -105, 45, i8),
        ("int3<group=32, scale=uint6<channel>>", -124, 128, None),
        ("ternary<group=8, scale=int8<group=4>>", -128, 128, None),
        ("sm4<group=8, scale=int5<tensor>>", -112, 112, i8),
        ("qserve", -3825, 3825, None),
        ("dgq", -3825, 3825, None),
        ("q3_k", -124, 128, None),
    ],
)  # fmt: skip
def test_the_range_is_that_of_all_codes(text, low, high, dtype):
    format = scaled(text)
    found = expansion(format)
    assert found is not None
    assert (found.least, found.most, found.dtype) == (low, high, dtype)
    codes, scales = (from_raw(t, np.arange(1 << t.bits)) for t in (format.codes, found.inner.codes))
    zeros = np.array([format.centre])
    if format.zero == "int":
        zeros = from_raw(format.zeros.dtype, np.arange(1 << format.zeros.dtype.bits))  # type: ignore[union-attr]
    every = [(q - z) * (s - found.inner.centre) for q, z, s in product(codes, zeros, scales)]
    assert (min(every), max(every)) == (low, high)


@pytest.mark.parametrize(
    "text",
    ["int4<group=32>", "nvfp4", "q4_k", "uint4<channel, scale=uint8<tensor>>", "qlora",
     f"nf4<group=16, scale={U4}>", f"uint4<group=16, scale={U4}, zero=float>",
     "int4<group=16, scale=uint4<group=8, zero=int>>"],
)  # fmt: skip
def test_formats_that_do_not_expand(text):
    assert expansion(scaled(text)) is None


def test_a_published_format_expands_to_8_bits():
    found = {n: e.dtype for n in PUBLISHED_SCALED if (e := expansion(scaled(n))) is not None}
    assert found["vsq"] == i8
    assert found["qserve"] is None


@pytest.mark.parametrize(
    ("text", "tiles"),
    [(f"int4<group=16, scale={U4}>", (32, 24)), (f"uint4<group=8, scale={U3}, zero=int>", (32, 9)),
     ("sm4<rows=2, group=8, scale=int5<rows=2, group=4>>", (32, 16)),
     ("uint4<group=6, scale=uint4<tensor, scale=f32, zero=none>, zero=none>", (12, 7))],
)  # fmt: skip
def test_the_meaning_is_that_of_the_product(text, tiles):
    """A step of several groups, and of parts of them; scales are powers of two: exact."""
    m, n, k = 3, 9, 75
    format = scaled(text)
    parts = random_parts(format, (n, k), exact=True)
    x = np.random.default_rng(0).integers(-128, 128, (m, k))
    for tile in tiles:
        steps = f"specialise{{M={m} N={n} K={k}}},tile{{m=2 n=6 k={tile}}},lower-formats"
        lowered = run(parse_pipeline(steps), parse(LINEAR % format)["linear"].ir())
        (remark,) = [r for r in lowered.remarks if "times the scales of groups" in r.message]
        assert not remark.missing
        y: Array = np.full((m, n), np.nan)
        interpret(lowered, {f"w.{c}": v for c, v in parts.items()} | {"x": x, "y": y}, {})
        assert np.array_equal(y, x @ format.values(parts, (n, k)).T), tile
