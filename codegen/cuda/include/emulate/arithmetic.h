// device/arithmetic.cuh on the host, bit for bit; the `approx` functions are as exact as double.
#pragma once

namespace tilec {
template <u32 lut> TILEC_DEVICE u32 lop3(u32 a, u32 b, u32 c) {
  u32 d = 0;
  for (u32 row = 0; row < 8; row++)
    if (lut >> row & 1) d |= (row & 4 ? a : ~a) & (row & 2 ? b : ~b) & (row & 1 ? c : ~c);
  return d;
}
TILEC_DEVICE u32 prmt(u32 a, u32 b, u32 selector) {
  u64 bytes = (u64)b << 32 | a;
  u32 d = 0;
  for (u32 i = 0; i < 4; i++) {
    u32 nibble = selector >> 4 * i & 15, byte = (u32)(bytes >> 8 * (nibble & 7)) & 0xff;
    if (nibble & 8) byte = byte & 0x80 ? 0xff : 0;
    d |= byte << 8 * i;
  }
  return d;
}
TILEC_DEVICE u32 funnel_left(u32 low, u32 high, u32 by) {
  return (u32)(((u64)high << 32 | low) << (by & 31) >> 32);
}
TILEC_DEVICE u32 funnel_right(u32 low, u32 high, u32 by) {
  return (u32)(((u64)high << 32 | low) >> (by & 31));
}
TILEC_DEVICE u32 popc(u32 a) { return (u32)__builtin_popcount(a); }
TILEC_DEVICE u32 clz(u32 a) { return a ? (u32)__builtin_clz(a) : 32; }
TILEC_DEVICE u32 reverse(u32 a) {
  u32 d = 0;
  for (u32 i = 0; i < 32; i++) d |= (a >> i & 1) << (31 - i);
  return d;
}

TILEC_DEVICE s32 dp4a_s8(u32 a, u32 b, s32 c) {
  for (u32 i = 0; i < 32; i += 8) c = (s32)((u32)c + (u32)((s8)(a >> i) * (s8)(b >> i)));
  return c;
}
TILEC_DEVICE s32 dp4a_u8s8(u32 a, u32 b, s32 c) {
  for (u32 i = 0; i < 32; i += 8) c = (s32)((u32)c + (u32)((u8)(a >> i) * (s8)(b >> i)));
  return c;
}
TILEC_DEVICE u32 dp4a_u8(u32 a, u32 b, u32 c) {
  for (u32 i = 0; i < 32; i += 8) c += (u32)((u8)(a >> i) * (u8)(b >> i));
  return c;
}

TILEC_DEVICE u32 bits_of_f32(f32 a) {
  u32 bits;
  __builtin_memcpy(&bits, &a, 4);
  return bits;
}
TILEC_DEVICE f32 f32_of_bits(u32 bits) {
  f32 a;
  __builtin_memcpy(&a, &bits, 4);
  return a;
}

TILEC_DEVICE f16 f16_from_f32(f32 a) { return {(u16)emulated::nearest(a, emulated::CODING_F16)}; }
TILEC_DEVICE bf16 bf16_from_f32(f32 a) {
  return {(u16)emulated::nearest(a, emulated::CODING_BF16)};
}
TILEC_DEVICE u32 f16x2_from_f32(f32 low, f32 high) {
  return f16_from_f32(low).bits | (u32)f16_from_f32(high).bits << 16;
}
TILEC_DEVICE u32 bf16x2_from_f32(f32 low, f32 high) {
  return bf16_from_f32(low).bits | (u32)bf16_from_f32(high).bits << 16;
}
TILEC_DEVICE f32 f32_from_f16(f16 a) {
  u32 sign = (u32)(a.bits & 0x8000) << 16, size = a.bits & 0x7fff;
  if (size >= 0x7c00) return f32_of_bits(sign | 0x7f800000 | size << 13);
  return f32_of_bits(sign | bits_of_f32(f32_of_bits(size << 13) * 0x1p112f));
}
TILEC_DEVICE f32 f32_from_bf16(bf16 a) { return f32_of_bits((u32)a.bits << 16); }
TILEC_DEVICE f32x2 f32x2_from_f16x2(u32 a) {
  return {f32_from_f16({(u16)a}), f32_from_f16({(u16)(a >> 16)})};
}
TILEC_DEVICE f32x2 f32x2_from_bf16x2(u32 a) {
  return {f32_of_bits(a << 16), f32_of_bits(a & 0xffff0000u)};
}
TILEC_DEVICE u32 tf32_from_f32(f32 a) {
  return a != a ? 0x7fffffffu : (bits_of_f32(a) + 0x1000) & ~0x1fffu;
}

#define TILEC_HALVES(T) \
  TILEC_DEVICE u32 add_##T##x2(u32 a, u32 b) { return emulated::T##x2('+', a, b, 0); } \
  TILEC_DEVICE u32 sub_##T##x2(u32 a, u32 b) { return emulated::T##x2('-', a, b, 0); } \
  TILEC_DEVICE u32 mul_##T##x2(u32 a, u32 b) { return emulated::T##x2('*', a, b, 0); } \
  TILEC_DEVICE u32 fma_##T##x2(u32 a, u32 b, u32 c) { return emulated::T##x2('f', a, b, c); }
TILEC_HALVES(f16)
TILEC_HALVES(bf16)
#undef TILEC_HALVES

TILEC_DEVICE f32 add_f32(f32 a, f32 b) { return a + b; }
TILEC_DEVICE f32 sub_f32(f32 a, f32 b) { return a - b; }
TILEC_DEVICE f32 mul_f32(f32 a, f32 b) { return a * b; }
TILEC_DEVICE f32 fma_f32(f32 a, f32 b, f32 c) { return __builtin_fmaf(a, b, c); }
TILEC_DEVICE f32 div_f32(f32 a, f32 b) { return a / b; }
TILEC_DEVICE f32 sqrt_f32(f32 a) { return __builtin_sqrtf(a); }
TILEC_DEVICE f32 max_f32(f32 a, f32 b) {
  if (a != a || b != b) return f32_of_bits(0x7fffffffu);
  return a == b ? f32_of_bits(bits_of_f32(a) & bits_of_f32(b)) : a > b ? a : b;
}
TILEC_DEVICE f32 min_f32(f32 a, f32 b) {
  if (a != a || b != b) return f32_of_bits(0x7fffffffu);
  return a == b ? f32_of_bits(bits_of_f32(a) | bits_of_f32(b)) : a < b ? a : b;
}
TILEC_DEVICE f32 exp2_approx(f32 a) { return (f32)__builtin_exp2((double)a); }
TILEC_DEVICE f32 log2_approx(f32 a) { return (f32)__builtin_log2((double)a); }
TILEC_DEVICE f32 reciprocal_approx(f32 a) { return (f32)(1.0 / (double)a); }
TILEC_DEVICE f32 rsqrt_approx(f32 a) { return (f32)(1.0 / __builtin_sqrt((double)a)); }
TILEC_DEVICE f32 tanh_approx(f32 a) { return (f32)__builtin_tanh((double)a); }

TILEC_DEVICE s32 s32_from_f32(f32 a) {
  return (s32)emulated::integer(a, -0x80000000ll, 0x7fffffff);
}
TILEC_DEVICE s32 s8_from_f32(f32 a) { return (s32)emulated::integer(a, -128, 127); }
TILEC_DEVICE u32 u8_from_f32(f32 a) { return (u32)emulated::integer(a, 0, 255); }
TILEC_DEVICE f32 f32_from_s32(s32 a) { return (f32)a; }

#define TILEC_FP8(T, coding) \
  TILEC_DEVICE u16 T##x2_from_f32(f32 low, f32 high) { \
    return (u16)(emulated::nearest(low, coding) | emulated::nearest(high, coding) << 8); \
  } \
  TILEC_DEVICE u16 T##x2_from_f16x2(u32 a) { \
    f32x2 v = f32x2_from_f16x2(a); \
    return T##x2_from_f32(v.x, v.y); \
  } \
  TILEC_DEVICE u32 f16x2_from_##T##x2(u16 a) { \
    return f16x2_from_f32(emulated::f32_from_##T(a & 0xff), emulated::f32_from_##T(a >> 8)); \
  }
TILEC_FP8(e4m3, emulated::CODING_E4M3)
TILEC_FP8(e5m2, emulated::CODING_E5M2)
#undef TILEC_FP8

}  // namespace tilec
