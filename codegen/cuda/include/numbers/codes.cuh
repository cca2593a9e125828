// Numbers of at most 8 bits that stand for values in a table, and how numbers are rounded to those:
// as ir/table.py says. A format F says
//
//   bits, points      of a code; how many finite values there are
//   value(code)       what a code stands for
//   order(i)          the code of the finite values in ascending order, of equal ones the first
//   above()           what would follow the greatest value, where overflow is not finite; else 0
//   zero, nan         the codes of what 0 and NaN become
//   minus_zero, plus_infinity, minus_infinity     their codes, or NONE
//   special           whether there is infinity or NaN
//   positive          whether all values are above 0
//   spaced            whether `nearest_code` rounds to it by arithmetic; then `high` is there too
//
// Floats have one here; those of other tables are printed before the kernel.
#pragma once

namespace tilec {
namespace numbers {

// What a code of e8m0 stands for: the exponent of an f32, but for 2^-127 and for NaN, which is
// infinity times 0.
TILEC_DEVICE f32 power_of_two(u32 code) {
  const f32 y = max_f32(f32_of_bits(code << 23), f32_of_bits(0x400000));
  return fma_f32(y, 0.0f, y);
}

constexpr u32 NONE = 256;

// A float of a sign, e bits of exponent and m of mantissa. The codes up to `top` are finite; beyond
// them is `over`: `top` again where every code is finite, infinity, or `nan`.
template <u32 e, u32 m, s32 bias, u32 top, u32 over, u32 not_a_number> struct Minifloat {
  static constexpr u32 bits = 1 + e + m, sign = 1u << (e + m), points = 2 * top + 1;
  static constexpr u32 zero = 0, nan = not_a_number;
  static constexpr bool special = over != top, infinite = special && over != nan;
  static constexpr bool positive = false, spaced = m > 0;
  static constexpr u32 minus_zero = nan == sign ? NONE : sign;
  static constexpr u32 plus_infinity = infinite ? over : NONE;
  static constexpr u32 minus_infinity = infinite ? sign | over : NONE;

  // What bits without the sign are if no exponent is special.
  TILEC_DEVICE f32 size(u32 body) {
    return mul_f32(f32_of_bits(body << (23 - m)), f32_of_bits(POWER<127 - bias>));
  }
  TILEC_DEVICE f32 value(u32 code) {
    const u32 body = code & (sign - 1);
    f32 y = size(body);
    if (infinite && body >= over) y = f32_of_bits(body == over ? 0x7f800000 : 0x7fffffff);
    if (special && !infinite && (nan == sign ? code == nan : body >= nan)) {
      y = f32_of_bits(0x7fffffff);
    }
    return f32_of_bits(bits_of_f32(y) | (code & sign) << (31 - e - m));
  }
  TILEC_DEVICE u32 order(u32 i) { return i < top ? sign | (top - i) : i - top; }
  TILEC_DEVICE f32 high() { return size(top); }
  TILEC_DEVICE f64 above() { return special ? f64(size(top + 1)) : 0.0; }

  TILEC_DEVICE u32 nearest_code(f32 x) {
    if (x != x) return nan;
    const f32 near = nearest<m, 1 - bias>(min_f32(abs_f32(x), mul_f32(high(), 4.0f)));
    u32 body = bits_of_f32(mul_f32(near, f32_of_bits(POWER<bias - 127>))) >> (23 - m);
    if (body > top) body = over;
    if (nan == sign && (body == 0 || body == nan)) return body;
    return body | bits_of_f32(x) >> 31 << (e + m);
  }
};

// How many of the finite values are at most x.
template <class F, class X> TILEC_DEVICE u32 count(X x) {
  u32 found = 0;
#pragma unroll
  for (u32 step = 256; step; step >>= 1) {
    if (step <= F::points && found + step <= F::points &&
        X(F::value(F::order(found + step - 1))) <= x) found += step;
  }
  return found;
}

// Finite value i, and at the ends what would follow.
template <class F> TILEC_DEVICE f64 point(s32 i) {
  return i < 0 ? -F::above() : i == s32(F::points) ? F::above() : f64(F::value(F::order(u32(i))));
}

// Whether x, between two neighbours of which `odd` says that the lower has an odd code, goes up.
template <Rounding rounding>
TILEC_DEVICE bool goes_up(f64 x, f64 low, f64 high, bool odd, u32 random) {
  if constexpr (rounding == Rounding::stochastic) {
    const f64 part = div_f64(sub_f64(x, low), sub_f64(high, low));
    return add_f64(part, chance(random)) >= 1.0;
  }
  const bool across = low < 0.0 && high > 0.0;
  if (rounding == Rounding::toward_zero && !across) return x < 0.0 || x >= high;
  const f64 middle = mul_f64(add_f64(low, high), 0.5);
  return x > middle || (x == middle && odd);
}

// The code of x rounded to a format.
template <class F, Rounding rounding, bool saturate, class X>
TILEC_APART u32 code_of(X x, u32 random) {
  constexpr s32 last = s32(F::points) - 1;
  if (x != x || (F::positive && x < X(0))) return F::nan;
  const bool extended = !saturate && rounding != Rounding::toward_zero && F::above() > 0.0;
  const u32 infinity = x < X(0) ? F::minus_infinity : F::plus_infinity;
  const u32 over = infinity == NONE ? F::nan : infinity;
  if (F::special && !saturate && x - x != X(0)) return over;
  const s32 least = extended && point<F>(0) < 0.0 ? -1 : 0, most = extended ? last : last - 1;
  s32 i = s32(count<F>(x)) - 1;
  i = i < least ? least : i > most ? most : i;
  const f64 low = point<F>(i), high = point<F>(i + 1);
  const bool odd = i < 0 ? !(F::order(0) & 1) : F::order(u32(i)) & 1;
  if (goes_up<rounding>(f64(x), low, high, odd, random) && f64(x) > low) i++;
  if (i < 0 || i > last) return over;
  const u32 code = F::order(u32(i));
  if (F::minus_zero == NONE || F::value(code) != 0.0f) return code;
  return bits_of_f64(f64(x)) >> 63 ? F::minus_zero : code;
}

}  // namespace numbers

// An element of a format.
template <class F> struct Code {};

}  // namespace tilec
