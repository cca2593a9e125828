"""Between which numbers the printer takes whole numbers to lie."""

from __future__ import annotations

from math import inf

import pytest

from tilec.codegen.triton.ranges import ALL, Ranges
from tilec.ir.core import Builder, Op, Value
from tilec.ir.dtype import boolean, i32
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import arith, shape
from tilec.ir.types import Span, Tile


class Made:
    """Ops as they are written, and the ranges of what they make."""

    def __init__(self, masks: dict[Value, str] | None = None) -> None:
        self.b, self.masks = Builder(), masks or {}

    def __call__(self, op: Op) -> Value:
        return self.b(op)

    def start(self, dim: Extent) -> Value:
        return self.b(shape.Start(Value(Span(dim, 1))))

    def number(self, n: int) -> Value:
        return self.b(shape.Full((), n, i32))

    def range(self, v: Value) -> tuple[float, float]:
        return Ranges({op.result: op for op in self.b.ops}, self.masks)[v]


@pytest.mark.parametrize(("cls", "other", "expected"), [
    (arith.Add, 5, (5, 14)), (arith.Sub, 5, (-5, 4)), (arith.Mul, 3, (0, 27)),
    (arith.FloorDiv, 4, (0, 2)), (arith.Mod, 4, (0, 3)), (arith.Mod, 20, (0, 9)),
    (arith.Minimum, 4, (0, 4)), (arith.Maximum, 4, (4, 9)), (arith.FloorDiv, 0, ALL),
    (arith.FloorDiv, -2, ALL), (arith.Mod, 0, ALL), (arith.Mul, -1, ALL),
    (arith.Mul, 1 << 30, ALL), (arith.Add, (1 << 31) - 5, ALL),  # beyond an i32
])  # fmt: skip
def test_of_a_coordinate_and_a_number(cls, other, expected):
    """The coordinate is one of 0 to 9; every result that it has lies within."""
    m = Made()
    v = m(cls(m.start(10), m.number(other)))
    assert m.range(v) == expected
    if expected is not ALL:
        results = [int(cls.evaluate(v, x, other)) for x in range(10)]
        assert expected[0] <= min(results) <= max(results) <= expected[1]


def test_of_dimensions_without_numbers():
    m = Made()
    here = m.start(Sym("M"))
    assert m.range(here) == (0, inf)
    assert m.range(m(arith.FloorDiv(here, m.number(4)))) == (0, inf)
    assert m.range(m(arith.Mul(here, m.number(4)))) == ALL
    assert m.range(Value(Tile((), i32))) == ALL


def test_coordinates_of_a_tile_that_ends_beyond_its_dimension():
    span = Value(Span(100, 64))
    for masks, last in (({}, 99), ({span: "mask"}, 162)):
        m = Made(masks)
        assert m.range(m(shape.Coordinates(span))) == (0, last)


def test_of_one_of_two():
    m = Made()
    condition = m(shape.Full((), True, boolean))
    assert m.range(m(arith.Where(condition, m.number(3), m.start(2)))) == (0, 3)
