// c[m, n] f32 = a[m, k] b[k, n], both f16 and row-major; k and n are multiples of 8. Tiles come by
// cp.async through three stages, rows of 16-byte columns permuted so that ldmatrix meets no bank
// twice, and are multiplied by mma.sync. A block of 4 warps makes 64 x 64.
#include "tilec.cuh"
using namespace tilec;

constexpr int TILE = 64, DEPTH = 32, STAGES = 3;
constexpr u32 A_BYTES = TILE * DEPTH * 2, STAGE_BYTES = A_BYTES + DEPTH * TILE * 2;

TILEC_DEVICE u32 a_place(u32 row, u32 column) {
  return row * 64 + ((column ^ (row >> 1 & 3)) << 4);
}
TILEC_DEVICE u32 b_place(u32 row, u32 column) { return row * 128 + ((column ^ (row & 7)) << 4); }

TILEC_DEVICE void load_stage(u32 stage, const f16* a, const f16* b, int m, int n, int k, int row,
                             int column, int depth) {
#pragma unroll
  for (int i = 0; i < 2; i++) {
    int piece = thread_x() + i * 128, r = piece / 4, c = piece % 4;
    bool inside = row + r < m && depth + c * 8 < k;
    copy_async<16>(stage + a_place(r, c), a + (inside ? (row + r) * k + depth + c * 8 : 0), inside);
  }
#pragma unroll
  for (int i = 0; i < 2; i++) {
    int piece = thread_x() + i * 128, r = piece / 8, c = piece % 8;
    bool inside = depth + r < k && column + c * 8 < n;
    copy_async<16>(stage + A_BYTES + b_place(r, c),
                   b + (inside ? (depth + r) * n + column + c * 8 : 0), inside);
  }
}

TILEC_KERNEL(128) gemm(const f16* a, const f16* b, f32* c, int m, int n, int k) {
  const u32 shared = shared_base(), warp = thread_x() / 32;
  const int row = block_y() * TILE, column = block_x() * TILE, steps = (k + DEPTH - 1) / DEPTH;
  const u32 warp_row = warp % 2 * 32, warp_column = warp / 2 * 32;
  f32 sum[2][4][4];
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) sum[i][j][e] = 0;

  for (int s = 0; s < STAGES - 1; s++) {
    if (s < steps) load_stage(shared + s * STAGE_BYTES, a, b, m, n, k, row, column, s * DEPTH);
    copy_async_commit();
  }
  for (int step = 0; step < steps; step++) {
    copy_async_wait<STAGES - 2>();
    barrier();
    int next = step + STAGES - 1;
    if (next < steps)
      load_stage(shared + next % STAGES * STAGE_BYTES, a, b, m, n, k, row, column, next * DEPTH);
    copy_async_commit();
    u32 a_tile = shared + step % STAGES * STAGE_BYTES, b_tile = a_tile + A_BYTES;
#pragma unroll
    for (int kk = 0; kk < DEPTH / 16; kk++) {
      u32 left[2][4], right[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++)
        ldmatrix(left[i], a_tile + a_place(warp_row + i * 16 + lane() % 16, kk * 2 + lane() / 16));
#pragma unroll
      for (int j = 0; j < 2; j++)
        ldmatrix_trans(right[j], b_tile + b_place(kk * 16 + lane() % 16,
                                                  warp_column / 8 + j * 2 + lane() / 16));
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
          u32 pair[2] = {right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]};
          mma<16, f16, f16>(sum[i][j], left[i], pair);
        }
    }
  }
  copy_async_wait<0>();
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int r = row + warp_row + i * 16 + lane() / 4 + e / 2 * 8;
        int s = column + warp_column + j * 8 + lane() % 4 * 2 + e % 2;
        if (r < m && s < n) store_global(c + r * n + s, sum[i][j][e]);
      }
}
