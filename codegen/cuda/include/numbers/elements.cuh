// What an element of each type is in registers, in memory and in arithmetic: Number<T>.
//
//   bits      that an element takes in a register: 1, 2, 4, 8, 16, 32 or 64
//   memory    bits that it takes in memory
//   zero      the bits of 0, or of the element nearest to it
//   floating  whether it is a float of 16 bits, of which `pair` makes two at once
//   Carrier   the type that is computed in, which holds every value exactly
//   value     the carrier of the bits of an element, above which there are none; of 64 in a u64
//   loaded    the same of a u8, u16, u32 or u64 that was loaded
//   raw       the bits of the element nearest to a carrier; whole numbers wrap
//   rounded   the carrier of that element
//
// Floats of at most 32 bits say their mantissa, least exponent and greatest value, and those of
// fewer the bits of NaN; whole numbers say the least and the greatest of them.
#pragma once

#ifdef __CUDACC__
#define TILEC_HAS_FP8 TILEC_SINCE(890)
#else
#define TILEC_HAS_FP8 1
#endif

namespace tilec {

template <class T> struct Number;
template <class T> using Carrier = typename Number<T>::Carrier;

// A whole number of fewer than 8 bits.
template <u32 b, bool is_signed> struct Int {};

namespace numbers {

enum class Kind { boolean, whole, real, code };

// A type where conversions are the same for all elements: `value` and `raw` are of N.
template <class N, Kind k, class C, u32 register_bits, u32 memory_bits> struct Element {
  static constexpr Kind kind = k;
  static constexpr u32 bits = register_bits, memory = memory_bits, zero = 0;
  static constexpr bool floating = k == Kind::real && register_bits == 16;
  using Carrier = C;
  TILEC_DEVICE C loaded(u32 raw) { return N::value(raw); }
  TILEC_DEVICE C rounded(C x) { return N::value(N::raw(x)); }
};

template <u32 b> constexpr u32 PACKED = b <= 2 ? b : b <= 4 ? 4 : b <= 8 ? 8 : b;

// Whole numbers of up to 16 bits, with and without a sign.
template <class N, u32 b, bool is_signed>
struct Narrow : Element<N, Kind::whole, s32, PACKED<b>, b> {
  static constexpr s64 low = is_signed ? -(1 << (b - 1)) : 0, high = low + (1 << b) - 1;
  TILEC_DEVICE s32 value(u32 raw) {
    return is_signed ? s32(raw << (32 - b)) >> (32 - b) : s32(raw);
  }
  TILEC_DEVICE u32 raw(s32 x) { return u32(x) & ((1u << b) - 1); }
};

// Whole numbers whose carriers are themselves; U is the same without a sign.
template <class C, class U, s64 least, s64 greatest>
struct Wide : Element<Number<C>, Kind::whole, C, 8 * sizeof(C), 8 * sizeof(C)> {
  static constexpr s64 low = least, high = greatest;
  TILEC_DEVICE C value(U raw) { return C(raw); }
  TILEC_DEVICE C loaded(U raw) { return C(raw); }
  TILEC_DEVICE U raw(C x) { return U(x); }
  TILEC_DEVICE C rounded(C x) { return x; }
};

}  // namespace numbers

template <u32 b, bool is_signed>
struct Number<Int<b, is_signed>> : numbers::Narrow<Number<Int<b, is_signed>>, b, is_signed> {};
template <> struct Number<s8> : numbers::Narrow<Number<s8>, 8, true> {};
template <> struct Number<u8> : numbers::Narrow<Number<u8>, 8, false> {};
template <> struct Number<s16> : numbers::Narrow<Number<s16>, 16, true> {};
template <> struct Number<u16> : numbers::Narrow<Number<u16>, 16, false> {};
template <> struct Number<s32> : numbers::Wide<s32, u32, -(1ll << 31), (1ll << 31) - 1> {};
template <> struct Number<u32> : numbers::Wide<u32, u32, 0, (1ll << 32) - 1> {};
template <> struct Number<s64> : numbers::Wide<s64, u64, -s64(~0ull >> 1) - 1, s64(~0ull >> 1)> {};

template <>
struct Number<bool> : numbers::Element<Number<bool>, numbers::Kind::boolean, bool, 8, 8> {
  TILEC_DEVICE bool value(u32 raw) { return raw != 0; }
  TILEC_DEVICE u32 raw(bool x) { return x; }
};

template <> struct Number<f16> : numbers::Element<Number<f16>, numbers::Kind::real, f32, 16, 16> {
  static constexpr s32 mantissa = 10, least = -14;
  static constexpr f32 high = 65504.0f;
  static constexpr u32 nan = 0x7e00;
  TILEC_DEVICE f32 value(u32 raw) { return f32_from_f16({u16(raw)}); }
  TILEC_DEVICE u32 raw(f32 x) { return f16_from_f32(x).bits; }
  TILEC_DEVICE u32 pair(f32 low, f32 high) { return f16x2_from_f32(low, high); }
};

template <> struct Number<bf16> : numbers::Element<Number<bf16>, numbers::Kind::real, f32, 16, 16> {
  static constexpr s32 mantissa = 7, least = -126;
  static constexpr f32 high = 0x1.fep127f;
  static constexpr u32 nan = 0x7fc0;
  TILEC_DEVICE f32 value(u32 raw) { return f32_from_bf16({u16(raw)}); }
  TILEC_DEVICE u32 raw(f32 x) { return bf16_from_f32(x).bits; }
  TILEC_DEVICE u32 pair(f32 low, f32 high) { return bf16x2_from_f32(low, high); }
};

template <> struct Number<f32> : numbers::Element<Number<f32>, numbers::Kind::real, f32, 32, 32> {
  static constexpr s32 mantissa = 23, least = -126;
  static constexpr f32 high = 0x1.fffffep127f;
  TILEC_DEVICE f32 value(u32 raw) { return f32_of_bits(raw); }
  TILEC_DEVICE u32 raw(f32 x) { return bits_of_f32(x); }
  TILEC_DEVICE f32 rounded(f32 x) { return x; }
};

// The upper 19 bits of an f32. Words in memory that have others are rounded when they are read.
template <> struct Number<tf32> : numbers::Element<Number<tf32>, numbers::Kind::real, f32, 32, 32> {
  static constexpr s32 mantissa = 10, least = -126;
  static constexpr f32 high = 0x1.ffcp127f;
  TILEC_DEVICE f32 value(u32 raw) { return rounded(f32_of_bits(raw)); }
  TILEC_DEVICE u32 raw(f32 x) {
    const u32 bits = bits_of_f32(x);
    return (x != x ? bits | 0x400000 : bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
  }
  TILEC_DEVICE f32 rounded(f32 x) { return f32_of_bits(raw(x)); }
};

template <> struct Number<f64> : numbers::Element<Number<f64>, numbers::Kind::real, f64, 64, 64> {
  TILEC_DEVICE f64 value(u64 raw) { return f64_of_bits(raw); }
  TILEC_DEVICE f64 loaded(u64 raw) { return f64_of_bits(raw); }
  TILEC_DEVICE u64 raw(f64 x) { return bits_of_f64(x); }
  TILEC_DEVICE f64 rounded(f64 x) { return x; }
};

// By instructions from sm_89 on. They saturate, which is undone for what has to be NaN or infinite.
template <> struct Number<e4m3> : numbers::Element<Number<e4m3>, numbers::Kind::real, f32, 8, 8> {
  using Arithmetic = numbers::Minifloat<4, 3, 7, 0x7e, 0x7f, 0x7f>;
  static constexpr s32 mantissa = 3, least = -6;
  static constexpr f32 high = 448.0f;
  static constexpr u32 nan = 0x7f;
#if TILEC_HAS_FP8
  TILEC_DEVICE f32 value(u32 raw) { return f32_from_f16({u16(f16x2_from_e4m3x2(u16(raw)))}); }
  TILEC_DEVICE u32 raw(f32 x) {
    const u32 sign = bits_of_f32(x) >> 24 & 0x80;
    return abs_f32(x) <= 464.0f ? e4m3x2_from_f32(x, 0.0f) & 0xff : sign | nan;
  }
#else
  TILEC_DEVICE f32 value(u32 raw) { return Arithmetic::value(raw); }
  TILEC_DEVICE u32 raw(f32 x) { return Arithmetic::nearest_code(x); }
#endif
};

template <> struct Number<e5m2> : numbers::Element<Number<e5m2>, numbers::Kind::real, f32, 8, 8> {
  using Arithmetic = numbers::Minifloat<5, 2, 15, 0x7b, 0x7c, 0x7e>;
  static constexpr s32 mantissa = 2, least = -14;
  static constexpr f32 high = 57344.0f;
  static constexpr u32 nan = 0x7e;
  TILEC_DEVICE f32 value(u32 raw) { return f32_from_f16({u16(raw << 8)}); }
#if TILEC_HAS_FP8
  TILEC_DEVICE u32 raw(f32 x) {
    const u32 sign = bits_of_f32(x) >> 24 & 0x80;
    return abs_f32(x) < 61440.0f ? e5m2x2_from_f32(x, 0.0f) & 0xff : sign | (x != x ? nan : 0x7c);
  }
#else
  TILEC_DEVICE u32 raw(f32 x) { return Arithmetic::nearest_code(x); }
#endif
};

template <class F>
struct Number<Code<F>> : numbers::Element<Number<Code<F>>, numbers::Kind::code, f32,
                                          numbers::PACKED<F::bits>, F::bits> {
  using Format = F;
  static constexpr u32 zero = F::zero;
  TILEC_DEVICE f32 value(u32 raw) { return F::value(raw); }
  TILEC_DEVICE u32 raw(f32 x) {
    if constexpr (F::spaced) {
      return F::nearest_code(x);
    } else {
      return numbers::code_of<F, Rounding::nearest, false>(x, 0);
    }
  }
};

}  // namespace tilec

#undef TILEC_HAS_FP8
