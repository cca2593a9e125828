"""Elements of matrices that store some of them."""

from __future__ import annotations

import numpy as np
import pytest

from tilec.ir.core import Value
from tilec.ir.dtype import f16, f32, u32
from tilec.ir.errors import TileError
from tilec.ir.ops.sparse import Expand
from tilec.ir.types import Span, Tile, memory

VALUES, MASK = Value(memory(f16, 5, 24)), Value(memory(u32, 5, 3))
ROWS, COLUMNS = Value(Span(5, 4)), Value(Span(70, 33))


def test_expand_is_what_lies_at_the_ones():
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((5, 70)) * (rng.random((5, 70)) < 0.25)
    dense[2] = 0
    bits = np.zeros((5, 96), np.int64)
    bits[:, :70] = dense != 0
    words = (bits.reshape(5, 3, 32) << np.arange(32)).sum(-1)
    values = np.full((5, 24), np.nan)
    for n, row in enumerate(dense):
        values[n, : np.count_nonzero(row)] = row[row != 0]
    op = Expand(VALUES, MASK, ROWS, COLUMNS)
    assert op.result.type == Tile((4, 33), f16)
    for rows, columns in ((range(4), range(33)), (range(4, 5), range(33, 66))):
        got = op.evaluate(values, words, rows, columns)
        np.testing.assert_array_equal(
            got, dense[rows.start : rows.stop, columns.start : columns.stop]
        )
    beyond = op.evaluate(values, words, range(4, 8), range(66, 99))
    np.testing.assert_array_equal(beyond[:1, :4], dense[4:, 66:])
    assert beyond.shape == (4, 33)
    assert not beyond[1:].any()
    assert not beyond[:, 4:].any()


def test_what_expand_refuses():
    tile = Value(Tile((4,), u32))
    with pytest.raises(TileError, match="expand: expected a matrix of values, not"):
        Expand(Value(memory(f16, 5)), MASK, ROWS, COLUMNS)
    with pytest.raises(TileError, match="expand: expected spans of rows and columns, not u32"):
        Expand(VALUES, MASK, tile, COLUMNS)
    with pytest.raises(TileError, match="expand: the rows run over 6, but"):
        Expand(VALUES, MASK, Value(Span(6, 4)), COLUMNS)
    with pytest.raises(TileError, match="expand: the mask is"):
        Expand(VALUES, Value(memory(f32, 5, 3)), ROWS, COLUMNS)
    with pytest.raises(TileError, match="expand: the mask is"):
        Expand(VALUES, MASK, ROWS, Value(Span(97, 33)))


def test_expand_takes_a_start_for_each_word():
    assert Expand(VALUES, MASK, ROWS, COLUMNS, Value(memory(u32, 5, 3))).result.type
    with pytest.raises(TileError, match=r"the starts are .*, not one for each word"):
        Expand(VALUES, MASK, ROWS, COLUMNS, Value(memory(u32, 5, 2)))
