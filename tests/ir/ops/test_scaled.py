"""The product of codes with scales."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.bits import from_raw
from tilec.ir.codes import element
from tilec.ir.core import Value
from tilec.ir.dtype import f16, f32
from tilec.ir.errors import TileError
from tilec.ir.ops.scaled import ScaledDot, taken
from tilec.ir.parse import parse
from tilec.ir.text import show
from tilec.ir.types import Tile

TEXT = """
func @f(%x: *e4m3[4, 64], %s: *e8m0[4, 2], %w: *e2m1[8, 64], %t: *e8m0[8, 2], %y: *f32[4, 8]) {
  grid {dims = [4, 8], sizes = [m, n], tiles = [_, _]} (%5: span[4, m], %6: span[8, n]) {
    %7 = full {shape = [m, n], value = 0.0, dtype = f32} : f32[m, n]
    %13 = for [%7] {dim = 64, size = k, tile = 32} (%8: span[64, k], %9: f32[m, n]) {
      %10 = groups %8 {by = 32, size = ceiling(k/32)} : span[2, ceiling(k/32)]
      %11 = load %x, [%5, %8] : e4m3[m, k]
      %12 = load %s, [%5, %10] : e8m0[m, ceiling(k/32)]
      %14 = load %w, [%6, %8] : e2m1[n, k]
      %15 = load %t, [%6, %10] : e8m0[n, ceiling(k/32)]
      %16 = transpose %14 {order = [1, 0]} : e2m1[k, n]
      %17 = scaled_dot %11, %12, %16, %15, %9 : f32[m, n]
      yield %17
    } : f32[m, n]
    store %y, [%5, %6], %13
  }
}
"""


def value(t: str, *shape: int) -> Value:
    dtype = element(t)
    assert dtype is not None
    return Value(Tile(shape, dtype))


def product(a: str = "e4m3", b: str = "e2m1", scale: str = "e8m0", other: str = "", k: int = 64,
            groups: int = 2, columns: int = 8) -> ScaledDot:  # fmt: skip
    return ScaledDot(value(a, 4, k), value(scale, 4, groups), value(b, 64, columns),
                     value(other or scale, columns, 2), Value(Tile((4, 8), f32)))  # fmt: skip


@pytest.mark.parametrize(("a", "b", "scale", "group"), [
    ("e4m3", "e5m2", "e8m0", 32), ("e2m1", "e4m3", "e8m0", 32), ("e2m1", "e2m1", "e8m0", 32),
    ("e2m1", "e2m1", "e4m3", 16),
])  # fmt: skip
def test_is_the_sum_of_the_decoded(a, b, scale, group):
    """Also where the last group has fewer codes than the others."""
    rng = np.random.default_rng(1)
    for k in (96, 100):
        count = -(-k // group)
        operands = [value(a, 4, k), value(scale, 4, count), value(b, k, 8),
                    value(scale, 8, count)]  # fmt: skip
        one, its, two, their = operands
        op = ScaledDot(one, its, two, their, Value(Tile((4, 8), f32)))
        assert op.group == group
        x, s, w, t = (
            from_raw(v.type.dtype, rng.integers(0, 1 << v.type.dtype.bits, v.type.shape)  # type: ignore[union-attr]
                     .astype(np.uint8)) for v in operands)  # fmt: skip
        x, s, w, t = (np.where(np.isfinite(v) & (np.abs(v) < 2.0**40), v, 1.0)
                      for v in (x, np.abs(s), w, np.abs(t)))  # fmt: skip
        acc = rng.standard_normal((4, 8))
        want = acc.copy()
        for i in range(4):
            for j in range(8):
                want[i, j] += sum(x[i, c] * s[i, c // group] * w[c, j] * t[j, c // group]
                                  for c in range(k))  # fmt: skip
        got = op.evaluate(x, s, w, t, acc)
        np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize(("change", "message"), [
    ({"k": 32}, "the columns of e4m3[4, 32] are not the rows of e2m1[64, 8]"),
    ({"columns": 4}, "the accumulator f32[4, 8] is not f32[4, 4]"),
    ({"groups": 4}, "the scales are e8m0[4, 4], not e8m0[4, 2]"),
    ({"scale": "f16"}, "expected scales in e8m0 or e4m3, not f16"),
    ({"other": "e4m3"}, "expected scales in e8m0 or e4m3, not e4m3 and e8m0"),
    ({"a": "e2m3"}, "beside scales in e8m0 expected codes in e4m3, e5m2, e2m1, not e2m3"),
    ({"scale": "e4m3"}, "beside scales in e4m3 expected codes in e2m1, not e4m3"),
])  # fmt: skip
def test_what_it_refuses(change, message):
    with pytest.raises(TileError) as e:
        product(**change)
    assert str(e.value) == f"scaled_dot: {message}"


def test_refuses_what_is_no_matrix():
    with pytest.raises(TileError, match="expected two matrices"):
        ScaledDot(value("e4m3", 4), value("e8m0", 4, 1), value("e4m3", 32, 8),
                  value("e8m0", 8, 1), Value(Tile((4, 8), f16)))  # fmt: skip


def test_reads_back_and_knows_its_loads():
    func = parse(TEXT)
    assert show(parse(show(func))) == show(func)
    assert {op.mem.hint for op in taken(func)} == {"x", "s", "w", "t"}
