"""Bank conflicts: counts known from theory, and a second simulation without numpy."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilec.ir.errors import TileError
from tilec.ir.layout.banks import Traffic, access, matrix_access, wavefronts, widest
from tilec.ir.layout.fragments import matrices, mma_a, mma_b, mma_c, wgmma_c
from tilec.ir.layout.memory import MemoryLayout, column_major, row_major
from tilec.ir.layout.register import local, replicated, spatial
from tilec.ir.layout.shared import SWIZZLE_32B, SWIZZLE_64B, SWIZZLE_128B, SharedLayout

LANES = np.arange(32)[None]


@pytest.mark.parametrize("stride", range(1, 65))
def test_a_stride_of_words_conflicts_by_its_common_factor_with_the_banks(stride):
    assert wavefronts(LANES * 4 * stride, 4) == Traffic((math.gcd(stride, 32),), (1,))


def test_phases_of_wide_accesses():
    assert wavefronts(LANES * 8, 8) == Traffic((2,), (2,))
    assert wavefronts(LANES * 16, 16) == Traffic((4,), (4,))
    assert wavefronts(LANES * 2, 2) == Traffic((1,), (1,))
    assert wavefronts(LANES * 0, 16) == Traffic((4,), (4,))  # one word, in each quarter
    assert wavefronts(LANES * 32, 16) == Traffic((8,), (4,))
    assert wavefronts(LANES % 8 * 128, 4) == Traffic((8,), (1,))
    halves = np.where(LANES < 16, LANES * 8, LANES * 8 + 4096)
    assert wavefronts(halves, 8).free
    assert wavefronts(np.concatenate([LANES * 4, LANES * 8]), 4) == Traffic((1, 2), (1, 1))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 200), min_size=32, max_size=32), st.sampled_from([1, 2, 4, 8, 16]))
def test_counts_agree_with_a_plain_simulation(numbers: list[int], width: int):
    total = 0
    lanes = {16: 8, 8: 16}.get(width, 32)
    for first in range(0, 32, lanes):
        asked: dict[int, set[int]] = {}
        for n in numbers[first : first + lanes]:
            for byte in range(n * width, (n + 1) * width):
                asked.setdefault(byte // 4 % 32, set()).add(byte // 4)
        total += max(map(len, asked.values()))
    found = wavefronts(np.array([numbers]) * width, width)
    assert found.wavefronts == (total,)
    assert found.free == (total == 32 // lanes)


def test_ldmatrix_of_rows_of_64_and_256_bytes():
    """What an emulated kernel counted: 16 and 32 wavefronts for four matrices, not 4."""
    plain = SharedLayout(MemoryLayout((16, 16), (32, 1)), 16)
    assert matrix_access(mma_a(16, 16, 16), plain) == Traffic((16,), (4,))
    assert widest(mma_a(16, 16, 16), plain) == 4
    wide = SharedLayout(MemoryLayout((32, 8), (128, 1)), 16)
    assert matrix_access(mma_b(16, 32), wide, 4, transposed=True) == Traffic((32,), (4,))


@pytest.mark.parametrize(
    ("columns", "swizzle"), [(16, SWIZZLE_32B), (32, SWIZZLE_64B), (64, SWIZZLE_128B)]
)
def test_the_modes_of_tma_free_ldmatrix_of_conflicts(columns, swizzle):
    tile = local(1, columns // 16) * mma_a(16, 16, 16)
    assert matrix_access(tile, SharedLayout(row_major(16, columns), 16, swizzle)).free
    straight = matrix_access(tile, SharedLayout(row_major(16, columns), 16))
    wanted = 4 * columns // 16
    assert straight == Traffic((2 * wanted,) * (columns // 16), (4,) * (columns // 16))


def test_ldmatrix_reads_what_the_fragment_says():
    """Each lane's registers, from rows of 16 bytes at the addresses that are counted."""
    shared = SharedLayout(row_major(32, 8), 16)
    for transposed in (False, True):
        layout = matrices(4, transposed)
        assert matrix_access(layout, shared, 4, transposed) == Traffic((4,), (4,))
        with pytest.raises(TileError, match="rows of 8x8 matrices"):
            matrix_access(layout, shared, 4, not transposed)
    assert matrix_access(matrices(1), SharedLayout(row_major(8, 8), 16), 1).ideal == (1,)
    whole_columns = SharedLayout(column_major((8, 8)), 16)
    assert matrix_access(matrices(1), whole_columns, 1, transposed=True).free
    bytes_ = SharedLayout(row_major(16, 32), 8)
    assert matrix_access(mma_a(8, 16, 32), bytes_).ideal == (4,)


def test_padding_and_swizzles_of_an_epilogue():
    """Accumulators of f32 stored to rows of 256 bytes: pairs of lanes at the same banks."""
    tile = local(1, 8) * mma_c(16)
    rows = SharedLayout(row_major(16, 64), 32)
    found = access(tile, rows, 8)
    assert found == Traffic((8,) * 16, (2,) * 16)
    padded = SharedLayout(MemoryLayout((16, 64), (64 + 8, 1)), 32)
    assert access(tile, padded, 8).free
    assert widest(tile, rows) == 8
    assert len(access(wgmma_c(8), SharedLayout(row_major(64, 8), 32), 8).wavefronts) == 2 * 4


def test_vectors_of_packed_elements():
    four = SharedLayout(row_major(8, 128), 4)
    assert widest(spatial(8, 4).local(1, 32), four) == 16
    assert access(spatial(8, 4).local(1, 32), four, 16) == Traffic((4,), (4,))
    assert widest(spatial(8, 4).local(1, 4) * local(1, 8), four) == 16
    assert widest(local(1, 4).spatial(8, 4).local(1, 8), four) == 4
    assert access(replicated(32).local(8, 128), four, 16) == Traffic((4,) * 32, (4,) * 32)
    with pytest.raises(TileError, match="no access moves whole bytes"):
        widest(local(8, 4).spatial(1, 32), four)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: wavefronts(LANES * 4, 3), "moves 1, 2, 4, 8, 16 bytes, not 3"),
        (lambda: wavefronts(LANES * 4 + 4, 8), "at address 4 is not aligned"),
        (lambda: access(spatial(32), SharedLayout(row_major(31), 32), 4), r"a tile of \(32,\)"),
        (lambda: access(spatial(32), SharedLayout(row_major(32), 8), 4), "4 bytes at a time"),
        (lambda: access(spatial(48), SharedLayout(row_major(48), 32), 4), "no whole number of"),
        (lambda: access(spatial(32).local(2), SharedLayout(MemoryLayout(64, 2), 32), 8),
         "8 bytes of a thread of .* are not together"),
        (lambda: matrix_access(spatial(32), SharedLayout(row_major(32), 32)), "ldmatrix.x4 gives"),
        (lambda: matrix_access(spatial(32), SharedLayout(row_major(32), 32), 1, transposed=True),
         "moves elements of 16 bits, not 32"),
    ],
)  # fmt: skip
def test_errors(run, message):
    with pytest.raises(TileError, match=message):
        run()
