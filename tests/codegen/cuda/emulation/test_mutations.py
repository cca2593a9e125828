"""One mistake at a time in kernels that are right: each is found, by the check that is for it, at
its lines. Some of them give right numbers on the data here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cuda_kernels as kernels
import pytest
from cuda_kernels import Case


@dataclass(frozen=True)
class Mistake:
    """A passage of a kernel and what it is changed into.

    `kind` is that of a finding that tells of it, whose lines are those with the texts `at` and
    `other` (of the changed source, if given).
    """

    case: Callable[[], Case]
    old: str
    new: str
    kind: str
    at: str = ""
    other: str = ""
    options: tuple[tuple[str, Any], ...] = ()


def _gemm() -> Case:
    return kernels.gemm_async(72, 104, 160)


def _warpgroups() -> Case:
    return kernels.gemm_warpgroups(200, 72, 456)


def _w4() -> Case:
    return kernels.w4_warpgroup(24, 64, 256)


def _split() -> Case:
    return kernels.split_k(128, 21, 3)


PREFETCH = """    barrier();
    int next = step + STAGES - 1;
    if (next < steps)
      load_stage(shared + next % STAGES * STAGE_BYTES, a, b, m, n, k, row, column, next * DEPTH);
"""
STORE = "if (r < m && s < n)"
A_COPY = "copy_async<16>(stage + a_place(r, c)"
STAGE_LOAD = "tensor_load(to, a, full"
WGMMA = "wgmma<COLUMNS, f16, f16>(sum, a, b, true)"
W4_WGMMA = "wgmma<TOKENS, f16, f16>"

MISTAKES = {
    # cp.async, ldmatrix, mma.sync
    "no barrier in the loop": Mistake(
        _gemm, "    copy_async_wait<STAGES - 2>();\n    barrier();",
        "    copy_async_wait<STAGES - 2>();", "race", "ldmatrix(left[i]", A_COPY,
    ),
    "waits for one group too few": Mistake(
        _gemm, "copy_async_wait<STAGES - 2>", "copy_async_wait<STAGES - 1>", "in-flight",
        "ldmatrix(left[i]", A_COPY,
    ),
    "groups are not closed": Mistake(
        _gemm, "DEPTH);\n    copy_async_commit();\n  }", "DEPTH);\n  }", "in-flight",
        "ldmatrix(left[i]", A_COPY,
    ),
    "prefetch before the barrier": Mistake(
        _gemm, PREFETCH, PREFETCH.replace("    barrier();\n", "") + "    barrier();\n", "race",
        A_COPY, "ldmatrix(left[i]",
    ),
    "rows beyond the matrix are read": Mistake(
        _gemm, "row + r < m && depth + c * 8 < k", "depth + c * 8 < k", "out-of-bounds", A_COPY,
    ),
    "rows beyond the matrix are written": Mistake(
        _gemm, STORE, "if (s < n)", "out-of-bounds", "store_global(c",
    ),
    "copies from odd places": Mistake(
        _gemm, "(row + r) * k + depth + c * 8 : 0", "(row + r) * k + depth + c * 8 - c % 2 : 0",
        "misaligned", A_COPY,
    ),
    "a tile that is larger than its place": Mistake(
        _gemm, "row * 128 + ((column", "row * 192 + ((column", "shared-bounds",
    ),
    "rows that are never loaded": Mistake(
        _gemm, "i < 2; i++) {\n    int piece = thread_x() + i * 128, r = piece / 8",
        "i < 1; i++) {\n    int piece = thread_x() + i * 128, r = piece / 8", "uninitialised",
        "ldmatrix_trans(right[j]",
    ),
    "copies that are not waited for": Mistake(
        _gemm, "  copy_async_wait<0>();\n",
        "  load_stage(shared, a, b, m, n, k, row, column, 0);\n", "exit", A_COPY,
    ),
    "half a warp multiplies": Mistake(
        _gemm, "          mma<16, f16, f16>(sum",
        "          if (lane() < 16) mma<16, f16, f16>(sum", "divergence",
    ),
    # copy unit, mbarriers, wgmma
    "stages are refilled at once": Mistake(
        _warpgroups, "if (step >= STAGES) mbarrier_wait", "if (false) mbarrier_wait", "race",
        STAGE_LOAD, STAGE_LOAD,
    ),
    "too few bytes are expected": Mistake(
        _warpgroups, "full(shared, stage), STAGE_BYTES)",
        "full(shared, stage), STAGE_BYTES - 1024)", "deadlock", "mbarrier_wait(full",
    ),
    "stages are read at once": Mistake(
        _warpgroups, "    mbarrier_wait(full(shared, stage), step / STAGES & 1);\n", "",
        "in-flight", WGMMA,
    ),
    "a stage is given back while it is read": Mistake(
        _warpgroups, "    wgmma_wait<0>();\n    if (thread_x() % 128 == 0) mbarrier_arrive",
        "    wgmma_wait<1>();\n    if (thread_x() % 128 == 0) mbarrier_arrive", "overwritten",
        STAGE_LOAD, WGMMA,
    ),
    "results are taken while they are made": Mistake(
        _warpgroups, "    wgmma_wait<0>();\n", "", "exit", WGMMA,
    ),
    "the wrong parity": Mistake(
        _warpgroups, "(step / STAGES - 1) & 1", "step / STAGES & 1", "race",
        STAGE_LOAD, STAGE_LOAD,
    ),
    "one consumer is enough": Mistake(
        _warpgroups, "mbarrier_init(empty(shared, s), CONSUMERS)",
        "mbarrier_init(empty(shared, s), 1)", "deadlock", "mbarrier_wait(empty",
    ),
    "barriers are used before they are made": Mistake(
        _warpgroups, "  barrier();\n  if (group == 0)", "  if (group == 0)", "mbarrier", "",
        options=(("seed", 5),),
    ),
    "the copy unit does not see the barriers": Mistake(
        _warpgroups, "    fence_mbarrier_init();\n", "", "proxy-fence", STAGE_LOAD,
        "mbarrier_init(full",
    ),
    "the copy unit does not see the results": Mistake(
        _warpgroups, "  fence_async();\n", "", "proxy-fence", "tensor_store(c", "stmatrix(tile",
    ),
    "results are stored before all are there": Mistake(
        _warpgroups, "  barrier_sync(1 + group, 128);\n", "", "race", "tensor_store(c",
        "stmatrix(tile",
    ),
    "a barrier of other threads": Mistake(
        _warpgroups, "barrier_sync(1 + group, 128)", "barrier_sync(1 + group, 256)", "deadlock",
        "barrier_sync(1 + group",
    ),
    "two groups at one barrier, of two sizes": Mistake(
        _warpgroups, "barrier_sync(1 + group, 128)", "barrier_sync(1, 128 + 128 * group)",
        "barrier", "barrier_sync(1", "barrier_sync(1",
    ),
    "the block ends while results are read": Mistake(
        _warpgroups, "    bulk_wait_read<0>();\n", "", "exit", "tensor_store(c",
    ),
    "no fence before wgmma": Mistake(
        _warpgroups, "    wgmma_fence();\n", "", "wgmma-fence", WGMMA,
    ),
    "a stage that is not aligned to its swizzle": Mistake(
        _warpgroups, "const u32 shared = shared_base(),", "const u32 shared = shared_base() + 128,",
        "descriptor", WGMMA, options=(("shared_bytes", 4 * 24576 + 16384 + 64 + 128),),
    ),
    "too many arrivals": Mistake(
        _warpgroups, "mbarrier_arrive_expect(full(shared, stage), STAGE_BYTES);",
        "mbarrier_arrive_expect(full(shared, stage), STAGE_BYTES);\n"
        "    mbarrier_arrive(full(shared, stage));", "mbarrier", "mbarrier_arrive(full",
    ),
    # A of wgmma in registers
    "a fragment changes while it is read": Mistake(
        _w4, "      if (kk >= 2) wgmma_wait<1>();\n", "", "wgmma-register", W4_WGMMA,
    ),
    "a fragment changes after the fence": Mistake(
        _w4, "      decode(code[kk], fragment[kk % 2]);\n      wgmma_fence();\n",
        "      wgmma_fence();\n      decode(code[kk], fragment[kk % 2]);\n", "wgmma-fence",
        W4_WGMMA,
    ),
    "threads give different descriptors": Mistake(
        _w4, "STAGE_BYTES + kk * 32, 16, 1024", "STAGE_BYTES + kk * 32 + lane(), 16, 1024",
        "descriptor", W4_WGMMA,
    ),
    # decoding, sparsity
    "x is multiplied before it is there": Mistake(
        lambda: kernels.w4a16(48, 128), "  barrier();\n", "", "race", "ldmatrix(rows",
        "store_shared(shared",
    ),
    "metadata that is not ordered": Mistake(
        lambda: kernels.sparse("sparse_s8", 16, 8, 128),
        "u32 indices = load_global(metadata + (step * (m / 16)",
        "u32 indices = ~load_global(metadata + (step * (m / 16)", "metadata", "mma_sp<64",
    ),
    # locks
    "a lock that releases nothing": Mistake(
        _split, "store_release(lock,", "store_global<Cache::normal, u32>(lock,", "race-global",
        "load_global(c + row", "store_global(c + row",
    ),
    "a lock that nobody waits for": Mistake(
        _split, "if (thread_x() == 0) wait_until(lock, slice);", "", "race-global",
        "load_global(c + row", "store_global(c + row", options=(("seed", 3),),
    ),
    "one thread knows, and does not tell": Mistake(
        _split, "wait_until(lock, slice);\n    barrier();", "wait_until(lock, slice);",
        "race-global", "load_global(c + row", "store_global(c + row",
    ),
    "a lock that is handed on too early": Mistake(
        _split, "  barrier();\n  if (thread_x() == 0) store_release",
        "  if (thread_x() == 0) store_release", "race-global", "load_global(c + row",
        "store_global(c + row",
    ),
    "a lock that is not handed on": Mistake(
        _split, "slice + 1 < slices ? slice + 1 : 0", "slice", "deadlock", "wait_until",
    ),
    "blocks that wait for later ones": Mistake(
        _split, "slices = blocks_y(), slice = block_y();",
        "slices = blocks_y(), slice = slices - 1 - block_y();", "deadlock", "wait_until",
        options=(("resident", 1),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found(name: str) -> None:
    mistake = MISTAKES[name]
    case = mistake.case().changed(mistake.old, mistake.new)
    report = case.run(**dict(mistake.options))
    assert mistake.kind in report.kinds, [str(f) for f in report.findings]
    found = [f for f in report.findings if f.kind == mistake.kind]
    if mistake.at:
        found = [f for f in found if f.line == case.line(mistake.at)]
        assert found, [str(f) for f in report.findings]
    if mistake.other:
        lines = {f.other_line for f in found}
        assert case.line(mistake.other) in lines, [str(f) for f in report.findings]


def test_conflicts_of_banks_are_counted() -> None:
    case = _gemm().changed("((column ^ (row >> 1 & 3)) << 4)", "(column << 4)")
    counts = {c.line: c for c in case.run().counted("ldmatrix")}
    found = counts[case.line("ldmatrix(left[i]")]
    assert found.wavefronts == 4 * found.ideal_wavefronts
    assert case.exact()


@pytest.mark.parametrize(
    ("make", "old", "new"),
    [
        (_gemm, "{right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]}",
         "{right[j / 2][j % 2], right[j / 2][j % 2 + 2]}"),
        (_warpgroups, "tile + A_BYTES + kk * 32, 16, 8", "tile + A_BYTES + kk * 32, 16, 4"),
        (lambda: kernels.w4a16(48, 128), "decode(code[i] >> 8,", "decode(code[i] >> 4,"),
        (lambda: kernels.sparse("sparse_f16", 32, 8, 64), "mma_sp<32, T, T, 1>",
         "mma_sp<32, T, T, 0>"),
    ],
    ids=["fragments", "descriptor", "decode", "selector"],
)  # fmt: skip
def test_wrong_layouts_give_wrong_numbers(make: Callable[[], Case], old: str, new: str) -> None:
    case = make().changed(old, new)
    case.run()
    assert not case.exact()


def test_a_race_may_give_right_numbers() -> None:
    mistake = MISTAKES["prefetch before the barrier"]
    case = mistake.case().changed(mistake.old, mistake.new)
    for seed in range(4):
        assert "race" in case.run(seed=seed).kinds
        assert case.exact()
