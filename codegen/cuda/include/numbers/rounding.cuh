// Rounding of f32 and f64 to narrower numbers by arithmetic, the same in both bodies.
#pragma once

namespace tilec {

// How a cast rounds: to the nearest and ties to even; toward zero; or to one of the two neighbours,
// the upper one where the fraction of the way to it and a random fraction make at least 1.
enum class Rounding { nearest, toward_zero, stochastic };

namespace numbers {

constexpr f64 LARGE = 0x1p63;  // from here on nothing fits an s64

// What is clipped to a range; NaN stays.
TILEC_DEVICE f32 clipped(f32 x, f32 low, f32 high) { return min_f32(max_f32(x, low), high); }

// The greatest f32 up to |x|, with the sign of x.
TILEC_DEVICE f32 toward_zero_f32(f32 x) { return x; }
TILEC_DEVICE f32 toward_zero_f32(f64 x) {
  const f32 near = f32(x);
  return abs_f64(f64(near)) > abs_f64(x) ? f32_of_bits(bits_of_f32(near) - 1) : near;
}

// Exactly, or toward zero with the last bit set: rounding that again to 22 bits or fewer gives what
// rounding x gives (S. Boldo and G. Melquiond, Emulation of FMA and correctly rounded sums, 2008).
TILEC_DEVICE f32 odd_f32(f32 x) { return x; }
TILEC_DEVICE f32 odd_f32(f64 x) {
  const f32 near = toward_zero_f32(x);
  return x == x && f64(near) != x ? f32_of_bits(bits_of_f32(near) | 1) : near;
}
TILEC_DEVICE f32 odd_f32(u32 x) {
  const u32 sticky = (x & 511) != 0 ? 256 : 0;
  return f32(x >> 24 ? (x & ~511u) | sticky : x);
}
TILEC_DEVICE f32 odd_f32(s32 x) {
  return x < 0 ? -odd_f32(u32(0) - u32(x)) : odd_f32(u32(x));
}

// A number exactly; of more than 53 bits so that rounding it again to 40 or fewer does no harm.
TILEC_DEVICE f64 real_f64(f64 x) { return x; }
TILEC_DEVICE f64 real_f64(f32 x) { return f64(x); }
TILEC_DEVICE f64 real_f64(s32 x) { return f64(x); }
TILEC_DEVICE f64 real_f64(u32 x) { return f64(x); }
TILEC_DEVICE f64 real_f64(s64 x) {
  const u64 size = x < 0 ? u64(0) - u64(x) : u64(x), sticky = (size & 2047) != 0 ? 2048 : 0;
  const f64 y = f64(size >> 53 ? (size & ~2047ull) | sticky : size);
  return x < 0 ? -y : y;
}
TILEC_DEVICE f32 odd_f32(s64 x) { return odd_f32(real_f64(x)); }

// a * b and a * b + c, to be rounded once more.
TILEC_DEVICE f32 odd_product_f32(f32 a, f32 b) { return odd_f32(mul_f64(f64(a), f64(b))); }
TILEC_DEVICE f32 odd_fma_f32(f32 a, f32 b, f32 c) {
  const f64 p = mul_f64(f64(a), f64(b)), s = add_f64(p, f64(c)), part = sub_f64(s, p);
  const f64 error = add_f64(sub_f64(p, sub_f64(s, part)), sub_f64(f64(c), part));
  if (!(error < 0.0 || error > 0.0) || (bits_of_f64(s) & 1)) return odd_f32(s);
  const bool outward = (error > 0.0) == (s > 0.0);
  return odd_f32(f64_of_bits(outward ? bits_of_f64(s) + 1 : bits_of_f64(s) - 1));
}

// The bits of 2**n as an f32, n from -149 to 127.
template <s32 n> constexpr u32 POWER = n < -126 ? 1u << ((149 + n) & 31) : u32(n + 127) << 23;

// Numbers with `mantissa` bits behind the point and the least exponent `least` are multiples of
// 2**(e - mantissa), e being the exponent or `least` if that is greater. The nearest of them, for
// x from 0 to 2**100 and `least` above -120, by a sum whose last place is that unit.
template <s32 mantissa, s32 least> TILEC_DEVICE f32 nearest(f32 x) {
  const s32 field = s32(bits_of_f32(x) & 0x7f800000), lowest = (least + 127) << 23;
  const f32 big = f32_of_bits(u32(field > lowest ? field : lowest) + u32((23 - mantissa) << 23));
  return sub_f32(add_f32(x, big), big);
}

// The next of them toward zero, for any x.
template <s32 mantissa, s32 least> TILEC_DEVICE f32 toward_zero(f32 x) {
  const u32 bits = bits_of_f32(x);
  const s32 field = s32(bits >> 23 & 255), exponent = field > 1 ? field : 1;
  const s32 less = least + 127 - exponent, away = 23 - mantissa + (less > 0 ? less : 0);
  const u32 kept = away > 23 ? bits & 0x80000000 : bits >> away << away;
  return f32_of_bits(x != x ? bits : kept);
}

// Random bits as a number in [0, 1).
TILEC_DEVICE f64 chance(u32 random) { return mul_f64(f64(random), 0x1p-32); }

// One of the two next to x, by chance.
template <s32 mantissa, s32 least> TILEC_DEVICE f64 stochastic(f64 x, u32 random) {
  const u64 sign = bits_of_f64(x) & 1ull << 63;
  const s64 field = s64(bits_of_f64(x) >> 52 & 2047), lowest = least + 1023;
  if (field == 2047) return x;
  const s64 unit = (field > lowest ? field : lowest) - mantissa;
  const f64 whole = floor_f64(
      add_f64(mul_f64(x, f64_of_bits(u64(2046 - unit) << 52)), chance(random)));
  const f64 y = abs_f64(mul_f64(whole, f64_of_bits(u64(unit) << 52)));
  return f64_of_bits(bits_of_f64(y) | sign);
}

// A whole number, 0 for NaN; beyond an s64 the least of them, or the greatest if that `saturate`s,
// else 0.
TILEC_DEVICE f32 rint_of(f32 x) { return rint_f32(x); }
TILEC_DEVICE f64 rint_of(f64 x) { return rint_f64(x); }
template <class X> TILEC_DEVICE s64 whole_of(X x, bool saturate) {
  if (x < X(LARGE) && x > X(-LARGE)) return s64(x);
  const u64 least = 1ull << 63;
  return x < X(0) ? s64(least) : saturate && x > X(0) ? s64(least - 1) : 0;
}
template <Rounding rounding, class X> TILEC_DEVICE s64 whole(X x, u32 random, bool saturate) {
  if constexpr (rounding == Rounding::nearest) {
    return whole_of(rint_of(x), saturate);
  } else if constexpr (rounding == Rounding::toward_zero) {
    return whole_of(x, saturate);
  } else {
    return whole_of(floor_f64(add_f64(f64(x), chance(random))), saturate);
  }
}

}  // namespace numbers

// a * b + c rounded once to f16 or bf16, of which all three are: fma.rn.f16x2, fma.rn.bf16x2.
TILEC_DEVICE f32 fma_f16(f32 a, f32 b, f32 c) {
  const u32 d = fma_f16x2(f16_from_f32(a).bits, f16_from_f32(b).bits, f16_from_f32(c).bits);
  return f32_from_f16({u16(d)});
}
TILEC_DEVICE f32 fma_bf16(f32 a, f32 b, f32 c) {
  const u32 d = fma_bf16x2(bf16_from_f32(a).bits, bf16_from_f32(b).bits, bf16_from_f32(c).bits);
  return f32_from_bf16({u16(d)});
}

}  // namespace tilec
