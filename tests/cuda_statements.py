"""Small kernels on the CUDA vocabulary: what each thing that orders accesses is needed for."""

from __future__ import annotations

import re

# Statements of a kernel of the parameters `const u32* x, u32* y`. Without what is in brackets, or
# with what follows the bars there, they are wrong.
ORDER = {
    "the block's barrier": (
        "store_shared(shared + t * 4, x[t]); [[barrier();]]"
        "store_global(y + t, load_shared<u32>(shared + (t ^ 64) * 4));",
        "race",
    ),
    "reads before writes": (
        "store_shared(shared + t * 4, x[t]); barrier();"
        "u32 v = load_shared<u32>(shared + (t ^ 64) * 4); [[barrier();]]"
        "store_shared(shared + t * 4, v + 1);"
        "store_global(y + t, load_shared<u32>(shared + t * 4) - 1);",
        "race",
    ),
    "the warp": (
        "store_shared(shared + t * 4, x[t]); [[warp_sync();]]"
        "store_global(y + (t ^ 64), load_shared<u32>(shared + (t ^ 1) * 4));"
        "store_global(y + (t ^ 64), x[t]);",
        "race",
    ),
    "a barrier of some": (
        "if (t < 64) { store_shared(shared + t * 4, x[t]); barrier_arrive(1, 128); }"
        "else { [[barrier_sync(1, 128);]]"
        "store_global(y + t, load_shared<u32>(shared + (t - 64) * 4)); }"
        "if (t < 64) store_global(y + t, x[t + 64]);",
        "race",
    ),
    "bytes of one word": (
        "store_shared(shared + t, (u8)x[t]); barrier();"
        "u32 v = load_shared<u8>(shared + (t ^ 64)); [[barrier();]]"
        "if (t % 2 == 0) store_shared(shared + t, (u16)0);"
        "store_global(y + t, v);",
        "race",
    ),
    "an mbarrier": (
        "if (t == 0) mbarrier_init(shared + 1024, 64); barrier();"
        "if (t < 64) { store_shared(shared + t * 4, x[t]); mbarrier_arrive(shared + 1024); }"
        "else { [[mbarrier_wait(shared + 1024, 0);]]"
        "store_global(y + t, load_shared<u32>(shared + (t - 64) * 4)); }"
        "if (t < 64) store_global(y + t, x[t + 64]);",
        "race",
    ),
    "an mbarrier that is asked": (
        "if (t == 0) mbarrier_init(shared + 1024, 64); barrier();"
        "if (t < 64) { store_shared(shared + t * 4, x[t]); mbarrier_arrive(shared + 1024); }"
        "else { [[while (!mbarrier_try(shared + 1024, 0)) {}]]"
        "store_global(y + t, load_shared<u32>(shared + (t - 64) * 4)); }"
        "if (t < 64) store_global(y + t, x[t + 64]);",
        "race",
    ),
    "an mbarrier that copies arrive at": (
        "if (t == 0) mbarrier_init(shared + 1024, 128); barrier();"
        "copy_async<4>(shared + t * 4, x + t); mbarrier_arrive_copies(shared + 1024);"
        "[[mbarrier_wait(shared + 1024, 0);]]"
        "store_global(y + (t ^ 64), load_shared<u32>(shared + t * 4));",
        "in-flight",
    ),
    "copies of the own thread": (
        "copy_async<4>(shared + t * 4, x + t); copy_async_commit(); [[copy_async_wait<0>();]]"
        "store_global(y + (t ^ 64), load_shared<u32>(shared + t * 4));",
        "in-flight",
    ),
    "bytes from the copy unit": (
        "if (t == 0) { mbarrier_init(shared + 1024, 1); fence_mbarrier_init(); } barrier();"
        "if (t == 0) { mbarrier_arrive_expect(shared + 1024, 512);"
        " bulk_load(shared, x, 512, shared + 1024); }"
        "[[mbarrier_wait(shared + 1024, 0);]]"
        "store_global(y + t, load_shared<u32>(shared + (t ^ 64) * 4));",
        "in-flight",
    ),
    "bytes for the copy unit": (
        "store_shared(shared + (t ^ 64) * 4, x[t]); [[fence_async();]] barrier();"
        "if (t == 0) { bulk_store(y, shared, 512); bulk_commit(); bulk_wait<0>(); }",
        "proxy-fence",
    ),
    "bytes for the copy unit, fenced by who starts it": (
        "store_shared(shared + (t ^ 64) * 4, x[t]); barrier();"
        "if (t == 0) { [[fence_async();]]"
        "bulk_store(y, shared, 512); bulk_commit(); bulk_wait<0>(); }",
        "proxy-fence",
    ),
    "bytes that the copy unit reads": (
        "store_shared(shared + (t ^ 64) * 4, x[t]); fence_async(); barrier();"
        "if (t == 0) { bulk_store(y, shared, 512); bulk_commit(); [[bulk_wait_read<0>();]]"
        "store_shared(shared, 0u); bulk_wait<0>(); }",
        "overwritten",
    ),
    "global memory in the block": (
        "store_global(y + (t ^ 64), x[t] + 1); [[barrier();]]"
        "u32 v = load_global(y + t); barrier(); store_global(y + t, v - 1);",
        "race-global",
    ),
    "initial values": (
        "store_shared(shared + t * 4, x[t]);"
        "[[store_shared(shared + 512 + t * 4, x[t ^ 64]);]]"
        "store_global(y + t, load_shared<u32>(shared + 512 + t * 4));",
        "uninitialised",
    ),
    "a whole warp": (
        "u32 v; [[||if (t % 32 < 16) v = shuffle_xor(x[t ^ 64], 0);\nelse ]]"
        "v = shuffle_xor(x[t ^ 64], 0); store_global(y + t, v);",
        "divergence",
    ),
}  # fmt: skip
CHOICE = re.compile(r"\[\[(.*?)(?:\|\|(.*?))?\]\]", re.DOTALL)


def source(body: str) -> str:
    return (
        '#include "tilec.cuh"\nusing namespace tilec;\n'
        "TILEC_KERNEL(128) small(const u32* x, u32* y) {\n"
        f"const u32 shared = shared_base(), t = thread_x();\n{body}\n}}\n"
    )


PLACES = """
#include "tilec.cuh"
using namespace tilec;
TILEC_KERNEL(24) places(u32* y) {
  u32 rank = thread_x() + threads_x() * (thread_y() + threads_y() * thread_z());
  u32 block = block_x() + blocks_x() * (block_y() + blocks_y() * block_z());
  u32 code = thread_x() | thread_y() << 4 | thread_z() << 8 | block_x() << 12 | block_y() << 16;
  store_global(y + block * 24 + rank, code | block_z() << 20 | lane() << 24);
}
"""

WARP = """
#include "tilec.cuh"
using namespace tilec;
TILEC_KERNEL(64) warps(const u32* x, u32* y) {
  u32 v = load_global(x + thread_x()), *to = y + thread_x() * 8;
  store_global(to + 0, shuffle(v, lane() * 7));
  store_global(to + 1, shuffle_xor(v, 5));
  store_global(to + 2, shuffle_up(v, 3));
  store_global(to + 3, shuffle_down(v, 3));
  store_global(to + 4, vote_ballot(v % 3 == 0));
  store_global(to + 5, (u32)vote_any(v == 70) | (u32)vote_all(v < 64) << 1);
  store_global(to + 6, (u32)elect());
}
"""
