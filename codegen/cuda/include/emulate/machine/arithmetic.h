// Rounding, which is exact everywhere: to the nearest number, ties to even.
#pragma once

namespace tilec::emulated {

// The code of the nearest number. The sign is the bit above NaN's code.
u32 nearest(double value, const Coding& to) {
  if (value != value) return to.nan;
  u32 sign = __builtin_signbit(value) ? to.nan + 1 : 0;
  double size = __builtin_fabs(value);
  if (size > 1e300) return sign | to.top;
  int exponent = size > 0 ? std::max(__builtin_ilogb(size), to.smallest) : to.smallest;
  u64 digits = (u64)__builtin_rint(__builtin_ldexp(size, to.mantissa - exponent));
  u64 code = ((u64)(exponent - to.smallest) << to.mantissa) + digits;  // a carry goes up by itself
  return sign | (u32)std::min<u64>(code, to.top);
}

// a + b in double, rounded to odd where it is inexact: rounding that once more, to a type of 24
// bits or fewer, gives what one rounding of the exact sum gives.
static double sum_to_odd(double a, double b) {
  double sum = a + b, part = sum - a, error = (a - (sum - part)) + (b - part);
  u64 bits;
  memcpy(&bits, &sum, 8);
  if (error == 0 || error != error || (bits & 1)) return sum;
  bits += (error > 0) == (sum > 0) ? 1 : -1;
  memcpy(&sum, &bits, 8);
  return sum;
}

// What one rounding makes the result of; products of f16 and of bf16 are exact.
static double unrounded(char operation, double a, double b, double c) {
  switch (operation) {
    case '+': return sum_to_odd(a, b);
    case '-': return sum_to_odd(a, -b);
    case '*': return a * b;
    default: return sum_to_odd(a * b, c);
  }
}

u32 f16x2(char operation, u32 a, u32 b, u32 c) {
  f32x2 x = f32x2_from_f16x2(a), y = f32x2_from_f16x2(b), z = f32x2_from_f16x2(c);
  return nearest(unrounded(operation, x.x, y.x, z.x), CODING_F16) |
         nearest(unrounded(operation, x.y, y.y, z.y), CODING_F16) << 16;
}

u32 bf16x2(char operation, u32 a, u32 b, u32 c) {
  f32x2 x = f32x2_from_bf16x2(a), y = f32x2_from_bf16x2(b), z = f32x2_from_bf16x2(c);
  return nearest(unrounded(operation, x.x, y.x, z.x), CODING_BF16) |
         nearest(unrounded(operation, x.y, y.y, z.y), CODING_BF16) << 16;
}

f32 f32_from_e5m2(u32 code) { return f32_from_f16({(u16)(code << 8)}); }
f32 f32_from_e4m3(u32 code) {
  bool nan = (code & 0x7f) == 0x7f;
  f32 size = nan ? f32_of_bits(0x7fffffffu) : f32_from_f16({(u16)((code & 0x7f) << 7)}) * 256;
  return code & 0x80 ? -size : size;
}

// The nearest integer, clipped; 0 for NaN.
s64 integer(f32 value, s64 low, s64 high) {
  if (value != value) return 0;
  double whole = __builtin_rint((double)value);
  return whole < (double)low ? low : whole > (double)high ? high : (s64)whole;
}

}  // namespace tilec::emulated
