"""Tiles of a dimension by number: their meaning, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import f32, i32
from tilec.ir.errors import TileError
from tilec.ir.extent import Sym
from tilec.ir.format import Dense
from tilec.ir.interpret import interpret
from tilec.ir.ops import control, memory, shape
from tilec.ir.types import Memory, Span

X = Value(Memory((5, 8), Dense(f32)), "x")
Y = Value(Memory((4, 4), Dense(f32)), "y")


def test_tiles_by_number():
    """Tile 1 of 4 rows, and tile 0 of 8 columns of which 4 count: what is outside reads 0."""
    b = Builder()
    one, none = (b(shape.Full((), n, i32)) for n in (1, 0))
    rows, columns = b(memory.Nth(one, 5, 4, 4)), b(memory.Nth(none, 8, 4, 3))
    here = b(memory.Load(X, (rows, columns)))
    b.add(memory.Store(Y, (b(memory.Whole(4)), b(memory.Whole(4))), here))
    x, y = np.arange(1.0, 41.0).reshape(5, 8), np.full((4, 4), np.nan)
    interpret(Func("k", Block((X, Y), tuple(b.ops))), {"x": x, "y": y}, {})
    want = np.zeros((4, 4))
    want[0] = x[4, :4]
    assert np.array_equal(y, want)


def test_a_tile_as_large_as_the_span_around_it():
    """Tile 1 of 4 rows for both tiles of y, of which the last has one row."""
    x, y = (Value(Memory((n, 2), Dense(f32)), name) for n, name in ((12, "x"), (5, "y")))
    rows, b = Value(Span(5, Sym("n"))), Builder()
    number = b(shape.Full((), 1, i32))
    there, whole = b(memory.Nth(number, 12, Sym("n"), 4)), b(memory.Whole(2))
    b.add(memory.Store(y, (rows, whole), b(memory.Load(x, (there, whole)))))
    grid = control.Grid((5,), (Sym("n"),), (4,), Block((rows,), tuple(b.ops)))
    data, out = np.arange(24.0).reshape(12, 2), np.full((5, 2), np.nan)
    interpret(Func("k", Block((x, y), (grid,))), {"x": data, "y": out}, {})
    assert np.array_equal(out, np.concatenate([data[4:8], data[4:5]]))


@pytest.mark.parametrize("number", [-1, 2])
def test_a_number_of_no_tile(number):
    b = Builder()
    b(memory.Nth(b(shape.Full((), number, i32)), 5, 4, 4))
    with pytest.raises(TileError, match=f"nth: 5 coordinates have no tile {number} of 4"):
        interpret(Func("k", Block((), tuple(b.ops))), {}, {})


def test_refused():
    b = Builder()
    with pytest.raises(TileError, match="nth: expected a number, not i32\\[4\\]"):
        memory.Nth(b(shape.Iota(4)), 8, 4, 4)
    with pytest.raises(TileError, match="nth: 4 coordinates, expected at least the 8 of a tile"):
        memory.Nth(b(shape.Full((), 0, i32)), 8, 4, 8)
