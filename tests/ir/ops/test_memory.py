"""Sums in memory: nothing is lost where places coincide, and what is refused."""

import re
from collections.abc import Callable

import numpy as np
import pytest

from tilec.ir.core import Value
from tilec.ir.dtype import boolean, f16, f32, i32, u8
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.named import named
from tilec.ir.ops.memory import Accumulate, Store, Write
from tilec.ir.types import Memory, Span, Tile


def made(
    dtype=f32, shape=(4, 3), index=None, value=None, mask=None, cls: type[Write] = Accumulate
) -> Write:
    mem = Value(Memory(shape, Dense(dtype)), "y")
    at = (index or Value(Tile((5,), i32)), Value(Span(3, 3)))
    return cls(mem, at, value or Value(Tile((5, 3), dtype)), mask)


IDS = np.array([1, 0, 1, 7, -1])


@pytest.mark.parametrize("masked", [False, True])
def test_every_value_is_added(masked):
    rng = np.random.default_rng(0)
    y, v = rng.integers(-9, 9, (4, 3)).astype(float), rng.integers(-9, 9, (5, 3)).astype(float)
    mask = rng.integers(0, 2, (5, 3)).astype(bool) if masked else None
    want = y.copy()
    for i, row in enumerate(IDS[:3]):
        want[row] += v[i] if mask is None else np.where(mask[i], v[i], 0)
    op = made(mask=Value(Tile((5, 3), boolean)) if masked else None)
    op.evaluate(y, (IDS, range(3)), v, mask)
    assert np.array_equal(y, want)


def test_each_addition_is_rounded():
    y = np.full((4, 3), 2048.0)
    made(f16).evaluate(y, (np.array([2, 2, 2, 2, 2]), range(3)), np.ones((5, 3)), None)
    assert (y == 2048).all()
    whole = np.full((4, 3), 250)
    made(u8).evaluate(whole, (np.array([2, 2, 2, 2, 2]), range(3)), np.full((5, 3), 3), None)
    assert list(whole[:, 0]) == [250, 250, 9, 250]


@pytest.mark.parametrize("value", [2.5, -1.0])
def test_a_scalar_is_added_and_stored(value):
    y = np.array(1.0)
    mem = Value(Memory((), Dense(f32)), "y")
    Accumulate(mem, (), Value(Tile((), f32))).evaluate(y, (), np.array(value), None)
    assert y == 1 + value
    Store(mem, (), Value(Tile((), f32))).evaluate(y, (), np.array(value), None)
    assert y == value


INVALID: dict[str, tuple[Callable[[type[Write]], Write], str]] = {
    "tile": (lambda c: c(Value(Tile((4,), f32)), (), Value(Tile((), f32))),
             "{}: expected a tensor, not f32[4]"),
    "indices": (lambda c: made(shape=(4,), cls=c), "{}: 2 indices into the 1 dims of *f32[4]"),
    "span": (lambda c: made(index=Value(Span(3, 3)), cls=c),
             "{}: index 0 runs over 3, but dimension 0 of *f32[4, 3] is 4"),
    "index": (lambda c: made(index=Value(Tile((5,), f32)), cls=c),
              "{}: index 0 is f32[5], not a span or integers"),
    "format": (lambda c: c(Value(Memory((4, 64), named("int4<group=64>")), "y"),
                           (Value(Span(4, 4)), Value(Span(64, 64))), Value(Tile((4, 64), f32))),
               "{}: *int4"),
    "value": (lambda c: made(value=Value(Tile((5, 3), f16)), cls=c),
              "{}: the value is f16[5, 3], not f32[5, 3]"),
    "mask": (lambda c: made(mask=Value(Tile((3,), boolean)), cls=c),
             "{}: the mask is bool[3], not bool[5, 3]"),
}  # fmt: skip


@pytest.mark.parametrize("cls", [Accumulate, Store])
@pytest.mark.parametrize("name", INVALID)
def test_invalid(cls, name):
    make, message = INVALID[name]
    with pytest.raises(TileError, match=f"^{re.escape(message.format(cls.name))}"):
        make(cls)


def test_only_numbers_are_added():
    with pytest.raises(TileError, match=r"accumulate: expected numbers, not bool\[5, 3\]"):
        made(boolean)
