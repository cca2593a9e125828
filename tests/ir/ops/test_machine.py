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
from tilec.ir.ops import machine, memory, shape
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


def test_refused():
    b = Builder()
    ring = b(machine.Shared((2, 4, 4), f32))
    slot = b(shape.Full((), 0, i32))
    four, eight = b(memory.Whole(5, 4)), b(memory.Whole(8))
    with pytest.raises(TileError, match="is no slot of"):
        machine.Copy(ring, slot, X, (four, eight), 1, 0)
    with pytest.raises(TileError, match="the slot is"):
        machine.Copy(ring, b(shape.Iota(4)), X, (four, b(memory.Whole(8, 4))), 1, 0)
    with pytest.raises(TileError, match="at least 1"):
        machine.Shared((2, 0), f32)
    with pytest.raises(TileError, match="can't be under way"):
        machine.Wait(-1)
    with pytest.raises(TileError, match="can't have the layout"):
        machine.Convert(b(shape.Full((4, 8), 0.0, f32)), spatial(4, 4))
