// The elements of matrix instructions as doubles, which hold all of them and their products.
#pragma once

namespace tilec::emulated {

struct ByteTables {
  double e4m3[256], e5m2[256];
  ByteTables() {
    for (u32 code = 0; code < 256; code++) {
      e4m3[code] = f32_from_e4m3(code);
      e5m2[code] = f32_from_e5m2(code);
    }
  }
};

// The elements in a register, the lowest bits first; returns how many there are.
static u32 decode(Element element, u32 word, double* to) {
  static const ByteTables tables;
  u32 bits = bits_of(element);
  for (u32 i = 0; i < 32 / bits; i++) {
    u32 code = bits == 32 ? word : word >> i * bits & ((1u << bits) - 1);
    switch (element) {
      case Element::f16: to[i] = f32_from_f16({(u16)code}); break;
      case Element::bf16: to[i] = f32_from_bf16({(u16)code}); break;
      case Element::tf32: to[i] = f32_of_bits(code & ~0x1fffu); break;
      case Element::e4m3: to[i] = tables.e4m3[code]; break;
      case Element::e5m2: to[i] = tables.e5m2[code]; break;
      case Element::s8: to[i] = (s8)code; break;
      case Element::s4: to[i] = (s32)(code ^ 8) - 8; break;
      case Element::u8: case Element::u4: case Element::b1: to[i] = code; break;
    }
  }
  return 32 / bits;
}

// Value `i` of a thread's accumulators.
static double accumulated(Sum sum, const u32* registers, u32 i) {
  switch (sum) {
    case Sum::f32: return f32_of_bits(registers[i]);
    case Sum::s32: return (s32)registers[i];
    case Sum::f16: return f32_from_f16({(u16)(registers[i / 2] >> 16 * (i % 2))});
  }
  __builtin_unreachable();
}

// Round once to the accumulator's type; integers wrap.
static void accumulate(Sum sum, u32* registers, u32 i, double value) {
  switch (sum) {
    case Sum::f32: registers[i] = bits_of_f32((f32)value); return;
    case Sum::s32: registers[i] = (u32)(s64)value; return;
    case Sum::f16:
      u32 shift = 16 * (i % 2), half = nearest(value, CODING_F16);
      registers[i / 2] = (registers[i / 2] & ~(0xffffu << shift)) | half << shift;
      return;
  }
}

// d += a b for a of rows x k, b of columns x k, in double.
static void multiply(const double* a, const double* b, double* d, u32 rows, u32 columns, u32 k) {
  static double across[256 * 256];  // b the other way round, so that the inner loop is a vector's
  for (u32 n = 0; n < columns; n++)
    for (u32 i = 0; i < k; i++) across[i * columns + n] = b[n * k + i];
  for (u32 m = 0; m < rows; m++)
    for (u32 i = 0; i < k; i++)
      for (u32 n = 0; n < columns; n++)
        d[m * columns + n] += a[m * k + i] * across[i * columns + n];
}

}  // namespace tilec::emulated
