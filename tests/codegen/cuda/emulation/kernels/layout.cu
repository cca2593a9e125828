// d[64, n] = a[64, k] b[k, n] by one wgmma from operands that lie in shared memory exactly as
// `image` says. N, LEFT, RIGHT, SUM, REGISTERS, A_MN, B_MN are given above; the descriptors and the
// place of B come as arguments, relative to the start of shared memory.
#include "tilec.cuh"
using namespace tilec;

TILEC_KERNEL(128) layout(const u32* image, int words, u64 a, u64 b, const SUM* start, SUM* d) {
  const u32 shared = shared_base(), t = thread_x();
  for (int i = t; i < words; i += 128)
    store_shared(shared + i * 4, load_global<Cache::read_only>(image + i));
  fence_async();
  barrier();
  SUM sum[REGISTERS];
#pragma unroll
  for (int i = 0; i < REGISTERS; i++) sum[i] = load_global(start + t * REGISTERS + i);
  wgmma_fence();
  wgmma<N, LEFT, RIGHT, A_MN, B_MN>(sum, a + (shared >> 4), b + (shared >> 4), true);
  wgmma_commit();
  wgmma_wait<0>();
#pragma unroll
  for (int i = 0; i < REGISTERS; i++) store_global(d + t * REGISTERS + i, sum[i]);
}
