// Bits, numbers two at a time, conversions. All but the `approx` functions round exactly, to the
// nearest and ties to even; .rn also keeps ptxas from fusing them.
#pragma once

// One statement with one, two or three operands of one register type.
#define TILEC_UNARY(name, T, reg, ptx) \
  TILEC_DEVICE T name(T a) { T d; asm(ptx " %0, %1;" : "=" reg(d) : reg(a)); return d; }
#define TILEC_BINARY(name, T, reg, ptx) \
  TILEC_DEVICE T name(T a, T b) { \
    T d; asm(ptx " %0, %1, %2;" : "=" reg(d) : reg(a), reg(b)); return d; }
#define TILEC_TERNARY(name, T, reg, ptx) \
  TILEC_DEVICE T name(T a, T b, T c) { \
    T d; asm(ptx " %0, %1, %2, %3;" : "=" reg(d) : reg(a), reg(b), reg(c)); return d; }

namespace tilec {

// The bitwise function of a, b, c whose table is `lut`: lop3. In the table's terms a is 0xf0,
// b is 0xcc, c is 0xaa: lop3<(0xf0 & 0xcc) | 0xaa>(a, b, c) is (a & b) | c.
template <u32 lut> TILEC_DEVICE u32 lop3(u32 a, u32 b, u32 c) {
  u32 d;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(d) : "r"(a), "r"(b), "r"(c), "n"(lut));
  return d;
}

// Four of the eight bytes of b:a, one for each nibble of `selector`; a nibble's top bit spreads
// the byte's sign: prmt.
TILEC_TERNARY(prmt, u32, "r", "prmt.b32")
// The upper word of high:low << (by mod 32): shf.l.wrap. Arguments: low, high, by.
TILEC_TERNARY(funnel_left, u32, "r", "shf.l.wrap.b32")
// The lower word of high:low >> (by mod 32): shf.r.wrap. Arguments: low, high, by.
TILEC_TERNARY(funnel_right, u32, "r", "shf.r.wrap.b32")
// The number of ones: popc.
TILEC_UNARY(popc, u32, "r", "popc.b32")
// The number of zeros above the highest one: clz.
TILEC_UNARY(clz, u32, "r", "clz.b32")
// The bits in reverse: brev.
TILEC_UNARY(reverse, u32, "r", "brev.b32")

// The sum of four products of bytes, plus c: dp4a.
TILEC_DEVICE s32 dp4a_s8(u32 a, u32 b, s32 c) {
  s32 d;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
TILEC_DEVICE s32 dp4a_u8s8(u32 a, u32 b, s32 c) {
  s32 d;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
TILEC_TERNARY(dp4a_u8, u32, "r", "dp4a.u32.u32")

// Two f16 in a u32, the first in the lower half: add, sub, mul, fma.rn.f16x2.
TILEC_BINARY(add_f16x2, u32, "r", "add.rn.f16x2")
TILEC_BINARY(sub_f16x2, u32, "r", "sub.rn.f16x2")
TILEC_BINARY(mul_f16x2, u32, "r", "mul.rn.f16x2")
TILEC_TERNARY(fma_f16x2, u32, "r", "fma.rn.f16x2")

// Two bf16: fma.rn.bf16x2; sums and products by it where there is no instruction of their own,
// with the same rounding and the same zeros.
TILEC_TERNARY(fma_bf16x2, u32, "r", "fma.rn.bf16x2")
#if TILEC_SINCE(900)
TILEC_BINARY(add_bf16x2, u32, "r", "add.rn.bf16x2")
TILEC_BINARY(sub_bf16x2, u32, "r", "sub.rn.bf16x2")
TILEC_BINARY(mul_bf16x2, u32, "r", "mul.rn.bf16x2")
#else
TILEC_DEVICE u32 add_bf16x2(u32 a, u32 b) { return fma_bf16x2(a, 0x3f803f80u, b); }
TILEC_DEVICE u32 sub_bf16x2(u32 a, u32 b) { return fma_bf16x2(b, 0xbf80bf80u, a); }
TILEC_DEVICE u32 mul_bf16x2(u32 a, u32 b) { return fma_bf16x2(a, b, 0x80008000u); }
#endif

// One f32: add, sub, mul, fma, div, sqrt, all .rn.f32.
TILEC_BINARY(add_f32, f32, "f", "add.rn.f32")
TILEC_BINARY(sub_f32, f32, "f", "sub.rn.f32")
TILEC_BINARY(mul_f32, f32, "f", "mul.rn.f32")
TILEC_TERNARY(fma_f32, f32, "f", "fma.rn.f32")
TILEC_BINARY(div_f32, f32, "f", "div.rn.f32")
TILEC_UNARY(sqrt_f32, f32, "f", "sqrt.rn.f32")
// The greater, the lesser; NaN if either is: max, min.NaN.f32.
TILEC_BINARY(max_f32, f32, "f", "max.NaN.f32")
TILEC_BINARY(min_f32, f32, "f", "min.NaN.f32")
// To within a few units of the last place: ex2, lg2, rcp, rsqrt, tanh.approx.f32.
TILEC_UNARY(exp2_approx, f32, "f", "ex2.approx.f32")
TILEC_UNARY(log2_approx, f32, "f", "lg2.approx.f32")
TILEC_UNARY(reciprocal_approx, f32, "f", "rcp.approx.f32")
TILEC_UNARY(rsqrt_approx, f32, "f", "rsqrt.approx.f32")
TILEC_UNARY(tanh_approx, f32, "f", "tanh.approx.f32")

// The bits of an f32 and back: mov.b32.
TILEC_DEVICE u32 bits_of_f32(f32 a) {
  u32 d;
  asm("mov.b32 %0, %1;" : "=r"(d) : "f"(a));
  return d;
}
TILEC_DEVICE f32 f32_of_bits(u32 a) {
  f32 d;
  asm("mov.b32 %0, %1;" : "=f"(d) : "r"(a));
  return d;
}

// The nearest f16 or bf16, and two with `low` in the lower half: cvt.rn.
TILEC_DEVICE f16 f16_from_f32(f32 a) {
  f16 d;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(d.bits) : "f"(a));
  return d;
}
TILEC_DEVICE bf16 bf16_from_f32(f32 a) {
  bf16 d;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(d.bits) : "f"(a));
  return d;
}
TILEC_DEVICE u32 f16x2_from_f32(f32 low, f32 high) {
  u32 d;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}
