#pragma once
namespace tilec {
template <class T> struct Number;
template <u32 b, bool is_signed> struct Int {};
template <class C> struct Plain32 {
  static constexpr u32 bits = 32, memory = 32;
  static constexpr bool floating = false;
  using Carrier = C;
  TILEC_DEVICE C rounded(C x) { return x; }
};
template <> struct Number<f32> : Plain32<f32> {};
template <> struct Number<s32> : Plain32<s32> {};
template <> struct Number<u32> : Plain32<u32> {};
template <> struct Number<f16> {
  static constexpr u32 bits = 16, memory = 16;
  static constexpr bool floating = true;
  using Carrier = f32;
  TILEC_DEVICE f32 value(u32 raw) { return f32_from_f16({u16(raw)}); }
  TILEC_DEVICE u32 raw(f32 x) { return f16_from_f32(x).bits; }
  TILEC_DEVICE f32 rounded(f32 x) { return value(raw(x)); }
  TILEC_DEVICE u32 pair(f32 a, f32 b) { return f16x2_from_f32(a, b); }
};
template <> struct Number<bf16> {
  static constexpr u32 bits = 16, memory = 16;
  static constexpr bool floating = true;
  using Carrier = f32;
  TILEC_DEVICE f32 value(u32 raw) { return f32_from_bf16({u16(raw)}); }
  TILEC_DEVICE u32 raw(f32 x) { return bf16_from_f32(x).bits; }
  TILEC_DEVICE f32 rounded(f32 x) { return value(raw(x)); }
  TILEC_DEVICE u32 pair(f32 a, f32 b) { return bf16x2_from_f32(a, b); }
};
template <u32 b, bool is_signed> struct Number<Int<b, is_signed>> {
  static constexpr u32 bits = b <= 2 ? b : b <= 4 ? 4 : 8, memory = b;
  static constexpr bool floating = false;
  using Carrier = s32;
  TILEC_DEVICE s32 value(u32 raw) { return is_signed ? s32(raw << (32 - b)) >> (32 - b) : s32(raw); }
  TILEC_DEVICE u32 raw(s32 x) { return u32(x) & ((1u << b) - 1); }
};
template <> struct Number<s8> {
  static constexpr u32 bits = 8, memory = 8;
  static constexpr bool floating = false;
  using Carrier = s32;
  TILEC_DEVICE s32 value(u32 raw) { return s32(raw << 24) >> 24; }
  TILEC_DEVICE u32 raw(s32 x) { return u32(x) & 255; }
};
template <> struct Number<bool> {
  static constexpr u32 bits = 8, memory = 8;
  static constexpr bool floating = false;
  using Carrier = bool;
  TILEC_DEVICE bool value(u32 raw) { return raw != 0; }
  TILEC_DEVICE u32 raw(bool x) { return x; }
  TILEC_DEVICE bool rounded(bool x) { return x; }
};
}  // namespace tilec
