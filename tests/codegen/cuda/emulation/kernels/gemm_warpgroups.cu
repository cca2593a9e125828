// c[m, n] f16 = a[m, k] b[n, k], both f16. One warpgroup starts the loads of the copy unit into a
// ring of stages; two multiply by wgmma, 64 rows each, and store through shared memory, again by
// the copy unit. A block makes 128 x 64. What lies outside the tensors is zeros, and not stored.
#include "tilec.cuh"
using namespace tilec;

constexpr int ROWS = 128, COLUMNS = 64, DEPTH = 64, STAGES = 4, CONSUMERS = 2;
constexpr u32 LINE = 128;  // bytes of a row in shared memory, the width of the swizzle
constexpr u32 A_BYTES = ROWS * LINE, STAGE_BYTES = A_BYTES + COLUMNS * LINE;
constexpr u32 RESULTS = STAGES * STAGE_BYTES, BARRIERS = RESULTS + ROWS * LINE;

TILEC_DEVICE u32 full(u32 shared, u32 stage) { return shared + BARRIERS + stage * 16; }
TILEC_DEVICE u32 empty(u32 shared, u32 stage) { return shared + BARRIERS + stage * 16 + 8; }

TILEC_DEVICE void produce(u32 shared, const TensorMap* a, const TensorMap* b, int row, int column,
                          int steps) {
  registers_drop<40>();
  if (thread_x() != 0) return;
  for (int step = 0; step < steps; step++) {
    u32 stage = step % STAGES, to = shared + stage * STAGE_BYTES;
    if (step >= STAGES) mbarrier_wait(empty(shared, stage), (step / STAGES - 1) & 1);
    mbarrier_arrive_expect(full(shared, stage), STAGE_BYTES);
    tensor_load(to, a, full(shared, stage), step * DEPTH, row);
    tensor_load(to + A_BYTES, b, full(shared, stage), step * DEPTH, column);
  }
}

TILEC_DEVICE void store_tile(f32 (&sum)[32], u32 tile, u32 group, const TensorMap* c, int row,
                             int column) {
  u32 r = thread_x() % 128 / 32 * 16 + lane() % 16;
#pragma unroll
  for (int j = 0; j < 4; j++) {
    u32 values[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
      values[i] = f16x2_from_f32(sum[j * 8 + i * 2], sum[j * 8 + i * 2 + 1]);
    stmatrix(tile + r * LINE + (((2 * j + lane() / 16) ^ (r & 7)) << 4), values);
  }
  fence_async();
  barrier_sync(1 + group, 128);
  if (thread_x() % 128 == 0) {
    tensor_store(c, tile, column, row);
    bulk_commit();
    bulk_wait_read<0>();
  }
}

TILEC_DEVICE void consume(u32 shared, u32 group, const TensorMap* c, int row, int column,
                          int steps) {
  registers_raise<232>();
  f32 sum[32];
#pragma unroll
  for (int i = 0; i < 32; i++) sum[i] = 0;
  for (int step = 0; step < steps; step++) {
    u32 stage = step % STAGES, tile = shared + stage * STAGE_BYTES;
    mbarrier_wait(full(shared, stage), step / STAGES & 1);
    wgmma_fence();
#pragma unroll
    for (int kk = 0; kk < DEPTH / 16; kk++) {
      u64 a = wgmma_descriptor(tile + group * 64 * LINE + kk * 32, 16, 8 * LINE, Swizzle::b128);
      u64 b = wgmma_descriptor(tile + A_BYTES + kk * 32, 16, 8 * LINE, Swizzle::b128);
      wgmma<COLUMNS, f16, f16>(sum, a, b, true);
    }
    wgmma_commit();
    wgmma_wait<0>();
    if (thread_x() % 128 == 0) mbarrier_arrive(empty(shared, stage));
  }
  store_tile(sum, shared + RESULTS + group * 64 * LINE, group, c, row + group * 64, column);
}

TILEC_KERNEL(384, 1) gemm(TILEC_GRID_CONSTANT TensorMap a, TILEC_GRID_CONSTANT TensorMap b,
                       TILEC_GRID_CONSTANT TensorMap c, int k) {
  const u32 shared = shared_base(), group = thread_x() / 128;
  const int row = block_y() * ROWS, column = block_x() * COLUMNS, steps = (k + DEPTH - 1) / DEPTH;
  if (thread_x() == 0) {
    for (u32 s = 0; s < STAGES; s++) {
      mbarrier_init(full(shared, s), 1);
      mbarrier_init(empty(shared, s), CONSUMERS);
    }
    fence_mbarrier_init();
  }
  barrier();
  if (group == 0) produce(shared, &a, &b, row, column, steps);
  else consume(shared, group - 1, &c, row, column, steps);
}
