"""Each check on the smallest kernel that needs it, beside the same kernel done right."""

from __future__ import annotations

from typing import Any

import cuda_kernels as kernels
import numpy as np
import pytest
from cuda_kernels import Array
from cuda_statements import CHOICE, ORDER, source

from tilec.runtime.report import Report
from tilec.runtime.tensor_map import TensorMap


def run(body: str, **options: Any) -> tuple[Report, Array, Array]:
    """Run these statements on 128 threads. What lies around x and y is nobody's."""
    rooms = np.zeros((2, 3, 4096), "u4")
    x, y = rooms[:, 1, :128]
    x[:], y[:] = np.arange(100, 228), 0xFFFFFFFF
    grid, arguments = options.pop("grid", (1,)), {"x": x, "y": y}
    report = kernels.emulator().run(
        source(body), "small", grid, (128,), arguments, 1032, **options
    )  # fmt: skip
    return report, x, y


@pytest.mark.parametrize("name", ORDER)
def test_what_is_right_is_not_found(name: str) -> None:
    body = CHOICE.sub(r"\1", ORDER[name][0])
    for seed in (0, 1, 2):
        report, x, y = run(body, seed=seed)
        assert report.findings == ()
        assert np.array_equal(y, x[np.arange(128) ^ 64])


@pytest.mark.parametrize("name", ORDER)
def test_what_is_missing_is_found(name: str) -> None:
    body, kind = ORDER[name]
    wrong = CHOICE.sub(lambda found: found[2] or "", body)
    for seed in (0, 1, 2):
        report, _, _ = run(wrong, seed=seed)
        assert kind in report.kinds, [str(f) for f in report.findings]


SINGLE = {
    "a load behind a buffer": ("store_global(y + t, load_global(x + t + 1));", "out-of-bounds"),
    "a store before a buffer": ("store_global(y + t - 1, x[t]);", "out-of-bounds"),
    "an odd load": (
        "u32x2 v = load_global((const u32x2*)(x + t / 2)); store_global(y + t, v.x);",
        "misaligned",
    ),
    "an odd store": ("store_shared(shared + t * 2, x[t]);", "misaligned"),
    "a store to what is read": ("store_global((u32*)x + t, 1u);", "read-only"),
    "an address that was not computed": ("store_shared(t * 4, x[t]);", "shared-bounds"),
    "shared memory ends": ("store_shared(shared + 1032 + t * 4, x[t]);", "shared-bounds"),
    "an mbarrier that was not made": ("mbarrier_arrive(shared);", "mbarrier"),
    "an mbarrier that is made twice": ("mbarrier_init(shared, 1);", "mbarrier"),
    "an mbarrier that is overwritten": (
        "if (t == 0) { mbarrier_init(shared, 1); store_shared(shared, 0u); }",
        "mbarrier",
    ),
    "a barrier of 100 threads": ("barrier_sync(1, 100);", "barrier"),
    "threads that never come": ("if (t < 96) barrier_sync(1, 128);", "deadlock"),
    "a value that no one writes": ("wait_until(y + t, 7);", "deadlock"),
    "a question that no one answers": (
        "if (t == 0) mbarrier_init(shared, 1); barrier(); while (!mbarrier_try(shared, 0)) {}",
        "deadlock",
    ),
    "half a warpgroup": ("if (t < 64) wgmma_fence();", "deadlock"),
    "two writers": ("store_global(y, t);", "race-global"),
    "a warp at two barriers": ("if (t % 2) barrier();\nelse barrier();", "divergence"),
}


@pytest.mark.parametrize("name", SINGLE)
def test_one_access_is_enough(name: str) -> None:
    body, kind = SINGLE[name]
    x, y = np.arange(100, 228, dtype="u4"), np.zeros(128, "u4")
    x.flags.writeable = False
    report = kernels.emulator().run(
        source(body), "small", (1,), (128,), {"x": x, "y": y}, 1032
    )  # fmt: skip
    assert kind in report.kinds, [str(f) for f in report.findings]
    assert not y.any() or kind in ("out-of-bounds", "misaligned", "race-global")


def test_a_finding_says_what_where_and_who() -> None:
    report, _, _ = run("store_global(y + t * 2, x[t]);")
    (found,) = report.findings
    assert (found.kind, found.file, found.line) == ("out-of-bounds", "small.cu", 5)
    assert (found.buffer, found.address, found.threads, found.block) == ("y", 512, (64,), (0, 0, 0))
    assert found.count == 64
    assert str(found) == (
        "small.cu:5: out-of-bounds: store of 4 bytes outside every buffer, at byte 512 of the "
        "nearest one, y of 512 bytes [y byte 512] (x64)"
    )


