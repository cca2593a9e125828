"""Triton kernels of many kinds, compiled without a GPU, as modules of PTX."""

# Triton's annotations know tensors only, where its language takes numbers too.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tilec import ptx


@dataclass(frozen=True)
class Compiled:
    """A module of one kernel with what a launch of it needs."""

    module: ptx.Module
    threads: int
    shared: int
    scratch: int

    def run(self, grid: int | tuple[int, ...], *arguments: Any, **options: Any) -> ptx.Report:
        """Run it; Triton's two scratch buffers are added to the arguments."""
        blocks = grid if isinstance(grid, int) else int(np.prod(grid))
        scratch = np.zeros(max(self.scratch * blocks, 1), np.uint8)
        name = self.module.names[0]
        return self.module.run(
            name, grid, self.threads, [*arguments, scratch, 0], shared=self.shared, **options
        )


def compiled(
    function: Any, types: dict[str, str], constants: dict[str, Any], sm: int, even: str = "",
    **options: Any,
) -> Compiled:  # fmt: skip
    """Compile for a compute capability; pointers and the `even` sizes are multiples of 16."""
    signature = types | dict.fromkeys(constants, "constexpr")
    wide = [k for k, (n, t) in enumerate(types.items()) if t[0] == "*" or n in even.split()]
    source = ASTSource(
        function, signature, constants, {(k,): [["tt.divisibility", 16]] for k in wide}
    )
    options = {"enable_fp_fusion": True, **options}
    made = triton.compile(source, target=GPUTarget("cuda", sm, 32), options=options)
    module = ptx.load(made.asm["ptx"])
    block = module.kernel().block
    assert block is not None
    return Compiled(module, block[0], made.metadata.shared, made.metadata.global_scratch_size)


