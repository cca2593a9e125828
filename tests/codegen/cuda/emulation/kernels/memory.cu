// Moves of every size, with every hint; matrices between registers and shared memory.
#include "tilec.cuh"
using namespace tilec;

// to = from, one T a thread.
template <class T, Cache in, Cache out> TILEC_DEVICE void pass(const u8* from, u8* to) {
  const u32 at = block_x() * 32 + thread_x();
  const u32 slot = shared_base() + thread_x() * 16;
  store_shared(slot, load_global<in>((const T*)from + at));
  store_global<out>((T*)to + at, load_shared<T>(slot));
}

template <class T> TILEC_DEVICE void pass_all(const u8* from, u8* to, int bytes) {
  pass<T, Cache::normal, Cache::normal>(from, to);
  pass<T, Cache::read_only, Cache::no_allocate>(from + bytes, to + bytes);
  pass<T, Cache::no_allocate, Cache::evict_first>(from + 2 * bytes, to + 2 * bytes);
  pass<T, Cache::evict_first, Cache::evict_last>(from + 3 * bytes, to + 3 * bytes);
  pass<T, Cache::evict_last, Cache::normal>(from + 4 * bytes, to + 4 * bytes);
}

// `bytes` of each kind, in elements of `size`.
TILEC_KERNEL(32) moves(const u8* from, u8* to, int bytes, int size) {
  if (size == 1) pass_all<u8>(from, to, bytes);
  if (size == 2) pass_all<f16>(from, to, bytes);
  if (size == 4) pass_all<f32>(from, to, bytes);
  if (size == 8) pass_all<u32x2>(from, to, bytes);
  if (size == 16) pass_all<f32x4>(from, to, bytes);
}

// Copies of 4, 8, 16 and again 16 bytes a thread; the odd threads' are zeros and read nothing.
TILEC_KERNEL(32) copies(const u8* from, u8* to) {
  const u32 t = thread_x(), shared = shared_base();
  const bool keep = t % 2 == 0;
  copy_async<4>(shared + t * 4, keep ? from + t * 4 : nullptr, keep);
  copy_async<8>(shared + 128 + t * 8, keep ? from + 128 + t * 8 : nullptr, keep);
  copy_async_commit();
  copy_async<16>(shared + 384 + t * 16, keep ? from + 384 + t * 16 : nullptr, keep);
  copy_async<16>(shared + 896 + t * 16, keep ? from + 896 + t * 16 : nullptr, keep,
                 policy_evict_first());
  copy_async_commit();
  copy_async_wait<1>();
  warp_sync();
  for (u32 i = t; i < 96; i += 32) store_global((u32*)to + i, load_shared<u32>(shared + i * 4));
  copy_async_wait<0>();
  warp_sync();
  for (u32 i = 96 + t; i < 352; i += 32)
    store_global((u32*)to + i, load_shared<u32>(shared + i * 4));
}

#ifndef NO_STMATRIX
// Four 8 x 8 matrices of f16 come by ldmatrix, plain or transposed, and go by stmatrix likewise:
// first one, then two, then four of them.
TILEC_KERNEL(32) matrices(const u32x4* from, u32x4* to, int transposed_in, int transposed_out) {
  const u32 t = thread_x(), shared = shared_base(), results = shared + 512;
  store_shared(shared + t * 16, load_global(from + t));
  warp_sync();
  u32 one[1], two[2], four[4];
  if (transposed_in) {
    ldmatrix_trans(one, shared + t * 16);
    ldmatrix_trans(two, shared + t * 16);
    ldmatrix_trans(four, shared + t * 16);
  } else {
    ldmatrix(one, shared + t * 16);
    ldmatrix(two, shared + t * 16);
    ldmatrix(four, shared + t * 16);
  }
  if (transposed_out) {
    stmatrix_trans(results + t * 16, one);
    stmatrix_trans(results + 128 + t * 16, two);
    stmatrix_trans(results + 384 + t * 16, four);
  } else {
    stmatrix(results + t * 16, one);
    stmatrix(results + 128 + t * 16, two);
    stmatrix(results + 384 + t * 16, four);
  }
  warp_sync();
  for (u32 i = t; i < 56; i += 32) store_global(to + i, load_shared<u32x4>(results + i * 16));
}
#endif
