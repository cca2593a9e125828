// c[16, 8] = a[16, k] b[8, k] for any element type, from packed words in global memory. The types
// are given with -D or above: DEPTH elements of LEFT and RIGHT at a time, SUM accumulators in
// REGISTERS registers; SHORT is 1 for the half-deep shapes.
#include "tilec.cuh"
using namespace tilec;

TILEC_KERNEL(32) product(const u32* a, const u32* b, SUM* c, int words) {
  constexpr int A_REGISTERS = SHORT ? 2 : 4, B_REGISTERS = A_REGISTERS / 2;
  const u32 g = lane() / 4, t = lane() % 4;
  SUM sum[REGISTERS];
  for (int i = 0; i < REGISTERS; i++) sum[i] = 0;
  for (int word = 0; word < words; word += 4 * B_REGISTERS) {
    u32 left[A_REGISTERS], right[B_REGISTERS];
    for (int i = 0; i < A_REGISTERS; i++)
      left[i] = load_global<Cache::read_only>(a + (g + i % 2 * 8) * words + word + t + i / 2 * 4);
    for (int i = 0; i < B_REGISTERS; i++)
      right[i] = load_global<Cache::read_only>(b + g * words + word + t + i * 4);
    mma<DEPTH, LEFT, RIGHT>(sum, left, right);
  }
  for (int i = 0; i < REGISTERS; i++) store_global(c + lane() * REGISTERS + i, sum[i]);
}
