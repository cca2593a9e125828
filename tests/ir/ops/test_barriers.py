"""Barriers in shared memory, and copies that count on them: their meaning, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.core import Block, Builder, Func, Value
from tilec.ir.dtype import f32, i32
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.interpret import interpret
from tilec.ir.ops import machine, memory, shape
from tilec.ir.types import Memory

X = Value(Memory((4, 8), Dense(f32)), "x")
Y = Value(Memory((4, 4), Dense(f32)), "y")


def number(b: Builder, n: int) -> Value:
    return b(shape.Full((), n, i32))


def ran(b: Builder) -> np.ndarray:
    x, y = np.arange(32.0).reshape(4, 8), np.full((4, 4), np.nan)
    interpret(Func("k", Block((X, Y), tuple(b.ops))), {"x": x, "y": y}, {})
    return y


def one_tile(parity: int, expected: bool = True) -> Builder:
    """A thread alone copies columns 4 to 8 to slot 1; the others wait for it, and store it."""
    b, inner = Builder(), Builder()
    ring, full = b(machine.Shared((2, 4, 4), f32)), b(machine.Barriers(2, False))
    slot, rows = number(b, 1), b(memory.Whole(4))
    columns = b(memory.Whole(8, 4, 4))
    if expected:
        inner.add(machine.Expect(full, slot, 64))
    inner.add(machine.Copy(ring, slot, X, (rows, columns), 1, 0, full))
    b.add(machine.Alone(0, Block((), tuple(inner.ops))))
    b.add(machine.Await(full, slot, number(b, parity)))
    here = b(memory.Load(ring, (slot, rows, rows)))
    b.add(memory.Store(Y, (rows, rows), here))
    return b


def test_what_is_awaited_is_there():
    assert np.array_equal(ran(one_tile(0)), np.arange(32.0).reshape(4, 8)[:, 4:])


@pytest.mark.parametrize(("parity", "expected"), [(1, True), (0, False)])
def test_a_wait_that_never_ends(parity, expected):
    with pytest.raises(TileError, match="waits for ever"):
        ran(one_tile(parity, expected))


def test_the_phase_before_the_first_has_ended():
    """So those that fill a slot for the first time need not wait; then they wait for readers."""
    b = Builder()
    empty, slot = b(machine.Barriers(1, True)), number(b, 0)
    b.add(machine.Await(empty, slot, number(b, 1)))
    b.add(machine.Arrive(empty, slot))
    b.add(machine.Await(empty, slot, number(b, 0)))
    ran(b)
    b.add(machine.Await(empty, slot, number(b, 1)))
    with pytest.raises(TileError, match="has ended 1 phases"):
        ran(b)


def test_refused():
    b = Builder()
    full, slot = b(machine.Barriers(2, False)), number(b, 0)
    ring = b(machine.Shared((2, 4, 4), f32))
    four = b(memory.Whole(4))
    columns = b(memory.Whole(8, 4))
    with pytest.raises(TileError, match="at least 1"):
        machine.Barriers(0, True)
    with pytest.raises(TileError, match="are no barriers"):
        machine.Arrive(ring, slot)
    with pytest.raises(TileError, match="the number of a barrier"):
        machine.Await(full, slot, b(shape.Iota(4)))
    with pytest.raises(TileError, match="never come"):
        machine.Expect(full, slot, 0)
    with pytest.raises(TileError, match="are no barriers"):
        machine.Copy(ring, slot, X, (four, columns), 1, 0, ring)
    with pytest.raises(TileError, match="alone: expected"):
        machine.Alone(-1, Block((), ()))
    with pytest.raises(TileError, match="alone: expected"):
        machine.Alone(0, Block((Value(X.type),), ()))
