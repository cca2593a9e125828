"""The kernel that one writes for int4 weights at first: a word per code, shifted, masked, cast."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def w4a16_kernel(x, w, s, y, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr,
                 BN: tl.constexpr):  # fmt: skip
    rows = tl.program_id(0) // (N // BN) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) % (N // BN) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, 128):
        depth = k + tl.arange(0, 128)
        q = tl.load(w + columns[None, :] * (K // 8) + (depth // 8)[:, None])
        q = (q >> (depth % 8 * 4)[:, None]) & 15
        scale = tl.load(s + columns * (K // 128) + k // 128)
        left = tl.load(x + rows[:, None] * K + depth[None, :])
        total = tl.dot(left, (q - 8).to(tl.float16) * scale[None, :], total)
    tl.store(y + rows[:, None] * N + columns[None, :], total)
