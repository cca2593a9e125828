// c[64, n] f32 = a[64, k] b[k, n], all f32, with k split over blocks: gridDim.x column tiles of 64
// by gridDim.y slices of k. The slices of a tile add to c one after another, in order, and pass a
// lock on; `counters` start at 0, and the last slice sets them back.
#include "tilec.cuh"
using namespace tilec;

TILEC_KERNEL(64) gemm(const f32* a, const f32* b, f32* c, u32* locks, int n, int k) {
  const int column = block_x() * 64 + thread_x(), slices = blocks_y(), slice = block_y();
  const int first = k * slice / slices, last = k * (slice + 1) / slices;
  u32* lock = locks + block_x();
  if (slice > 0) {
    if (thread_x() == 0) wait_until(lock, slice);
    barrier();
  }
  for (int row = 0; row < 64; row++) {
    f32 sum = slice > 0 ? load_global(c + row * n + column) : 0.0f;
    for (int i = first; i < last; i++)
      sum = fma_f32(load_global(a + row * k + i), load_global(b + i * n + column), sum);
    store_global(c + row * n + column, sum);
  }
  barrier();
  if (thread_x() == 0) store_release(lock, slice + 1 < slices ? slice + 1 : 0);
}
