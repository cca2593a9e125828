"""Rankings of whole tensors: what they give, and what they are refused for."""

import numpy as np
import pytest

from tilec.ir.codes import CODES
from tilec.ir.core import Value
from tilec.ir.dtype import DType, boolean, f16, f32, i8, u32
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym
from tilec.ir.ops.top import Argtop, Top
from tilec.ir.types import Tile
from tilec.ir.verify import verify
from tilec.lang.text import parse

NAN, INF = float("nan"), float("inf")


def of(*rows: list[float], dtype: DType = f32) -> tuple[Value, np.ndarray]:
    x = np.array(rows, dtype.carrier)
    return Value(Tile(x.shape, dtype)), x


def test_the_largest_come_first_and_of_equal_ones_the_first():
    v, x = of([1, 3, 2, 3], [-1, -4, -1, -2], [0.0, -INF, INF, NAN])
    assert Argtop(v, 3).evaluate(x, 3).tolist() == [[1, 3, 2], [0, 2, 3], [3, 2, 0]]
    np.testing.assert_array_equal(Top(v, 2).evaluate(x, 2), [[3, 3], [-1, -1], [NAN, INF]])


def test_zeros_are_equal_and_have_no_sign():
    v, x = of([-0.0, 0.0, -0.0, -1.0])
    assert Argtop(v, 3).evaluate(x, 3).tolist() == [[0, 1, 2]]
    assert not np.signbit(Top(v, 3).evaluate(x, 3)).any()


@pytest.mark.parametrize(("dtype", "last"), [(f16, -INF), (i8, -128), (u32, 0)])
def test_what_is_not_there_is_the_least(dtype: DType, last: float):
    v, x = of([1, 2], dtype=dtype)
    assert Top(v, Sym("K")).evaluate(x, 4).tolist() == [[2, 1, last, last]]
    assert Argtop(v, Sym("K")).evaluate(x, 4).tolist() == [[1, 0, -1, -1]]


@pytest.mark.parametrize("dtype", [i8, u32])
def test_whole_numbers_at_both_ends(dtype: DType):
    v, x = of([dtype.low, dtype.high, 0, dtype.high], dtype=dtype)
    assert Argtop(v, 4).evaluate(x, 4)[0, :2].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("t", "count", "why"),
    [
        (Tile((), f32), 1, "top: f32 has no axis"),
        (Tile((3, 4), f32), 5, "has no 5 elements along its last axis"),
        (Tile((3, 4), f32), 0, "has no 0 elements along its last axis"),
        (Tile((4,), boolean), 1, "expected numbers, not bool"),
        (Tile((4,), CODES["e2m1"]), 1, "expected numbers, not codes"),
    ],
)
def test_invalid(t: Tile, count: int, why: str):
    with pytest.raises(TileError, match=why):
        Top(Value(t), count)


def test_not_inside_of_a_block():
    text = "for m in tiles(M) { y[m, :] = top(x[m, :], 2) }"
    func = parse(f"kernel f(x: f32[M, 9], y: f32[M, 2]) {{ {text} }}")["f"].ir()
    with pytest.raises(TileError, match="top: only of whole tensors"):
        verify(func)
