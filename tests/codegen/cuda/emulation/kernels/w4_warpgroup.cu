// y[m, n] f32 = x[m, k] f16 times 4-bit weights[n, k], as the transposed product: the weights are
// decoded in registers and are A of wgmma, 64 rows of n; x is B, 16 rows of m. The codes lie in
// fragment order: q[n / 64][k / 64][thread] is 4 words, one for each 16 of k. Fragments are double,
// so that one is decoded while the other multiplies.
#include "tilec.cuh"
using namespace tilec;

constexpr int TOKENS = 16, DEPTH = 64, STAGES = 2;
constexpr u32 STAGE_BYTES = TOKENS * 128, BARRIERS = STAGES * STAGE_BYTES;

// 8 codes less 8, as the four registers of a fragment: code 2 i is the first of register i.
TILEC_DEVICE void decode(u32 q, u32 (&fragment)[4]) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    u32 pair = (q >> 8 * i & 15) | (q >> (8 * i + 4) & 15) << 16;
    fragment[i] = sub_f16x2(pair | 0x64006400, 0x64086408);
  }
}

TILEC_DEVICE void fetch(u32 shared, const TensorMap* x, int step) {
  u32 arrive = shared + BARRIERS + step % STAGES * 8;
  mbarrier_arrive_expect(arrive, STAGE_BYTES);
  tensor_load(shared + step % STAGES * STAGE_BYTES, x, arrive, step * DEPTH, block_y() * TOKENS);
}

TILEC_KERNEL(128) linear(const u32x4* q, TILEC_GRID_CONSTANT TensorMap x, f32* y, int m, int n,
                         int k) {
  const u32 shared = shared_base(), t = thread_x(), steps = k / DEPTH;
  if (t == 0) {
    for (int s = 0; s < STAGES; s++) mbarrier_init(shared + BARRIERS + s * 8, 1);
    fence_mbarrier_init();
    for (int s = 0; s < STAGES; s++)
      if (s < steps) fetch(shared, &x, s);
  }
  barrier();
  f32 sum[8];
  for (u32 step = 0; step < steps; step++) {
    u32x4 words = load_global<Cache::evict_first>(q + (block_x() * steps + step) * 128 + t);
    const u32 code[4] = {words.x, words.y, words.z, words.w};
    u32 fragment[2][4];
    mbarrier_wait(shared + BARRIERS + step % STAGES * 8, step / STAGES & 1);
#pragma unroll
    for (int kk = 0; kk < 4; kk++) {
      if (kk >= 2) wgmma_wait<1>();
      decode(code[kk], fragment[kk % 2]);
      wgmma_fence();
      u64 b = wgmma_descriptor(shared + step % STAGES * STAGE_BYTES + kk * 32, 16, 1024,
                               Swizzle::b128);
      wgmma<TOKENS, f16, f16>(sum, fragment[kk % 2], b, step + kk > 0);
      wgmma_commit();
    }
    wgmma_wait<0>();
    barrier();
    if (t == 0 && step + STAGES < steps) fetch(shared, &x, step + STAGES);
  }
  wgmma_keep(sum);
#pragma unroll
  for (int i = 0; i < 8; i++) {
    int row = block_y() * TOKENS + i / 4 * 8 + t % 4 * 2 + i % 2;
    int column = block_x() * 64 + t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8;
    if (row < m) store_global(y + row * n + column, sum[i]);
  }
}
