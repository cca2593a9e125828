"""The product of what is stored of a 2:4 operand."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.core import Value
from tilec.ir.dtype import DType, f16, f32, i8, i32
from tilec.ir.errors import TileError
from tilec.ir.ops.sparse import PLACE, SparseDot
from tilec.ir.parse import parse
from tilec.ir.text import show
from tilec.ir.types import Tile

TEXT = """
func @f(%v: *f16[8, 32], %i: *u2[8, 32], %x: *f16[4, 64], %y: *f32[8, 4]) {
  grid {dims = [8, 4], sizes = [n, m], tiles = [_, _]} (%5: span[8, n], %6: span[4, m]) {
    %7 = full {shape = [n, m], value = 0.0, dtype = f32} : f32[n, m]
    %13 = for [%7] {dim = 64, size = k, tile = 32} (%8: span[64, k], %9: f32[n, m]) {
      %10 = groups %8 {by = 2, size = ceiling(k/2)} : span[32, ceiling(k/2)]
      %11 = load %v, [%5, %10] : f16[n, ceiling(k/2)]
      %12 = load %i, [%5, %10] : u2[n, ceiling(k/2)]
      %14 = load %x, [%6, %8] : f16[m, k]
      %15 = transpose %14 {order = [1, 0]} : f16[k, m]
      %16 = sparse_dot %11, %12, %15, %9 : f32[n, m]
      yield %16
    } : f32[n, m]
    store %y, [%5, %6], %13
  }
}
"""


def value(t: DType, *shape: int) -> Value:
    return Value(Tile(shape, t))


def product(a: DType = f16, b: DType = f16, places: DType = PLACE, k: int = 32, columns: int = 8,
            acc: DType = f32, scale: Value | None = None) -> SparseDot:  # fmt: skip
    return SparseDot(value(a, 4, 16), value(places, 4, 16), value(b, k, 8),
                     value(acc, 4, columns), scale)  # fmt: skip


@pytest.mark.parametrize("k", [32, 28, 4])
def test_is_the_product_of_the_whole(k):
    """Also in a step at the end of K, which has fewer columns."""
    rng = np.random.default_rng(k)
    whole = np.zeros((4, 8, 4))
    index = np.sort(rng.random((4, 8, 4)).argsort(-1)[..., :2], -1)
    stored = rng.integers(-4, 5, index.shape).astype(float)
    np.put_along_axis(whole, index, stored, -1)
    b, acc, scale = rng.integers(-4, 5, (k, 8)), rng.integers(-4, 5, (4, 8)), np.array([1, 2, 4, 8])
    want = whole.reshape(4, 32)[:, :k] @ b
    columns = -(-k // 2)
    operands = (stored.reshape(4, 16)[:, :columns], index.reshape(4, 16)[:, :columns], b, acc)
    got = product(k=32).evaluate(*operands)
    assert np.array_equal(got, acc + want)
    assert np.array_equal(product().evaluate(*operands, scale), acc + scale[:, None] * want)


def test_beside_a_scale_whole_numbers_may_be_summed_as_floats():
    assert product(i8, i8, acc=f32, scale=value(f32, 4)).result.type == Tile((4, 8), f32)
    assert product(i8, i8, acc=i32).result.type == Tile((4, 8), i32)


@pytest.mark.parametrize(("change", "message"), [
    ({"places": i8}, "the places are i8[4, 16], not u2[4, 16]"),
    ({"k": 64}, "the columns of f16[4, 16] are not half the rows of f16[64, 8]"),
    ({"columns": 4}, "the accumulator is f32[4, 4], not f32[4, 8]"),
    ({"acc": f16}, "the accumulator is f16[4, 8], not f32[4, 8]"),
    ({"a": i8, "b": i8}, "the accumulator is f32[4, 8], not i32[4, 8]"),
    ({"scale": value(f32, 8)}, "the scale is f32[8], not f32[4]"),
])  # fmt: skip
def test_what_it_refuses(change, message):
    with pytest.raises(TileError) as e:
        product(**change)
    assert str(e.value) == f"sparse_dot: {message}"


def test_refuses_what_is_no_matrix():
    with pytest.raises(TileError, match="expected two matrices"):
        SparseDot(value(f16, 4), value(PLACE, 4), value(f16, 8, 4), value(f32, 4, 4))


def test_reads_back():
    func = parse(TEXT)
    assert show(parse(show(func))) == show(func)
    assert sum(isinstance(op, SparseDot) for op in func.walk()) == 1
