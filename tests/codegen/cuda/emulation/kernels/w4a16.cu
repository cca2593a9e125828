// y[16, n] f32 = x[16, k] f16 times 4-bit weights with f16 scales for groups of 128 along k. A warp
// makes 16 columns. The weights lie in fragment order: q[k / 64][n / 16][lane] is 4 words, each 8
// codes of a 16 x 16 tile in the order that lop3 takes pairs out of; scales[k / 128][n] are twice
// in a word.
#include "tilec.cuh"
using namespace tilec;

constexpr int GROUP = 128;

TILEC_DEVICE u32 x_place(u32 row, u32 column, int k) {
  return row * k * 2 + ((column ^ (row & 7)) << 4);
}

// Codes 0 and 4 of q as a pair of f16, less 8; and codes 1 and 5.
TILEC_DEVICE void decode(u32 q, u32 scale, u32 (&pair)[2]) {
  u32 low = lop3<(0xf0 & 0xcc) | 0xaa>(q, 0x000f000f, 0x64006400);   // 1024 + code
  u32 high = lop3<(0xf0 & 0xcc) | 0xaa>(q, 0x00f000f0, 0x64006400);  // 1024 + 16 code
  pair[0] = mul_f16x2(sub_f16x2(low, 0x64086408), scale);
  pair[1] = mul_f16x2(fma_f16x2(high, 0x2c002c00, 0xd480d480), scale);
}

TILEC_KERNEL(128) linear(const f16* x, const u32x4* q, const u32* scales, f32* y, int n, int k) {
  const u32 shared = shared_base(), warp = thread_x() / 32, g = lane() / 4, t = lane() % 4;
  const int tile = block_x() * 4 + warp;
  for (int piece = thread_x(); piece < 16 * k / 8; piece += 128) {
    int row = piece / (k / 8), column = piece % (k / 8);
    store_shared(shared + x_place(row, column, k), load_global((const u32x4*)x + piece));
  }
  barrier();
  if (tile * 16 >= n) return;
  f32 sum[2][4] = {};
  for (int step = 0; step < k / 64; step++) {
    u32x4 words = load_global<Cache::no_allocate>(q + (step * (n / 16) + tile) * 32 + lane());
    const u32 code[4] = {words.x, words.y, words.z, words.w};
    const u32* scale = scales + step * 64 / GROUP * n + tile * 16 + g;
    const u32 left = load_global<Cache::read_only>(scale);
    const u32 right = load_global<Cache::read_only>(scale + 8);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      u32 rows[4], columns[2];
      ldmatrix(rows, shared + x_place(lane() % 16, step * 8 + i * 2 + lane() / 16, k));
      decode(code[i], left, columns);
      mma<16, f16, f16>(sum[0], rows, columns);
      decode(code[i] >> 8, right, columns);
      mma<16, f16, f16>(sum[1], rows, columns);
    }
  }
#pragma unroll
  for (int j = 0; j < 2; j++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      f32x2 pair = {sum[j][i * 2], sum[j][i * 2 + 1]};
      store_global((f32x2*)(y + (g + i * 8) * n + tile * 16 + j * 8 + t * 2), pair);
    }
}
