"""Moves between global memory, shared memory and registers: sizes, hints, zeros, matrices."""

from __future__ import annotations

import cuda_kernels as kernels
import numpy as np
import pytest

SOURCE = kernels.source("memory")


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_every_size_is_moved_whatever_the_hint(size: int) -> None:
    count = 3 * 32 * size
    x = np.random.default_rng(size).integers(0, 256, 5 * count).astype("u1")
    y = np.zeros_like(x)
    arguments = {"from": x, "to": y, "bytes": count, "size": size}
    report = kernels.emulator().run(SOURCE, "moves", (3,), (32,), arguments, 512)
    assert report.findings == ()
    assert np.array_equal(x, y)
    assert all(c.sectors == c.ideal_sectors for c in report.counts)
    # Slots are 16 bytes apart: what is smaller than that meets banks several times.
    waves = {c.wavefronts / c.executions for c in report.counts if c.wavefronts}
    assert waves == {4}


def test_copies_that_are_not_kept_are_zeros() -> None:
    x = np.random.default_rng(3).integers(1, 256, 1408).astype("u1")
    y = np.full(1408, 0xFF, "u1")
    report = kernels.emulator().run(SOURCE, "copies", (1,), (32,), {"from": x, "to": y}, 1408)
    assert report.findings == ()
    parts = [(0, 4), (128, 8), (384, 16), (896, 16)]
    for start, size in parts:
        found = y[start : start + 32 * size].reshape(32, size)
        given = x[start : start + 32 * size].reshape(32, size)
        assert np.array_equal(found[::2], given[::2])
        assert not found[1::2].any()


@pytest.mark.parametrize("transposed_in", [0, 1])
@pytest.mark.parametrize("transposed_out", [0, 1])
def test_matrices_go_through_registers(transposed_in: int, transposed_out: int) -> None:
    x = np.arange(256, dtype="u2").reshape(4, 8, 8)
    y = np.zeros((7, 8, 8), "u2")
    arguments = {"from": x, "to": y, "in": transposed_in, "out": transposed_out}
    report = kernels.emulator().run(SOURCE, "matrices", (1,), (32,), arguments, 1408)
    assert report.findings == ()
    expected = x if transposed_in == transposed_out else x.transpose(0, 2, 1)
    assert np.array_equal(y, np.concatenate([expected[:1], expected[:2], expected]))
    assert {c.wavefronts / c.executions for c in report.counted("ldmatrix")} == {1, 2, 4}
    assert {c.wavefronts / c.executions for c in report.counted("stmatrix")} == {1, 2, 4}