TILEC_DEVICE u32 bf16x2_from_f32(f32 low, f32 high) {
  u32 d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}

// Exact: cvt.f32.f16, and shifts for bf16.
TILEC_DEVICE f32 f32_from_f16(f16 a) {
  f32 d;
  asm("cvt.f32.f16 %0, %1;" : "=f"(d) : "h"(a.bits));
  return d;
}
TILEC_DEVICE f32 f32_from_bf16(bf16 a) { return f32_of_bits((u32)a.bits << 16); }
TILEC_DEVICE f32x2 f32x2_from_f16x2(u32 a) {
  return {f32_from_f16({(u16)a}), f32_from_f16({(u16)(a >> 16)})};
}
TILEC_DEVICE f32x2 f32x2_from_bf16x2(u32 a) {
  return {f32_of_bits(a << 16), f32_of_bits(a & 0xffff0000u)};
}

// The nearest tf32, ties away from zero, as the bits of an f32: cvt.rna.tf32.f32.
TILEC_DEVICE u32 tf32_from_f32(f32 a) {
  u32 d;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(d) : "f"(a));
  return d;
}

// The nearest integer, clipped into the type's range; 0 for NaN: cvt.rni, cvt.rni.sat.
TILEC_DEVICE s32 s32_from_f32(f32 a) {
  s32 d;
  asm("cvt.rni.s32.f32 %0, %1;" : "=r"(d) : "f"(a));
  return d;
}
TILEC_DEVICE s32 s8_from_f32(f32 a) {
  s32 d;
  asm("cvt.rni.sat.s8.f32 %0, %1;" : "=r"(d) : "f"(a));
  return d;
}
TILEC_DEVICE u32 u8_from_f32(f32 a) {
  u32 d;
  asm("cvt.rni.sat.u8.f32 %0, %1;" : "=r"(d) : "f"(a));
  return d;
}
TILEC_DEVICE f32 f32_from_s32(s32 a) {
  f32 d;
  asm("cvt.rn.f32.s32 %0, %1;" : "=f"(d) : "r"(a));
  return d;
}

#if TILEC_SINCE(890)
// Two of fp8, the first in the lower byte, saturating at the largest: cvt.rn.satfinite; and
// exactly back: cvt.rn.f16x2.
#define TILEC_FP8(T) \
  TILEC_DEVICE u16 T##x2_from_f32(f32 low, f32 high) { \
    u16 d; \
    asm("cvt.rn.satfinite." #T "x2.f32 %0, %1, %2;" : "=h"(d) : "f"(high), "f"(low)); \
    return d; \
  } \
  TILEC_DEVICE u16 T##x2_from_f16x2(u32 a) { \
    u16 d; asm("cvt.rn.satfinite." #T "x2.f16x2 %0, %1;" : "=h"(d) : "r"(a)); return d; } \
  TILEC_DEVICE u32 f16x2_from_##T##x2(u16 a) { \
    u32 d; asm("cvt.rn.f16x2." #T "x2 %0, %1;" : "=r"(d) : "h"(a)); return d; }
TILEC_FP8(e4m3)
TILEC_FP8(e5m2)
#undef TILEC_FP8
#endif

}  // namespace tilec

#undef TILEC_UNARY
#undef TILEC_BINARY
#undef TILEC_TERNARY
