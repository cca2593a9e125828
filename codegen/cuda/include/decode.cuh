// Codes in fragment order (ir/fragments.py) as pairs of 16-bit floats: a word has even elements in
// its lower half and odd ones in its upper, so one mask finds a pair.
#pragma once
#include "tile.cuh"

namespace tilec {

// How a float whose last bits count by one is made of an integer: `magic` is the float 2^digits,
// whose mantissa the integer is put into.
template <class T> struct Counting;
template <> struct Counting<f16> {
  static constexpr u32 digits = 10, magic = 0x6400;
  static constexpr u32 bias = 15;
  TILEC_DEVICE u32 sub(u32 a, u32 b) { return sub_f16x2(a, b); }
  TILEC_DEVICE u32 fma(u32 a, u32 b, u32 c) { return fma_f16x2(a, b, c); }
};
template <> struct Counting<bf16> {
  static constexpr u32 digits = 7, magic = 0x4300;
  static constexpr u32 bias = 127;
  TILEC_DEVICE u32 sub(u32 a, u32 b) { return sub_bf16x2(a, b); }
  TILEC_DEVICE u32 fma(u32 a, u32 b, u32 c) { return fma_bf16x2(a, b, c); }
};

// The bits of a whole number from 1 on, or of 2^-power, twice in a word.
template <class T> TILEC_MEMBER constexpr u32 twice(u32 whole) {
  u32 exponent = 0;
  while (whole >> (exponent + 1)) exponent++;
  const u32 mantissa = (whole << Counting<T>::digits >> exponent) & ((1u << Counting<T>::digits) - 1);
  return (((Counting<T>::bias + exponent) << Counting<T>::digits) | mantissa) * 0x10001u;
}
template <class T> TILEC_MEMBER constexpr u32 twice_power(u32 power) {
  return ((Counting<T>::bias - power) << Counting<T>::digits) * 0x10001u;
}

// Pair `j` of a word of codes, less `offset`; codes with a sign have their top bit turned first.
template <class T, u32 bits, bool is_signed, u32 offset, u32 j> TILEC_DEVICE u32 pair_of(u32 word) {
  using C = Counting<T>;
  constexpr u32 step = C::digits / bits * bits, at = bits * j, place = at % step;
  constexpr u32 mask = (((1u << bits) - 1) << place) * 0x10001u;
  constexpr u32 top = is_signed ? (1u << (bits - 1 + place)) * 0x10001u : 0;
  constexpr u32 less = offset + (is_signed ? 1u << (bits - 1) : 0);
  const u32 magic = lop3<(0xf0 & 0xcc) ^ 0xaa>(word >> (at - place), mask, C::magic * 0x10001u ^ top);
  if constexpr (place == 0) return C::sub(magic, twice<T>((1u << C::digits) + less));
  constexpr u32 base = (1u << (C::digits - place)) + less;
  return C::fma(magic, twice_power<T>(place), twice<T>(base) | 0x80008000u);
}
template <class T, u32 bits, bool is_signed, u32 offset, u32 j>
TILEC_DEVICE void pairs_of(u32* to, u32 word) {
  if constexpr (j < 16 / bits) {
    to[j] = pair_of<T, bits, is_signed, offset, j>(word);
    pairs_of<T, bits, is_signed, offset, j + 1>(to, word);
  }
}

// Codes less `offset` as floats.
template <u32 offset, class T, u32 N, u32 bits, bool is_signed>
TILEC_DEVICE void decode(Share<T, N>& to, const Share<Int<bits, is_signed>, N>& from) {
#pragma unroll
  for (u32 w = 0; w < N * bits / 32; w++) {
    pairs_of<T, bits, is_signed, offset, 0>(&to.words[w * (16 / bits)], from.words[w]);
  }
}

}  // namespace tilec
