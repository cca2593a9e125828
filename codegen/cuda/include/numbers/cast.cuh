// Values of one type as another: as ir/ops/cast.py says.
#pragma once

namespace tilec {
namespace numbers {

template <class C> constexpr bool REAL = false;
template <> constexpr bool REAL<f32> = true;
template <> constexpr bool REAL<f64> = true;

// A whole number within the range of T.
template <class T, class C> TILEC_DEVICE C saturated(C x) {
  constexpr s64 low = Number<T>::low > Number<C>::low ? Number<T>::low : Number<C>::low;
  constexpr s64 high = Number<T>::high < Number<C>::high ? Number<T>::high : Number<C>::high;
  return x < C(low) ? C(low) : x > C(high) ? C(high) : x;
}

// A number as a whole one, to be wrapped.
template <class T, Rounding rounding, bool saturate, class C>
TILEC_DEVICE Carrier<T> to_whole(C x, u32 random) {
  constexpr u32 bits = Number<T>::memory;
  constexpr bool is_signed = Number<T>::low < 0;
  constexpr bool quick = saturate && sizeof(C) == 4 && rounding == Rounding::nearest;
  if constexpr (!REAL<C>) {
    if constexpr (saturate) x = saturated<T>(x);
    return Carrier<T>(x);
  } else if constexpr (quick && bits == 8) {
    return is_signed ? s8_from_f32(x) : s32(u8_from_f32(x));
  } else if constexpr (quick && bits < 32) {
    return s32_from_f32(clipped(x, f32(Number<T>::low), f32(Number<T>::high)));
  } else if constexpr (quick && bits == 32 && is_signed) {
    return s32_from_f32(x);
  } else {
    const s64 y = whole<rounding>(x, random, saturate);
    return Carrier<T>(saturate ? saturated<T>(y) : y);
  }
}

// A number as an f32 that is to be rounded to T, to the nearest.
template <class T, Rounding rounding, bool saturate, class C>
TILEC_DEVICE f32 to_real(C x, u32 random) {
  using N = Number<T>;
  if constexpr (rounding == Rounding::nearest) {
    f32 y;
    if constexpr (N::mantissa == 23) y = f32(x); else y = odd_f32(x);
    return saturate ? clipped(y, -N::high, N::high) : y;
  } else if constexpr (rounding == Rounding::toward_zero) {
    f32 y;
    if constexpr (sizeof(C) == 4 && REAL<C>) y = x; else y = toward_zero_f32(real_f64(x));
    y = toward_zero<N::mantissa, N::least>(y);
    const bool finite = abs_f32(y) < f32_of_bits(0x7f800000);
    return saturate || finite ? clipped(y, -N::high, N::high) : y;
  } else {
    const f64 y = stochastic<N::mantissa, N::least>(real_f64(x), random), high = N::high;
    return f32(saturate ? min_f64(max_f64(y, -high), high) : y);
  }
}

// A number as the value of a code, or as an f32 that is to be rounded to one.
template <class F, Rounding rounding, bool saturate, class C>
TILEC_DEVICE f32 to_code(C x, u32 random) {
  if constexpr (rounding == Rounding::nearest && F::spaced) {
    const f32 y = odd_f32(x);
    return saturate && F::special ? clipped(y, -F::high(), F::high()) : y;
  } else if constexpr (sizeof(C) == 4 && REAL<C>) {
    return F::value(code_of<F, rounding, saturate>(x, random));
  } else {
    return F::value(code_of<F, rounding, saturate>(real_f64(x), random));
  }
}

}  // namespace numbers

// x in the carrier of To, rounded but for what `Share::set` and `Number<To>::rounded` do: rounding
// to the nearest, and wrapping.
template <class To, Rounding rounding = Rounding::nearest, bool saturate = false, class C>
TILEC_DEVICE Carrier<To> cast(C x, u32 random = 0) {
  using numbers::Kind;
  constexpr Kind kind = Number<To>::kind;
  if constexpr (sizeof(C) == 1) {  // a bool
    return cast<To, rounding, saturate>(s32(x), random);
  } else if constexpr (kind == Kind::boolean) {
    return x != C(0);
  } else if constexpr (kind == Kind::whole) {
    return numbers::to_whole<To, rounding, saturate>(x, random);
  } else if constexpr (kind == Kind::code) {
    return numbers::to_code<typename Number<To>::Format, rounding, saturate>(x, random);
  } else if constexpr (sizeof(Carrier<To>) == 8) {
    return f64(x);
  } else {
    return numbers::to_real<To, rounding, saturate>(x, random);
  }
}

// The bits of an element of From as one of To, which has as many. Of NaN in less than 32 bits they
// are those of the positive one.
template <class To, class From> TILEC_DEVICE Carrier<To> bitcast(Carrier<From> x) {
  using numbers::Kind;
  if constexpr (Number<From>::kind == Kind::real && Number<From>::memory < 32) {
    if (x != x) return Number<To>::value(Number<From>::nan);
  }
  return Number<To>::value(Number<From>::raw(x));
}

}  // namespace tilec
