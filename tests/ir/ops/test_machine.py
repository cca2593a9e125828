"""Ops of machines with threads: their meaning, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import f32, i32
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.interpret import interpret
from tilec.ir.layout.register import spatial
from tilec.ir.ops import machine, memory, reduce, shape
from tilec.ir.types import Memory

X = Value(Memory((5, 8), Dense(f32)), "x")
Y = Value(Memory((4, 4), Dense(f32)), "y")


def test_a_slot_holds_what_was_copied():
    """Rows 2 to 5 and columns 6 to 9: 0 outside of the memory."""
    b = Builder()
    ring = b(machine.Shared((3, 4, 4), f32))
    rows, columns = b(memory.Whole(5, 4, 2)), b(memory.Whole(8, 4, 2))
    slot = b(shape.Full((), 1, i32))
    b.add(machine.Copy(ring, slot, X, (rows, columns), 1, 4))
    b.add(machine.Commit())
    b.add(machine.Wait(0))
    here = b(memory.Load(ring, (slot, b(memory.Whole(4)), b(memory.Whole(4)))))
    turned = b(machine.Convert(here, spatial(4, 4)))
    b.add(memory.Store(Y, (b(memory.Whole(4)), b(memory.Whole(4))), turned))
    x, y = np.arange(40.0).reshape(5, 8), np.full((4, 4), np.nan)
    interpret(Func("k", Block((X, Y), tuple(b.ops))), {"x": x, "y": y}, {})
    want = np.zeros((4, 4))
    want[:3, :2] = x[2:, 6:]
    assert np.array_equal(y, want)


def test_a_fresh_slot_is_no_number():
    b = Builder()
    ring = b(machine.Shared((2, 4, 4), f32))
    slot = b(shape.Full((), 0, i32))
    here = b(memory.Load(ring, (slot, b(memory.Whole(4)), b(memory.Whole(4)))))
    b.add(memory.Store(Y, (b(memory.Whole(4)), b(memory.Whole(4))), here))
    y = np.zeros((4, 4))
    interpret(Func("k", Block((Y,), tuple(b.ops))), {"y": y}, {})
    assert np.isnan(y).all()


@pytest.mark.parametrize("start", [-3, 0, 2, 7, 11])
@pytest.mark.parametrize(("axis", "size"), [(0, 4), (1, 4), (1, 16)])
def test_a_shift_ends_with_what_is_nearest(start, axis, size):
    x = np.arange(40.0).reshape(5, 8)
    sizes = (size, 8) if axis == 0 else (5, size)
    y, b = Value(Memory(sizes, Dense(f32)), "y"), Builder()
    here = b(memory.Load(X, (b(memory.Whole(5)), b(memory.Whole(8)))))
    moved = b(machine.Shift(here, b(shape.Full((), start, i32)), axis, size))
    b.add(memory.Store(y, (b(memory.Whole(sizes[0])), b(memory.Whole(sizes[1]))), moved))
    out = np.full(sizes, np.nan)
    interpret(Func("k", Block((X, y), tuple(b.ops))), {"x": x, "y": out}, {})
    places = [min(max(start + i, 0), x.shape[axis] - 1) for i in range(size)]
    assert np.array_equal(out, x[places] if axis == 0 else x[:, places])


def test_a_product_of_what_lies_in_a_slot():
    """The second slot of a ring times its transpose, added to what is there."""
    b = Builder()
    ring = b(machine.Shared((2, 4, 4), f32))
    rows, columns = b(memory.Whole(5, 4)), b(memory.Whole(8, 4))
    slot = b(shape.Full((), 1, i32))
    b.add(machine.Copy(ring, slot, X, (rows, columns), 1, 0))
    there = b(machine.InPlace(ring, slot))
    here = (b(memory.Whole(4)), b(memory.Whole(4)))
    total = b(reduce.Dot(there, b(shape.Transpose(there, (1, 0))), b(memory.Load(Y, here))))
    b.add(memory.Store(Y, here, b(machine.Settle(b(machine.Settle(total, 1))))))
    x, y = np.arange(40.0).reshape(5, 8), np.ones((4, 4))
    interpret(Func("k", Block((X, Y), tuple(b.ops))), {"x": x, "y": y}, {})
    assert np.array_equal(y, x[:4, :4] @ x[:4, :4].T + 1)


def test_refused():
    b = Builder()
    with pytest.raises(TileError, match="in_place: expected slots of matrices, not"):
        machine.InPlace(X, b(shape.Full((), 0, i32)))
    with pytest.raises(TileError, match="in_place: the slot is"):
        machine.InPlace(b(machine.Shared((2, 4, 4), f32)), b(shape.Iota(4)))
    with pytest.raises(TileError, match="settle: -1 products can't be under way"):
        machine.Settle(b(shape.Full((8, 8), 0.0, f32)), -1)
    tile, one = b(shape.Full((4, 8), 0.0, f32)), b(shape.Full((), 1, i32))
    with pytest.raises(TileError, match="shift: f32\\[4, 8\\] has no 3 elements along axis 2"):
        machine.Shift(tile, one, 2, 3)
    with pytest.raises(TileError, match="shift: the start is f32\\[4, 8\\], not a whole number"):
        machine.Shift(tile, tile, 0, 3)
    ring = b(machine.Shared((2, 4, 4), f32))
    slot = b(shape.Full((), 0, i32))
    four, eight = b(memory.Whole(5, 4)), b(memory.Whole(8))
    with pytest.raises(TileError, match="is no slot of"):
        machine.Copy(ring, slot, X, (four, eight), 1, 0)
    with pytest.raises(TileError, match="the slot is"):
        machine.Copy(ring, b(shape.Iota(4)), X, (four, b(memory.Whole(8, 4))), 1, 0)
    with pytest.raises(TileError, match="at least 1"):
        machine.Shared((2, 0), f32)
    with pytest.raises(TileError, match="32, 64 or 128 bytes wide, not 16"):
        machine.Shared((2, 8, 8), f32, 16)
    for sizes in ((2, 4, 32), (2, 8, 24)):
        with pytest.raises(TileError, match="no groups of 8 rows of runs of 128 bytes"):
            machine.Shared(sizes, f32, 128)
    with pytest.raises(TileError, match="can't be under way"):
        machine.Wait(-1)
    with pytest.raises(TileError, match="can't have the layout"):
        machine.Convert(b(shape.Full((4, 8), 0.0, f32)), spatial(4, 4))
