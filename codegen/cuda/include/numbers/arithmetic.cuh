// Arithmetic that the vocabulary has not: f64, whole numbers, whole floats. Floats round to the
// nearest, ties to even, and no two operations are fused; whole numbers wrap modulo 2**bits.
#pragma once

namespace tilec {

using f64 = double;

// The functions of f64 and f32 that are instructions: PTX for devices, builtins for hosts.
#ifdef __CUDACC__
#define TILEC_UNARY(name, T, reg, ptx, host) \
  TILEC_DEVICE T name(T a) { T d; asm(ptx " %0, %1;" : "=" reg(d) : reg(a)); return d; }
#define TILEC_BINARY(name, T, reg, ptx, host) \
  TILEC_DEVICE T name(T a, T b) { \
    T d; asm(ptx " %0, %1, %2;" : "=" reg(d) : reg(a), reg(b)); return d; }
#define TILEC_TERNARY(name, T, reg, ptx, host) \
  TILEC_DEVICE T name(T a, T b, T c) { \
    T d; asm(ptx " %0, %1, %2, %3;" : "=" reg(d) : reg(a), reg(b), reg(c)); return d; }
#else
#define TILEC_UNARY(name, T, reg, ptx, host) TILEC_DEVICE T name(T a) { return host; }
#define TILEC_BINARY(name, T, reg, ptx, host) TILEC_DEVICE T name(T a, T b) { return host; }
#define TILEC_TERNARY(name, T, reg, ptx, host) TILEC_DEVICE T name(T a, T b, T c) { return host; }
#endif

// One f64: add, sub, mul, fma, div, sqrt, all .rn.f64.
TILEC_BINARY(add_f64, f64, "d", "add.rn.f64", a + b)
TILEC_BINARY(sub_f64, f64, "d", "sub.rn.f64", a - b)
TILEC_BINARY(mul_f64, f64, "d", "mul.rn.f64", a * b)
TILEC_TERNARY(fma_f64, f64, "d", "fma.rn.f64", __builtin_fma(a, b, c))
TILEC_BINARY(div_f64, f64, "d", "div.rn.f64", a / b)
TILEC_UNARY(sqrt_f64, f64, "d", "sqrt.rn.f64", __builtin_sqrt(a))
// Without the sign: abs. The nearest whole number, the next below and above: cvt.rni, .rmi, .rpi.
TILEC_UNARY(abs_f32, f32, "f", "abs.f32", __builtin_fabsf(a))
TILEC_UNARY(abs_f64, f64, "d", "abs.f64", __builtin_fabs(a))
TILEC_UNARY(rint_f32, f32, "f", "cvt.rni.f32.f32", __builtin_rintf(a))
TILEC_UNARY(rint_f64, f64, "d", "cvt.rni.f64.f64", __builtin_rint(a))
TILEC_UNARY(floor_f32, f32, "f", "cvt.rmi.f32.f32", __builtin_floorf(a))
TILEC_UNARY(floor_f64, f64, "d", "cvt.rmi.f64.f64", __builtin_floor(a))
TILEC_UNARY(ceil_f32, f32, "f", "cvt.rpi.f32.f32", __builtin_ceilf(a))
TILEC_UNARY(ceil_f64, f64, "d", "cvt.rpi.f64.f64", __builtin_ceil(a))
#undef TILEC_UNARY
#undef TILEC_BINARY
#undef TILEC_TERNARY

// The bits of an f64 and back.
TILEC_DEVICE u64 bits_of_f64(f64 a) {
  union { f64 number; u64 bits; } both = {a};
  return both.bits;
}
TILEC_DEVICE f64 f64_of_bits(u64 a) {
  union { u64 bits; f64 number; } both = {a};
  return both.number;
}

// The greater, the lesser; NaN if either is.
TILEC_DEVICE f64 max_f64(f64 a, f64 b) { return a > b || a != a ? a : b; }
TILEC_DEVICE f64 min_f64(f64 a, f64 b) { return a < b || a != a ? a : b; }

// 1 / sqrt(a), each rounded: within 1.5 units of the last place.
TILEC_DEVICE f32 rsqrt_f32(f32 a) { return div_f32(1.0f, sqrt_f32(a)); }
TILEC_DEVICE f64 rsqrt_f64(f64 a) { return div_f64(1.0, sqrt_f64(a)); }

// Whether a comes before b where the greatest is looked for: a NaN is greater than all numbers.
template <class C> TILEC_DEVICE bool precedes(C a, C b) { return a > b || (a != a && b == b); }

// Whole numbers of a type T, with U the same without a sign. Division rounds down, and by 0 gives
// 0; a shift by less than 0 or by as many bits as there are moves all of them out.
#define TILEC_WHOLE(T, U) \
  TILEC_DEVICE T add_##T(T a, T b) { return T(U(a) + U(b)); } \
  TILEC_DEVICE T sub_##T(T a, T b) { return T(U(a) - U(b)); } \
  TILEC_DEVICE T mul_##T(T a, T b) { return T(U(a) * U(b)); } \
  TILEC_DEVICE T neg_##T(T a) { return T(U(0) - U(a)); } \
  TILEC_DEVICE T max_##T(T a, T b) { return a > b ? a : b; } \
  TILEC_DEVICE T min_##T(T a, T b) { return a < b ? a : b; } \
  template <u32 bits> TILEC_DEVICE T shl_##T(T a, T b) { \
    return U(b) < bits ? T(U(a) << U(b)) : T(0); \
  }
#define TILEC_SIGNED(T, U) \
  TILEC_DEVICE T abs_##T(T a) { return a < 0 ? neg_##T(a) : a; } \
  template <u32 bits> TILEC_DEVICE T shr_##T(T a, T b) { \
    return a >> (U(b) < bits ? U(b) : U(8 * sizeof(T) - 1)); \
  } \
  TILEC_DEVICE T floordiv_##T(T a, T b) { \
    if (b == 0 || b == -1) return b == 0 ? 0 : neg_##T(a); \
    const T q = a / b; \
    return q * b != a && (a < 0) != (b < 0) ? q - 1 : q; \
  } \
  TILEC_DEVICE T mod_##T(T a, T b) { \
    const T r = b == 0 || b == -1 ? 0 : a % b; \
    return r != 0 && (r < 0) != (b < 0) ? r + b : r; \
  }
TILEC_WHOLE(s32, u32)
TILEC_WHOLE(u32, u32)
TILEC_WHOLE(s64, u64)
TILEC_SIGNED(s32, u32)
TILEC_SIGNED(s64, u64)
#undef TILEC_WHOLE
#undef TILEC_SIGNED
TILEC_DEVICE u32 abs_u32(u32 a) { return a; }
template <u32 bits> TILEC_DEVICE u32 shr_u32(u32 a, u32 b) { return b < bits ? a >> b : 0; }
TILEC_DEVICE u32 floordiv_u32(u32 a, u32 b) { return b == 0 ? 0 : a / b; }
TILEC_DEVICE u32 mod_u32(u32 a, u32 b) { return b == 0 ? 0 : a % b; }

}  // namespace tilec
