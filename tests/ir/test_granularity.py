"""Blocks of a tensor: apart and together again, and a number for every element."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilec.ir.errors import TileError
from tilec.ir.granularity import CHANNEL, TENSOR, Granularity

sizes = st.integers(1, 9)
blocks = st.one_of(
    st.just(CHANNEL), st.just(TENSOR), st.builds(Granularity, sizes),
    st.builds(Granularity, sizes, sizes), st.builds(Granularity, st.none(), sizes),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(blocks, st.lists(sizes, min_size=2, max_size=3))
def test_blocks_and_elements_agree(block: Granularity, shape: list[int]):
    x = np.arange(float(np.prod(shape))).reshape(shape)
    apart, valid = block.split(x)
    counts = tuple(int(str(n)) for n in block.shape(tuple(shape)))
    assert apart.shape[:-1] == counts
    assert valid.sum() == x.size
    np.testing.assert_array_equal(np.sort(apart[valid]), x.reshape(-1))
    np.testing.assert_array_equal(block.join(apart, x.shape), x)
    numbers = np.arange(float(np.prod(counts))).reshape(counts)
    spread = block.spread(numbers, x.shape)
    per_block = np.broadcast_to(numbers[..., None], apart.shape)
    np.testing.assert_array_equal(spread, block.join(per_block, x.shape))


def test_which_elements_share():
    x = np.arange(12.0).reshape(2, 6)
    assert Granularity(4).split(x)[0].tolist() == [
        [[0, 1, 2, 3], [4, 5, 5, 5]],
        [[6, 7, 8, 9], [10, 11, 11, 11]],
    ]
    assert Granularity(3, 2).split(x)[0].tolist() == [[[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]]
    assert CHANNEL.split(x)[0].shape == (2, 6)
    assert TENSOR.split(x)[0].shape == (12,)


def test_text():
    found = [
        str(g) for g in (CHANNEL, TENSOR, Granularity(8), Granularity(8, 4), Granularity(None, 4))
    ]
    assert found == ["channel", "tensor", "group=8", "rows=4, group=8", "rows=4, channel"]


def test_what_is_no_block():
    with pytest.raises(TileError, match="a group has at least 1 element, not 0"):
        Granularity(0)
    with pytest.raises(TileError, match="needs a number of rows"):
        Granularity(4, None)
