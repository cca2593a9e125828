"""Memory layouts: coordinates to offsets, equality, text."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from layouts import memory_layouts

from tilec.ir.errors import TileError
from tilec.ir.layout.memory import (
    MemoryLayout,
    column_major,
    concatenated,
    leaves,
    row_major,
)
from tilec.ir.layout.text import parse

MANY = settings(max_examples=100, deadline=None)


def test_a_layout_by_hand():
    layout = MemoryLayout((4, (2, 3)), (2, (1, 8)))
    assert str(layout) == "(4,(2,3)):(2,(1,8))"
    assert (layout.size, layout.cosize, layout.rank, layout.extents) == (24, 24, 2, (4, 6))
    assert layout(7).tolist() == layout(3, 1).tolist() == layout(3, (1, 0)).tolist() == 7
    assert layout(np.arange(3), 2).tolist() == [8, 10, 12]
    assert layout.mode(1) == MemoryLayout((2, 3), (1, 8))
    assert row_major(2, 3) == MemoryLayout((2, 3), (3, 1))
    assert column_major((2, (3, 4))) == MemoryLayout((2, (3, 4)), (1, (2, 6)))
    assert concatenated(layout, row_major(2))(1, 1).tolist() == 3


@MANY
@given(memory_layouts())
def test_an_index_counts_through_the_coordinates(layout: MemoryLayout):
    sizes, strides = leaves(layout.shape), leaves(layout.stride)
    for index, offset in enumerate(layout.offsets()):
        digits = [index // math.prod(sizes[:i]) % n for i, n in enumerate(sizes)]
        assert offset == sum(c * d for c, d in zip(digits, strides, strict=True))
    assert layout.cosize == layout.offsets().max() + 1
    own = np.unravel_index(np.arange(layout.size), layout.extents, order="F")
    assert (layout(*own) == layout.offsets()).all()


@MANY
@given(memory_layouts())
def test_text_reads_back(layout: MemoryLayout):
    assert parse(str(layout)) == layout


@MANY
@given(memory_layouts(strides=2), memory_layouts(strides=2))
def test_layouts_of_one_shape_are_equal_exactly_where_they_are_one_function(a, b):
    b = MemoryLayout(a.shape, b.stride) if _alike(a.shape, b.stride) else b
    same = a.shape == b.shape and a.offsets().tolist() == b.offsets().tolist()
    assert (a == b) == same
    assert MemoryLayout((4, 1), (1, 7)) == MemoryLayout((4, 1), (1, 0))


def _alike(shape, stride) -> bool:
    if isinstance(shape, int) or isinstance(stride, int):
        return isinstance(shape, int) and isinstance(stride, int)
    return len(shape) == len(stride) and all(map(_alike, shape, stride))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MemoryLayout((4, 0), (1, 4)), "every size must be at least 1"),
        (lambda: MemoryLayout((4, 2), 1), r"shape \(4,2\) and stride 1 are not nested alike"),
        (lambda: MemoryLayout((4, 2), (1, (2, 3))), "not nested alike"),
        (lambda: MemoryLayout(4, 1)(4), "an index into 4 is 0 to 3"),
        (lambda: MemoryLayout((4, 2), (1, 4))(0, -1), "an index into 2 is 0 to 1"),
        (lambda: MemoryLayout((4, 2), (1, 4))(0, 1, 0), "3 coordinates for the shape"),
        (lambda: MemoryLayout((4, 2), (1, 4)).mode(2), "has no mode 2"),
    ],
)
def test_errors(make, message):
    with pytest.raises(TileError, match=message):
        make()
