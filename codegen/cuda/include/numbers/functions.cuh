// exp, exp2, log, log2, sin, cos, tanh and erf.
//
// Those of f32 are the same sums and products in both bodies, so a host finds a device's results to
// the bit. On all numbers they are at most 1 unit of the last place from the nearest f32, sin and
// cos 2; their polynomials are minimax fits. Those of f64 are of the compiler's library, with
// the bounds that the CUDA C++ Programming Guide gives for its mathematical functions.
#pragma once

#ifdef __CUDACC__
#define TILEC_LIBRARY(name) ::name
#define TILEC_APART static __device__ __noinline__
#define TILEC_TABLE static __device__ const
#else
#define TILEC_LIBRARY(name) __builtin_##name
#define TILEC_APART static __attribute__((noinline, unused))
#define TILEC_TABLE static const __attribute__((unused))
#endif

namespace tilec {

TILEC_DEVICE f64 exp_f64(f64 a) { return TILEC_LIBRARY(exp)(a); }
TILEC_DEVICE f64 exp2_f64(f64 a) { return TILEC_LIBRARY(exp2)(a); }
TILEC_DEVICE f64 log_f64(f64 a) { return TILEC_LIBRARY(log)(a); }
TILEC_DEVICE f64 log2_f64(f64 a) { return TILEC_LIBRARY(log2)(a); }
TILEC_DEVICE f64 sin_f64(f64 a) { return TILEC_LIBRARY(sin)(a); }
TILEC_DEVICE f64 cos_f64(f64 a) { return TILEC_LIBRARY(cos)(a); }
TILEC_DEVICE f64 tanh_f64(f64 a) { return TILEC_LIBRARY(tanh)(a); }
TILEC_DEVICE f64 erf_f64(f64 a) { return TILEC_LIBRARY(erf)(a); }

namespace numbers {

// c[0] + c[1] x + c[2] x**2 + ...
TILEC_DEVICE f32 polynomial(f32, f32 last) { return last; }
template <class... Rest> TILEC_DEVICE f32 polynomial(f32 x, f32 first, Rest... rest) {
  return fma_f32(polynomial(x, rest...), x, first);
}

// 2**n as an f32, n from -126 to 127.
TILEC_DEVICE f32 power_of_2(s32 n) { return f32_of_bits(u32(n + 127) << 23); }

// x 2**n for x near 1, rounded once; n from -252 to 254.
TILEC_DEVICE f32 scaled(f32 x, s32 n) {
  const s32 half = n >> 1;
  return mul_f32(mul_f32(x, power_of_2(half)), power_of_2(n - half));
}

// The size of `size` with the sign of `sign`.
TILEC_DEVICE f32 with_sign(f32 size, f32 sign) {
  return f32_of_bits((bits_of_f32(size) & 0x7fffffff) | (bits_of_f32(sign) & 0x80000000));
}

// Added to a number below 2**22 it leaves its nearest whole number in the last bits.
constexpr f32 LAST_PLACE_1 = 12582912.0f;
TILEC_DEVICE s32 last_places(f32 x) { return s32(bits_of_f32(x) - 0x4b400000u); }

// A number as an exponent e and f, with 1 + f from 2/3 to 4/3: x = (1 + f) 2**e.
struct Split { f32 e, f; };
TILEC_DEVICE Split split(f32 x) {
  const bool small = x < 0x1p-126f;
  const u32 bits = bits_of_f32(small ? mul_f32(x, 0x1p23f) : x);
  const s32 e = s32(bits - 0x3f2aaaab) >> 23;
  const f32 m = f32_of_bits(bits - (u32(e) << 23));
  return {f32_from_s32(small ? e - 23 : e), sub_f32(m, 1.0f)};
}

// What a logarithm is where `found` is not: at 0, below it, at infinity and of NaN.
TILEC_DEVICE f32 logarithm(f32 x, f32 found) {
  if (x > 0.0f) return x == f32_of_bits(0x7f800000) ? x : found;
  return f32_of_bits(x == 0.0f ? 0xff800000 : 0x7fffffff);
}

// x as a number of quarter turns and a rest from -pi/4 to pi/4.
struct Angle { f32 rest; s32 quarters; };

// The words of 2/pi behind the point, after one of zeros.
TILEC_TABLE u32 TWO_OVER_PI[8] = {0, 0xa2f9836e, 0x4e441529, 0xfc2757d1,
                                  0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};

// Of 2/pi only the 96 bits count that make no whole turns of x (M. Payne and R. Hanek, Radian
// reduction for trigonometric functions, SIGNUM 1983).
TILEC_APART Angle large_angle(f32 x) {
  const u32 bits = bits_of_f32(x), m = (bits & 0x7fffff) | 0x800000;
  const u32 at = (bits >> 23 & 255) - 120, word = at >> 5;  // a unit of m is 2**(at - 30)
  u32 window[3];
  for (u32 i = 0; i < 3; i++)
    window[i] = funnel_left(TWO_OVER_PI[word + i + 1], TWO_OVER_PI[word + i], at & 31);
  const u64 low = u64(m) * window[2], middle = u64(m) * window[1] + (low >> 32);
  const u32 high = m * window[0] + u32(middle >> 32);  // quarters in units of 2**-30
  const u64 part = u64(high) << 34 | u64(u32(middle)) << 2 | u32(low) >> 30;
  const f32 rest = f32(mul_f64(f64(s64(part)), 0x1.921fb54442d18p-64));  // pi/2 of 2**64
  const s32 quarters = s32((high >> 30) + u32(part >> 63));
  return x < 0.0f ? Angle{-rest, -quarters} : Angle{rest, quarters};
}

TILEC_DEVICE Angle angle(f32 x) {
  if (!(abs_f32(x) < 0x1p20f)) {
    if (abs_f32(x) < f32_of_bits(0x7f800000)) return large_angle(x);
    return {sub_f32(x, x), 0};
  }
  const f32 t = fma_f32(x, 0x1.45f306p-1f, LAST_PLACE_1), k = sub_f32(t, LAST_PLACE_1);
  f32 rest = fma_f32(k, -0x1.921fb6p+0f, x);  // pi/2 in three parts
  rest = fma_f32(k, 0x1.777a5cp-25f, rest);
  return {fma_f32(k, 0x1.ee59dap-50f, rest), last_places(t)};
}

// sin(a + quarters pi / 2)
TILEC_DEVICE f32 sine(Angle a) {
  const f32 x = a.rest, s = mul_f32(x, x);
  const f32 odd =
      polynomial(s, -1.666666716e-1f, 8.333329111e-3f, -1.983930852e-4f, 2.718084033e-6f);
  const f32 even = polynomial(s, -0.5f, 4.166661948e-2f, -1.388667733e-3f, 2.438314550e-5f);
  const f32 y = a.quarters & 1 ? fma_f32(even, s, 1.0f) : fma_f32(mul_f32(odd, s), x, x);
  return a.quarters & 2 ? -y : y;
}

}  // namespace numbers

TILEC_DEVICE f32 exp2_f32(f32 a) {
  const f32 x = min_f32(max_f32(a, -151.0f), 129.0f), t = add_f32(x, numbers::LAST_PLACE_1);
  const f32 f = sub_f32(x, sub_f32(t, numbers::LAST_PLACE_1));
  const f32 p = numbers::polynomial(f, 6.931472421e-1f, 2.402265221e-1f, 5.550310388e-2f,
                                    9.617692791e-3f, 1.340664458e-3f, 1.559468074e-4f);
  return numbers::scaled(fma_f32(p, f, 1.0f), numbers::last_places(t));
}

TILEC_DEVICE f32 exp_f32(f32 a) {
  const f32 x = min_f32(max_f32(a, -104.0f), 89.0f);
  const f32 t = fma_f32(x, 0x1.715476p+0f, numbers::LAST_PLACE_1);
  const f32 n = sub_f32(t, numbers::LAST_PLACE_1);
  const f32 f = fma_f32(n, 0x1.05c610p-29f, fma_f32(n, -0x1.62e430p-1f, x));  // ln 2 in two parts
  const f32 p = numbers::polynomial(f, 1.0f, 4.999999404e-1f, 1.666643173e-1f, 4.166800156e-2f,
                                    8.374162950e-3f, 1.384364441e-3f);
  return numbers::scaled(fma_f32(p, f, 1.0f), numbers::last_places(t));
}

TILEC_DEVICE f32 log_f32(f32 a) {
  const numbers::Split x = numbers::split(a);
  const f32 p = numbers::polynomial(
      x.f, -0.5f, 3.333320916e-1f, -2.499950826e-1f, 2.001077384e-1f, -1.668949276e-1f,
      1.400078684e-1f, -1.207829863e-1f, 1.400641799e-1f, -1.331111044e-1f);
  const f32 y = fma_f32(mul_f32(p, x.f), x.f, x.f);
  return numbers::logarithm(a, fma_f32(x.e, 0x1.62e430p-1f, y));
}

TILEC_DEVICE f32 log2_f32(f32 a) {
  const numbers::Split x = numbers::split(a);
  const f32 p = numbers::polynomial(
      x.f, -7.213475704e-1f, 4.808965325e-1f, -3.606666625e-1f, 2.886944413e-1f, -2.407784760e-1f,
      2.019886672e-1f, -1.742530167e-1f, 2.020698935e-1f, -1.920387298e-1f);
  const f32 less = mul_f32(x.f, fma_f32(p, x.f, 0x1.4ae0c0p-26f));  // log2(e) in two parts
  return numbers::logarithm(a, add_f32(x.e, fma_f32(x.f, 0x1.715476p+0f, less)));
}

TILEC_DEVICE f32 sin_f32(f32 a) {
  const f32 y = numbers::sine(numbers::angle(a));
  return a == 0.0f ? a : y;
}
TILEC_DEVICE f32 cos_f32(f32 a) {
  const numbers::Angle x = numbers::angle(a);
  return numbers::sine({x.rest, x.quarters + 1});
}

// Near 0 a series, then 1 - 2 / (exp(2 |a|) + 1).
TILEC_DEVICE f32 tanh_f32(f32 a) {
  const f32 x = abs_f32(a), s = mul_f32(x, x);
  const f32 p = numbers::polynomial(s, -3.333333135e-1f, 1.333320588e-1f, -5.394676328e-2f,
                                    2.170070261e-2f, -8.177397773e-3f, 2.142961603e-3f);
  const f32 near = fma_f32(mul_f32(p, s), x, x);
  const f32 far = sub_f32(1.0f, div_f32(2.0f, add_f32(exp_f32(add_f32(x, x)), 1.0f)));
  return numbers::with_sign(x < 0.625f ? near : far, a);
}

// Near 0 a series, then 1 - 2**(log2 of what is left to 1).
TILEC_DEVICE f32 erf_f32(f32 a) {
  const f32 x = min_f32(abs_f32(a), 3.95f), s = mul_f32(x, x);
  const f32 p = numbers::polynomial(s, 1.283791661e-1f, -3.761262596e-1f, 1.128358543e-1f,
                                    -2.685381286e-2f, 5.188327748e-3f, -8.010195452e-4f,
                                    7.853867282e-5f);
  const f32 q = numbers::polynomial(x, -5.103313597e-4f, -1.625975013e+0f, -9.207651615e-1f,
                                    -1.486513615e-1f, 3.145835549e-2f, -4.240939394e-3f,
                                    2.677248849e-4f);
  return numbers::with_sign(x < 1.0f ? fma_f32(p, x, x) : sub_f32(1.0f, exp2_f32(q)), a);
}

}  // namespace tilec
