"""Whole kernels give exactly what numpy gives, whatever order their threads run in, and no check
finds anything in them; memory is accessed as well as it can be."""

from __future__ import annotations

import cuda_kernels as kernels
import numpy as np
import pytest

CASES = {
    "gemm_async": kernels.gemm_async(128, 192, 160),
    "gemm_async, ragged": kernels.gemm_async(72, 104, 56),
    "gemm_async, shallow": kernels.gemm_async(16, 8, 8),
    "gemm_warpgroups": kernels.gemm_warpgroups(256, 64, 384),
    "gemm_warpgroups, ragged": kernels.gemm_warpgroups(200, 72, 328),
    "w4a16": kernels.w4a16(112, 256),
    "w4_warpgroup": kernels.w4_warpgroup(40, 128, 320),
    "sparse_f16": kernels.sparse("sparse_f16", 64, 24, 128),
    "sparse_bf16": kernels.sparse("sparse_bf16", 32, 8, 96),
    "sparse_s8": kernels.sparse("sparse_s8", 64, 16, 192),
    "split_k": kernels.split_k(128, 37, 4),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", [0, 7])
def test_checked_kernels_are_exact_and_clean(name: str, seed: int) -> None:
    case = CASES[name]
    report = case.run(seed=seed)
    assert report.findings == ()
    assert case.exact()


@pytest.mark.parametrize("name", CASES)
def test_unchecked_kernels_are_exact_and_count_nothing(name: str) -> None:
    case = CASES[name]
    report = case.run(check=False, seed=3)
    assert (report.findings, report.counts) == ((), ())
    assert case.exact()


@pytest.mark.parametrize("name", ["gemm_async", "gemm_warpgroups", "w4a16"])
def test_no_bank_is_met_twice(name: str) -> None:
    report = CASES[name].run()
    waves = {c.line: (c.wavefronts, c.ideal_wavefronts) for c in report.counts if c.wavefronts}
    assert waves
    assert all(real == ideal for real, ideal in waves.values()), waves


def test_counts_are_those_of_the_loops() -> None:
    case = kernels.gemm_async(128, 64, 96)
    counted = {c.operation: c for c in case.run().counts if c.operation != "ldmatrix"}
    warps, steps = 2 * 4, 3
    assert counted["mma"].executions == warps * steps * 2 * 2 * 4
    assert counted["mma"].line == case.line("mma<16, f16, f16>")
    stores = counted["store_global"]
    assert stores.executions == warps * 2 * 4 * 4
    # Each store puts single words, 8 bytes apart, into 8 rows; a sector has room for 8 words.
    assert (stores.sectors, stores.ideal_sectors) == (stores.executions * 8, stores.executions * 4)


def test_lines_are_those_that_line_directives_give() -> None:
    case = kernels.gemm_async(16, 8, 8)
    moved = case.changed("TILEC_KERNEL", '#line 5 "linear.tile"\nTILEC_KERNEL')
    first = case.line("TILEC_KERNEL")
    (found,) = moved.run().counted("mma")
    assert (found.file, found.line) == ("linear.tile", case.line("mma<16, f16, f16>") - first + 5)


def test_blocks_that_wait_for_earlier_ones_need_not_be_resident() -> None:
    case = CASES["split_k"]
    assert case.run(resident=1).findings == ()
    assert case.exact()
    locks = case.arguments["locks"]
    assert isinstance(locks, np.ndarray)
    assert not locks.any()
