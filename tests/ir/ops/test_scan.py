"""Scans mean what numpy says, and refuse what has no axis or is no number."""

import re

import numpy as np
import pytest

from tilec.ir.codes import CODES
from tilec.ir.core import Value
from tilec.ir.dtype import boolean, f16, f32, i8, i64
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym
from tilec.ir.format import Dense
from tilec.ir.ops import scan
from tilec.ir.types import Memory, Tile

ORACLES = {scan.Cumsum: np.sum, scan.Cummax: np.max, scan.Cummin: np.min}


@pytest.mark.parametrize("cls", ORACLES)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("reverse", [False, True])
def test_each_element_is_a_reduction_of_a_part(cls, axis, reverse):
    x = np.random.default_rng(axis).integers(-9, 10, (3, 4, 5)).astype(float)
    op = cls(Value(Tile((3, 4, 5), f32)), axis, reverse)
    assert op.result.type == Tile((3, 4, 5), f32)
    got = op.evaluate(x)
    for i in range(x.shape[axis]):
        part = x.take(range(i, x.shape[axis]) if reverse else range(i + 1), axis)
        assert np.array_equal(got.take(i, axis), ORACLES[cls](part, axis))


@pytest.mark.parametrize("cls", [scan.Cummax, scan.Cummin])
def test_nan_stays(cls):
    x = np.array([1.0, np.nan, 3.0, -2.0])
    got = cls(Value(Tile((4,), f32)), 0).evaluate(x)
    assert got[0] == 1
    assert np.isnan(got[1:]).all()
    back = cls(Value(Tile((4,), f32)), 0, True).evaluate(x)
    assert list(np.isnan(back)) == [True, True, False, False]


def test_sums_are_rounded_once():
    """Rounded after each addition, 2048 would stay where it is."""
    x = np.array([2048.0, 1.0, 1.0, 1.0])
    op = scan.Cumsum(Value(Tile((4,), f16)), 0)
    assert list(f16.round(op.evaluate(x))) == [2048, 2048, 2050, 2052]


@pytest.mark.parametrize("t", [i8, i64])
def test_sums_of_whole_numbers_wrap(t):
    op = scan.Cumsum(Value(Tile((3,), t)), 0)
    got = t.round(op.evaluate(np.array([t.high, 1, 1])))
    assert list(got) == [t.high, t.low, t.low + 1]


@pytest.mark.parametrize("cls", ORACLES)
@pytest.mark.parametrize(
    ("given", "axis", "message"),
    [
        (Tile((2, Sym("m")), f32), 2, "{}: f32[2, m] has no axis 2"),
        (Tile((2,), f32), -1, "{}: f32[2] has no axis -1"),
        (Tile((), f32), 0, "{}: f32 has no axis 0"),
        (Tile((2,), boolean), 0, "{}: expected numbers, not bool"),
        (Tile((2,), CODES["nf4"]), 0, "{}: expected numbers, not codes of nf4"),
        (Memory((2,), Dense(f32)), 0, "{}: expected a tile or a scalar, not *f32[2]"),
    ],
)
def test_invalid(cls, given, axis, message):
    with pytest.raises(TileError, match=f"^{re.escape(message.format(cls.name))}"):
        cls(Value(given), axis)