def test_writers_of_the_same_value_do_no_harm() -> None:
    body = "store_shared(shared, 7u); barrier(); store_global(y + t / 2, load_shared<u32>(shared));"
    report, _, y = run(body)
    assert report.findings == ()
    assert (y[:64] == 7).all()


def test_unchecked_launches_still_find_what_is_outside() -> None:
    report, _, _ = run("store_global(y + t, load_global(x + t + 1));", check=False)
    assert report.kinds == {"out-of-bounds"}


# The last of the blocks to count itself adds up what all have written.
LAST = """
store_global(y + block_x() * 4 + t % 4, x[block_x()] + t % 4);
barrier();
if (t == 0) {
  FIRST
  u32 before = atomic_add(y + 127, 1u);
  if (before == 0xffffffffu + 3) {
    SECOND
    u32 sum = 0;
    for (int i = 0; i < 16; i++) sum += load_global(y + i);
    store_global(y + 64, sum);
  }
}
"""


@pytest.mark.parametrize(("first", "second"), [(True, True), (False, True), (True, False)])
def test_fences_order_relaxed_counters(first: bool, second: bool) -> None:
    body = LAST.replace("FIRST", "fence_device();" * first)
    body = body.replace("SECOND", "fence_device();" * second)
    report, x, y = run(body, grid=(4,), resident=4, seed=2)
    assert report.kinds == (set() if first and second else {"race-global"})
    assert y[64] == sum(int(v) * 4 + 6 for v in x[:4])


def test_a_counter_may_be_set_back_by_the_last_to_count() -> None:
    body = (
        "if (t == 0) {"
        "  u32 before = atomic_add<Order::acq_rel>(y, 1u);"
        "  if (before == 0xffffffffu + 3) store_global(y, 0u);"
        "}"
    )
    report, _, y = run(body, grid=(4,), resident=4, seed=3)
    assert report.findings == ()
    assert y[0] == 0


def test_atomics_need_no_order_and_lose_nothing() -> None:
    body = (
        "reduce_add(y + t % 2, x[t]); atomic_add((s32*)y + 2, -1);"
        "reduce_add((f32*)y + 3, 0.5f); reduce_add_f16x2(y + 4, 0x38003c00);"
        "u32 old = atomic_exchange(y + 8 + t % 32, t);"
        "if (old != 0xffffffff) atomic_compare_exchange(y + 5, 0xffffffff, 9);"
        "reduce_add((f16*)y + 12, f16_from_f32(0.5f)); reduce_add((u64*)y + 20, ~0ull);"
        "reduce_add((bf16*)y + 14, bf16_from_f32(1.0f)); reduce_add((double*)y + 21, 0.25);"
        "if (atomic_compare_exchange((u16*)y + 15, (u16)0, (u16)(t + 1)))"
        "  atomic_compare_exchange((u16*)y + 15, (u16)0, (u16)0);"
    )
    text = "if (t < 8 || t / 4 == 10) store_global(y + t, 0u); barrier();" + body
    report, x, y = run(text, grid=(1,), seed=4)
    assert report.findings == ()
    assert [y[0], y[1]] == [x[::2].sum(), x[1::2].sum()]
    assert y[2] == 0xFFFFFFFF - 127
    assert y.view("f4")[3] == 64
    assert list(y.view("f2")[8:10]) == [128, 64]
    assert y[5] == 0
    assert list(y[40:44]) == [0xFFFFFFFF - 127, 0xFFFFFFFF, 0, 0x40400000]  # -128, and 32.0
    assert y.view("f2")[12] == 64
    assert y.view("u2")[14] == 0x4300  # 128 as bf16
    assert 1 <= y.view("u2")[15] <= 128
    assert {int(v) % 32 for v in y[8:40]} == set(range(32))


BOXES = {
    1: ((40,), (16,), (32,)),
    2: ((5, 16), (4, 8), (3, 12)),
    3: ((3, 4, 8), (2, 2, 4), (-1, 3, 4)),
    4: ((2, 3, 2, 8), (1, 2, 2, 8), (1, 2, -1, 0)),
    5: ((2, 2, 3, 2, 4), (2, 1, 2, 2, 4), (1, 1, 2, 0, -4)),
}


