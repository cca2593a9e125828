// c[m, n] = a[m, k] b[n, k] where a is 2:4 sparse: half of it is stored, packed in words, and
// metadata in the order that torch gives it. One warp makes 32 x 8; m is a multiple of 32.
#include "tilec.cuh"
using namespace tilec;

// a's words of 16 rows and half of 4 * WORDS columns; b's of 8 rows.
TILEC_DEVICE void load_operands(const u32* a, const u32* b, int a_words, int b_words, int step,
                                u32 (&left)[4], u32 (&right)[4]) {
  const u32 g = lane() / 4, t = lane() % 4;
  for (int i = 0; i < 4; i++) {
    left[i] = load_global(a + (g + i % 2 * 8) * a_words + step * 8 + t + i / 2 * 4);
    right[i] = load_global(b + g * b_words + step * 16 + t + i * 4);
  }
}

template <class T>
TILEC_DEVICE void store_sums(T* c, const T (&sum)[4], int row, int column, int n) {
  for (int i = 0; i < 4; i++)
    store_global(c + (row + lane() / 4 + i / 2 * 8) * n + column + lane() % 4 * 2 + i % 2, sum[i]);
}

// 16-bit elements: both halves of 32 rows share a word of metadata, and the selector tells them
// apart.
template <class T>
TILEC_DEVICE void sparse(const u32* a, const u32* metadata, const u32* b, f32* c, int m, int n,
                         int k) {
  const int row = block_y() * 32, column = block_x() * 8;
  f32 upper[4] = {}, lower[4] = {};
  for (int step = 0; step < k / 32; step++) {
    u32 left[4], right[4];
    u32 indices = load_global(metadata + (step * (m / 32) + block_y()) * 32 + lane());
    load_operands(a + row * k / 4, b + column * k / 2, k / 4, k / 2, step, left, right);
    mma_sp<32, T, T, 0>(upper, left, right, indices);
    load_operands(a + (row + 16) * k / 4, b + column * k / 2, k / 4, k / 2, step, left, right);
    mma_sp<32, T, T, 1>(lower, left, right, indices);
  }
  store_sums(c, upper, row, column, n);
  store_sums(c, lower, row + 16, column, n);
}

TILEC_KERNEL(32) sparse_f16(const u32* a, const u32* metadata, const u32* b, f32* c, int m, int n,
                            int k) {
  sparse<f16>(a, metadata, b, c, m, n, k);
}
TILEC_KERNEL(32) sparse_bf16(const u32* a, const u32* metadata, const u32* b, f32* c, int m, int n,
                             int k) {
  sparse<bf16>(a, metadata, b, c, m, n, k);
}

TILEC_KERNEL(32) sparse_s8(const u32* a, const u32* metadata, const u32* b, s32* c, int m, int n,
                           int k) {
  const int row = block_y() * 16, column = block_x() * 8;
  s32 sum[4] = {};
  for (int step = 0; step < k / 64; step++) {
    u32 left[4], right[4];
    u32 indices = load_global(metadata + (step * (m / 16) + block_y()) * 32 + lane());
    load_operands(a + row * k / 8, b + column * k / 4, k / 8, k / 4, step, left, right);
    mma_sp<64, s8, s8>(sum, left, right, indices);
  }
  store_sums(c, sum, row, column, n);
}
