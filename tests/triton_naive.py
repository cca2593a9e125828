"""Kernels that one writes for weights in codes at first: shifted and masked, or bytes, and cast."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def coded_kernel(x, w, s, t, y, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
                 BM: tl.constexpr, BN: tl.constexpr, BITS: tl.constexpr, MASK: tl.constexpr,
                 EACH: tl.constexpr, GROUP: tl.constexpr, KIND: tl.constexpr):  # fmt: skip
    """Words of 32 bits with EACH codes; `t` is a table of values, or a zero for each scale."""
    rows = tl.program_id(0) // (N // BN) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) % (N // BN) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, 128):
        depth = k + tl.arange(0, 128)
        q = tl.load(w + columns[None, :] * (K // EACH) + (depth // EACH)[:, None])
        q = (q >> (depth % EACH * BITS)[:, None]) & MASK
        if GROUP < 128:
            at = columns[None, :] * (K // GROUP) + (depth // GROUP)[:, None]
        else:
            at = columns[None, :] * (K // GROUP) + k // GROUP
        scale = tl.load(s + at)
        if KIND == "table":
            value = tl.load(t + q)
        elif KIND == "zero":
            value = (q - tl.load(t + at)).to(tl.float16)
        else:
            value = (q - (MASK + 1) // 2).to(tl.float16)
        left = tl.load(x + rows[:, None] * K + depth[None, :])
        total = tl.dot(left, value * scale.to(tl.float16), total)
    tl.store(y + rows[:, None] * N + columns[None, :], total)


@triton.jit
def bytes_kernel(x, w, s, y, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, BM: tl.constexpr,
                 BN: tl.constexpr):  # fmt: skip
    """Bytes that are numbers of a type."""
    rows = tl.program_id(0) // (N // BN) * BM + tl.arange(0, BM)
    columns = tl.program_id(0) % (N // BN) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, 128):
        depth = k + tl.arange(0, 128)
        codes = tl.load(w + columns[None, :] * K + depth[:, None])
        scale = tl.load(s + columns * (K // 128) + k // 128)
        left = tl.load(x + rows[:, None] * K + depth[None, :])
        total = tl.dot(left, codes.to(tl.float16) * scale[None, :], total)
    tl.store(y + rows[:, None] * N + columns[None, :], total)