@triton.jit
def gemm(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SUM: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    left = a + rows[:, None] * K + depth[None, :]
    right = b + columns[None, :] * K + depth[:, None]
    total = tl.zeros((BM, BN), SUM)
    for k in range(0, K, BK):
        inside = k + depth < K
        x = tl.load(left + k, mask=(rows[:, None] < M) & inside[None, :], other=0.0)
        y = tl.load(right + k, mask=(columns[None, :] < N) & inside[:, None], other=0.0)
        total = tl.dot(x, y, total, out_dtype=SUM)
    mask = (rows[:, None] < M) & (columns[None, :] < N)
    tl.store(c + rows[:, None] * N + columns[None, :], total.to(c.dtype.element_ty), mask=mask)


@triton.jit
def gemm_by_descriptors(a, b, c, M, N, K, B: tl.constexpr):
    left = tl.make_tensor_descriptor(a, [M, K], [K, 1], [B, B])
    right = tl.make_tensor_descriptor(b, [K, N], [N, 1], [B, B])
    out = tl.make_tensor_descriptor(c, [M, N], [N, 1], [B, B])
    row, column = tl.program_id(0) * B, tl.program_id(1) * B
    total = tl.zeros((B, B), tl.float32)
    for k in range(0, K, B):
        total = tl.dot(left.load([row, k]), right.load([k, column]), total)
    out.store([row, column], total.to(c.dtype.element_ty))


@triton.jit
def gemm_by_specialised_warps(a, b, c, M, N, K, B: tl.constexpr):
    """Some warps bring tiles, others multiply them."""
    left = tl.make_tensor_descriptor(a, [M, K], [K, 1], [B, B])
    right = tl.make_tensor_descriptor(b, [N, K], [K, 1], [B, B])
    row, column = tl.program_id(0) * B, tl.program_id(1) * B
    total = tl.zeros((B, B), tl.float32)
    for k in tl.range(0, K, B, warp_specialize=True):
        total = tl.dot(left.load([row, k]), right.load([column, k]).T, total)
    rows, columns = row + tl.arange(0, B), column + tl.arange(0, B)
    tl.store(c + rows[:, None] * N + columns[None, :], total)


@triton.jit
def w4a16(x, q, scale, y, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """q holds eight codes of 4 bits along K in each word; one scale for BK of them."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        depth = k + tl.arange(0, BK)
        left = tl.load(x + rows[:, None] * K + depth[None, :], mask=rows[:, None] < M, other=0.0)
        words = tl.load(q + (depth // 8)[:, None] * N + columns[None, :])
        codes = (words >> (depth % 8 * 4)[:, None]) & 15
        s = tl.load(scale + k // BK * N + columns)
        weights = (codes.to(tl.float16) - 8.0) * s[None, :]
        total = tl.dot(left, weights.to(tl.float16), total)
    tl.store(y + rows[:, None] * N + columns[None, :], total, mask=rows[:, None] < M)


@triton.jit
def attention(q, k, v, out, T, scale, BQ: tl.constexpr, BK: tl.constexpr, D: tl.constexpr):
    """One head, causal, with the running maximum and sum of softmax."""
    head = tl.program_id(1) * T * D
    rows = tl.program_id(0) * BQ + tl.arange(0, BQ)
    column = tl.arange(0, D)
    x = tl.load(q + head + rows[:, None] * D + column[None, :], mask=rows[:, None] < T, other=0.0)
    best = tl.full((BQ,), -1e30, tl.float32)
    norm = tl.zeros((BQ,), tl.float32)
    total = tl.zeros((BQ, D), tl.float32)
    for start in range(0, (tl.program_id(0) + 1) * BQ, BK):
        at = start + tl.arange(0, BK)
        y = tl.load(k + head + at[None, :] * D + column[:, None], mask=at[None, :] < T, other=0.0)
        s = tl.dot(x, y) * scale
        s = tl.where((at[None, :] <= rows[:, None]) & (at[None, :] < T), s, -1e30)
        top = tl.maximum(best, tl.max(s, 1))
        p = tl.exp2(s - top[:, None])
        shrink = tl.exp2(best - top)
        norm = norm * shrink + tl.sum(p, 1)
        z = tl.load(v + head + at[:, None] * D + column[None, :], mask=at[:, None] < T, other=0.0)
        total = tl.dot(p.to(z.dtype), z, total * shrink[:, None])
        best = top
    total = total / norm[:, None]
    place = out + head + rows[:, None] * D + column[None, :]
    tl.store(place, total.to(out.dtype.element_ty), mask=rows[:, None] < T)


@triton.jit
def softmax(x, y, N, B: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, B)
    v = tl.load(x + row * N + column, mask=column < N, other=-float("inf")).to(tl.float32)
    e = tl.exp(v - tl.max(v, 0))
    tl.store(y + row * N + column, e / tl.sum(e, 0), mask=column < N)


@triton.jit
def layer_norm(x, w, b, y, N, epsilon, B: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, B)
    inside = column < N
    v = tl.load(x + row * N + column, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(v, 0) / N
    d = tl.where(inside, v - mean, 0.0)
    scale = tl.rsqrt(tl.sum(d * d, 0) / N + epsilon)
    gain, shift = tl.load(w + column, mask=inside), tl.load(b + column, mask=inside)
    tl.store(y + row * N + column, d * scale * gain + shift, mask=inside)


@triton.jit
def column_sums(x, out, M, N, BM: tl.constexpr, BN: tl.constexpr):
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    columns = tl.program_id(1) * BN + tl.arange(0, BN)
    mask = (rows[:, None] < M) & (columns[None, :] < N)
    v = tl.load(x + rows[:, None] * N + columns[None, :], mask=mask, other=0.0)
    tl.atomic_add(out + columns, tl.sum(v, 0), mask=columns < N)


@triton.jit
def gather(table, index, out, N, D: tl.constexpr, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    column = tl.arange(0, D)
    which = tl.load(index + at, mask=at < N, other=0)
    v = tl.load(table + which[:, None] * D + column[None, :])
    tl.store(out + at[:, None] * D + column[None, :], v, mask=at[:, None] < N)


@triton.jit
def running_sums(x, out, B: tl.constexpr, R: tl.constexpr):
    row, column = tl.arange(0, R)[:, None], tl.arange(0, B)[None, :]
    v = tl.load(x + row * B + column)
    tl.store(out + row * B + column, tl.cumsum(v, 1))


@triton.jit
def sort_rows(x, out, B: tl.constexpr, R: tl.constexpr):
    row, column = tl.arange(0, R)[:, None], tl.arange(0, B)[None, :]
    tl.store(out + row * B + column, tl.sort(tl.load(x + row * B + column)))


@triton.jit
def best_of_rows(x, value, place, N, B: tl.constexpr):
    row, column = tl.program_id(0), tl.arange(0, B)
    v = tl.load(x + row * N + column, mask=column < N, other=-float("inf"))
    best, at = tl.max(v, 0, return_indices=True)
    tl.store(value + row, best)
    tl.store(place + row, at)


@triton.jit
def counts(x, out, N, B: tl.constexpr):
    at = tl.arange(0, B)
    v = tl.load(x + at, mask=at < N, other=0)
    h = tl.histogram(v, 16, mask=at < N)
    tl.store(out + tl.arange(0, 16), h)


@triton.jit
def transposed(x, out, M, N, B: tl.constexpr):
    row = tl.program_id(0) * B + tl.arange(0, B)
    column = tl.program_id(1) * B + tl.arange(0, B)
    v = tl.load(x + row[:, None] * N + column[None, :])
    tl.store(out + column[:, None] * M + row[None, :], tl.trans(v))


@triton.jit
def random_bits(out, seed, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(out + at, tl.randint(seed, at))


@triton.jit
def to_fp8(x, out, scale, N, B: tl.constexpr):
    at = tl.program_id(0) * B + tl.arange(0, B)
    v = tl.load(x + at, mask=at < N) * scale
    tl.store(out + at, v.to(out.dtype.element_ty), mask=at < N)


@triton.jit
def scaled_gemm(a, sa, b, sb, c, K, B: tl.constexpr, BK: tl.constexpr):
    """Elements of e4m3 with a scale of a power of two for each 32 along K."""
    row, column = tl.arange(0, B), tl.arange(0, B)
    total = tl.zeros((B, B), tl.float32)
    for k in range(0, K, BK):
        depth, group = k + tl.arange(0, BK), k // 32 + tl.arange(0, BK // 32)
        x = tl.load(a + row[:, None] * K + depth[None, :])
        y = tl.load(b + column[None, :] * K + depth[:, None])
        p = tl.load(sa + row[:, None] * (K // 32) + group[None, :])
        q = tl.load(sb + column[:, None] * (K // 32) + group[None, :])
        total = tl.dot_scaled(x, p, "e4m3", y, q, "e4m3", total)
    tl.store(c + row[:, None] * B + column[None, :], total)
