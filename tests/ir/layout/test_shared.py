"""Layouts of shared memory: swizzles, addresses, banks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import compact_layouts

from tilec.ir.errors import TileError
from tilec.ir.layout.memory import MemoryLayout, column_major, row_major
from tilec.ir.layout.shared import (
    NONE,
    SWIZZLE_32B,
    SWIZZLE_64B,
    SWIZZLE_128B,
    SharedLayout,
    Swizzle,
)
from tilec.ir.layout.text import parse

MANY = settings(max_examples=100, deadline=None)
swizzles = st.builds(
    lambda bits, base, more, sign: Swizzle(bits, base, sign * (bits + more)),
    st.integers(0, 3), st.integers(0, 5), st.integers(0, 3), st.sampled_from([-1, 1]),
)  # fmt: skip


@MANY
@given(swizzles)
def test_a_swizzle_changes_places_within_its_span(swizzle: Swizzle):
    span = 1 << swizzle.base + abs(swizzle.shift) + swizzle.bits
    at = np.arange(4 * span)
    moved = swizzle(at)
    assert (swizzle(moved) == at).all()
    assert (moved // span == at // span).all()
    assert (moved % (1 << swizzle.base) == at % (1 << swizzle.base)).all()
    low = [int(x) >> swizzle.base + max(-swizzle.shift, 0) for x in at]
    high = [int(x) >> swizzle.base + max(swizzle.shift, 0) for x in at]
    mask = (1 << swizzle.bits) - 1
    for a, lo, hi, m in zip(at, low, high, moved, strict=True):
        field = (lo ^ hi) & mask
        assert int(m) >> swizzle.base + max(-swizzle.shift, 0) & mask == field
        assert bin(int(m) ^ int(a)).count("1") == bin(hi & mask).count("1")


@pytest.mark.parametrize(
    ("swizzle", "row_bytes"), [(SWIZZLE_32B, 32), (SWIZZLE_64B, 64), (SWIZZLE_128B, 128)]
)
def test_modes_of_tma_xor_the_piece_with_the_line(swizzle, row_bytes):
    """Piece p of 16 bytes in 128-byte line r lies at p XOR the low bits of r (PTX ISA)."""
    mask = row_bytes // 16 - 1
    for line in range(16):
        for piece in range(8):
            at = line * 128 + piece * 16
            assert swizzle(at + 5) == line * 128 + (piece ^ line & mask) * 16 + 5


@MANY
@given(compact_layouts(), st.sampled_from([1, 2, 4, 6, 8, 16, 32]), swizzles)
def test_every_element_has_its_own_bits(layout: MemoryLayout, bits: int, swizzle: Swizzle):
    if swizzle.bits and (8 << swizzle.base) % bits:
        with pytest.raises(TileError, match="the swizzle keeps"):
            SharedLayout(layout, bits, swizzle)
        return
    shared = SharedLayout(layout, bits, swizzle)
    first = shared.bit(np.arange(layout.size))
    taken = (first[:, None] + np.arange(bits)).reshape(-1)
    assert len(set(taken.tolist())) == taken.size
    assert taken.max() < 8 * shared.nbytes <= taken.max() + 8
    assert (shared.address(np.arange(layout.size)) == first // 8).all()
    assert (shared.bank(np.arange(layout.size)) == first // 32 % 32).all()
    assert parse(str(shared)) == shared


def test_a_layout_by_hand():
    shared = SharedLayout(row_major(64, 64), 16, SWIZZLE_128B)
    assert str(shared) == "shared(16, (64,64):(64,1), swizzle(3, 4, 3))"
    assert shared.shape == (64, 64)
    assert shared.nbytes == 8192
    assert shared.bank(3, 0).tolist() == 12
    assert shared.address(3, 8).tolist() == 3 * 128 + 32
    assert str(SharedLayout(column_major((4, 2)), 4)) == "shared(4, (4,2):(1,4))"
    assert SharedLayout(row_major(3), 4).nbytes == 2
    assert Swizzle(0, 4, 3) == NONE


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Swizzle(3, 4, 2), "overlap"),
        (lambda: Swizzle(-1, 4, 2), "overlap"),
        (lambda: SharedLayout(row_major(8), 0), "at least 1 bit"),
        (lambda: SharedLayout(MemoryLayout(8, -1), 8), "no negative stride"),
        (lambda: SharedLayout(row_major(8), 6, SWIZZLE_128B), "keeps 128 bits together"),
    ],
)
def test_errors(make, message):
    with pytest.raises(TileError, match=message):
        make()