@pytest.mark.parametrize("rank", BOXES)
def test_boxes_of_every_rank_are_loaded_and_stored(rank: int) -> None:
    shape, box, corner = BOXES[rank]
    x = np.arange(1, np.prod(shape) + 1, dtype="f4").reshape(shape)
    y = np.zeros_like(x)
    at = ", ".join(str(c) for c in reversed(corner))
    text = f"""
#include "tilec.cuh"
using namespace tilec;
TILEC_KERNEL(32) move(TILEC_GRID_CONSTANT TensorMap x, TILEC_GRID_CONSTANT TensorMap y,
                      f32* flat, int bytes) {{
  const u32 shared = shared_base(), bar = shared + bytes;
  if (thread_x() == 0) {{
    tensor_prefetch(&x);
    mbarrier_init(bar, 1);
    fence_mbarrier_init();
    mbarrier_expect(bar, bytes);
    tensor_load(shared, &x, bar, {at});
    mbarrier_arrive(bar);
  }}
  barrier();
  mbarrier_wait(bar, 0);
  for (int i = thread_x(); i < bytes / 4; i += 32)
    store_global(flat + i, load_shared<f32>(shared + i * 4));
  barrier();
  if (elect()) {{
    tensor_store(&y, shared, {at});
    bulk_commit();
    bulk_wait_read<0>();
  }}
}}
"""
    size = int(np.prod(box))
    flat = np.full(size, np.nan, "f4")
    arguments = {"x": TensorMap(x, box), "y": TensorMap(y, box), "flat": flat, "bytes": 4 * size}
    report = kernels.emulator().run(text, "move", (1,), (32,), arguments, 4 * size + 8)
    assert report.findings == ()
    padded = np.pad(x, [(8, 8)] * rank)
    window = tuple(slice(c + 8, c + 8 + b) for c, b in zip(corner, box, strict=True))
    assert np.array_equal(flat.reshape(box), padded[window])
    inside = tuple(slice(max(c, 0), c + b) for c, b in zip(corner, box, strict=True))
    expected = np.zeros_like(x)
    expected[inside] = x[inside]
    assert np.array_equal(y, expected)


def test_a_map_of_another_rank_is_found() -> None:
    x = np.zeros((4, 4), "f4")
    text = """
#include "tilec.cuh"
using namespace tilec;
TILEC_KERNEL(32) move(TILEC_GRID_CONSTANT TensorMap x) {
  if (thread_x() == 0) tensor_load(shared_base(), &x, shared_base() + 128, 0);
}
"""
    report = kernels.emulator().run(
        text, "move", (1,), (32,), {"x": TensorMap(x, (4, 4))}, 136
    )  # fmt: skip
    assert report.kinds == {"tensor-map"}


@pytest.mark.parametrize("width", [32, 64, 128])
def test_swizzles_permute_columns_of_16_bytes(width: int) -> None:
    x = np.arange(16 * width // 4, dtype="u4").reshape(16, width // 4)
    y = np.zeros(x.size, "u4")
    text = """
#include "tilec.cuh"
using namespace tilec;
TILEC_KERNEL(32) move(TILEC_GRID_CONSTANT TensorMap x, u32* y, int bytes) {
  const u32 shared = shared_base(), bar = shared + bytes;
  if (thread_x() == 0) {
    mbarrier_init(bar, 1);
    fence_async();
    mbarrier_arrive_expect(bar, bytes);
    tensor_load(shared, &x, bar, 0, 0);
  }
  barrier();
  mbarrier_wait(bar, 0);
  for (int i = thread_x(); i < bytes / 4; i += 32)
    store_global(y + i, load_shared<u32>(shared + i * 4));
}
"""
    arguments = {"x": TensorMap(x, (16, width // 4), width), "y": y, "bytes": x.nbytes}
    report = kernels.emulator().run(text, "move", (1,), (32,), arguments, x.nbytes + 8)
    assert report.findings == ()
    place = np.arange(x.size) * 4
    mask = {32: 0x10, 64: 0x30, 128: 0x70}[width]
    assert np.array_equal(y[(place ^ (place >> 3 & mask)) // 4], x.ravel())


def test_blocks_may_start_in_another_order() -> None:
    body = (
        "if (t == 0) {"
        "  u32 turn = atomic_add(y, 1u) + 1;"  # from 0xffffffff on
        "  store_global(y + 1 + turn, block_x());"
        "}"
    )
    orders: list[list[int]] = []
    for order in (0, 1, 1, 2):
        report, _, y = run(body, grid=(16,), order=order)
        assert report.findings == ()
        orders.append(y[1:17].tolist())
    assert orders[0] == list(range(16)) == sorted(orders[1]) == sorted(orders[3])
    assert orders[1] == orders[2]
    assert orders[0] != orders[1] != orders[3]
