// Codes in fragment order (ir/fragments.py) as elements: the functions that recipes are made of
// (codegen/cuda/words.py), and the loop over the units of a thread.
#pragma once
#include "tile.cuh"

namespace tilec {

TILEC_DEVICE u32 rotated(u32 x, u32 by) { return x >> by | x << (32 - by); }
TILEC_DEVICE u32 and_or(u32 a, u32 b, u32 c) { return lop3<(0xf0 & 0xcc) | 0xaa>(a, b, c); }
TILEC_DEVICE u32 and_xor(u32 a, u32 b, u32 c) { return lop3<(0xf0 & 0xcc) ^ 0xaa>(a, b, c); }
TILEC_DEVICE u32 chosen(u32 mask, u32 a, u32 b) {
  return lop3<(0xf0 & 0xcc) | (0x0f & 0xaa)>(mask, a, b);
}
TILEC_DEVICE u32 minus(u32 a, u32 b) { return a - b; }

// Two e4m3, the first in the lowest byte, as f16 with all NaN, where there is no instruction for
// it: the bits as those of an f16, times 2^8. Only NaN is 480 then, which alone times 146 is
// infinite, and infinity times 0 is NaN.
TILEC_DEVICE u32 f16x2_of_bits_of_e4m3x2(u32 x) {
  const u32 high = prmt(x, 0, 0x1404), body = and_or(high >> 1, 0x3f803f80u, 0);
  const u32 value = mul_f16x2(and_or(high, 0x80008000u, body), 0x5c005c00u);
  return fma_f16x2(mul_f16x2(value, 0x58905890u), 0, value);
}
#ifdef __CUDACC__
#define TILEC_HAS_FP8 TILEC_SINCE(890)
#else
#define TILEC_HAS_FP8 1
#endif
#if TILEC_HAS_FP8
TILEC_DEVICE u32 f16x2_of_e4m3x2(u32 x) { return f16x2_from_e4m3x2(u16(x)); }
#else
TILEC_DEVICE u32 f16x2_of_e4m3x2(u32 x) { return f16x2_of_bits_of_e4m3x2(x); }
#endif
#undef TILEC_HAS_FP8
TILEC_DEVICE u32 bf16x2_of_f16x2(u32 x) {
  const f32x2 both = f32x2_from_f16x2(x);
  return bf16x2_from_f32(both.x, both.y);
}

// A whole number of 23 bits as an f32: the end of the mantissa of 1.5 * 2^23, which is taken from
// it. Where sums start as the bits of that, it is there already.
constexpr s32 COUNTED = 0x4b400000;
TILEC_DEVICE f32 f32_of_counted(s32 x) { return sub_f32(f32_of_bits(u32(x)), 12582912.0f); }
TILEC_DEVICE f32 f32_of_short(s32 x) { return f32_of_counted(s32(u32(COUNTED) + u32(x))); }

// Places of pairs in a word, four bits each: zeros, which are no pair, as 0 and 1.
TILEC_DEVICE u32 rising(u32 x) {
  u32 any = x | x >> 1;
  any |= any >> 2;
  return x | (~any & 0x11111111u) << 2;
}

// Words of a thread from a shared address.
template <u32 count> TILEC_DEVICE void take_words(u32* to, u32 address TILEC_CALLED) {
  const auto piece = load_shared<Piece<4 * count>>(address TILEC_CALLER);
#pragma unroll
  for (u32 i = 0; i < count; i++) to[i] = piece.word[i];
}

// One element that starts at any bit of a row in shared memory.
template <class T, u32 N>
TILEC_DEVICE void take_bits(Share<T, N>& to, u32 i, u32 row, u32 bit TILEC_CALLED) {
  constexpr u32 bits = Number<T>::memory;
  u32 raw = load_shared<u8>(row + bit / 8 TILEC_CALLER);
  if (bit % 8 + bits > 8) raw |= u32(load_shared<u8>(row + bit / 8 + 1 TILEC_CALLER)) << 8;
  to.put(i, raw >> (bit % 8) & ((1u << bits) - 1));
}

// What the recipe R makes of `count` units of codes from unit `first` on, or of all.
template <class R, class T, u32 N, u32 words>
TILEC_DEVICE void decode(Share<T, N>& to, const u32 (&from)[words], u32 first = 0,
                         u32 count = words / R::words) {
#pragma unroll
  for (u32 u = first; u < first + count; u++)
    R::unit(&to.words[u * R::registers], &from[u * R::words]);
}

}  // namespace tilec
