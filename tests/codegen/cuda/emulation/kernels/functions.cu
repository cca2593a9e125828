// y[i] = one function of a[i], b[i], c[i], which `number` names.
#include "tilec.cuh"
using namespace tilec;

TILEC_KERNEL(128) functions(const u32* a, const u32* b, const u32* c, u32* y, int n, int number) {
  int i = block_x() * 128 + thread_x();
  if (i >= n) return;
  const u32 x = load_global(a + i), z = load_global(b + i), w = load_global(c + i);
  const f32 f = f32_of_bits(x), g = f32_of_bits(z), h = f32_of_bits(w);
  u32 d = 0;
  switch (number) {
    case 0: d = add_f16x2(x, z); break;
    case 1: d = sub_f16x2(x, z); break;
    case 2: d = mul_f16x2(x, z); break;
    case 3: d = fma_f16x2(x, z, w); break;
    case 4: d = add_bf16x2(x, z); break;
    case 5: d = sub_bf16x2(x, z); break;
    case 6: d = mul_bf16x2(x, z); break;
    case 7: d = fma_bf16x2(x, z, w); break;
    case 8: d = bits_of_f32(add_f32(f, g)); break;
    case 9: d = bits_of_f32(sub_f32(f, g)); break;
    case 10: d = bits_of_f32(mul_f32(f, g)); break;
    case 11: d = bits_of_f32(fma_f32(f, g, h)); break;
    case 12: d = bits_of_f32(div_f32(f, g)); break;
    case 13: d = bits_of_f32(sqrt_f32(f)); break;
    case 14: d = bits_of_f32(max_f32(f, g)); break;
    case 15: d = bits_of_f32(min_f32(f, g)); break;
    case 16: d = f16_from_f32(f).bits; break;
    case 17: d = bf16_from_f32(f).bits; break;
    case 18: d = f16x2_from_f32(f, g); break;
    case 19: d = bf16x2_from_f32(f, g); break;
    case 20: d = bits_of_f32(f32_from_f16({(u16)x})); break;
    case 21: d = bits_of_f32(f32_from_bf16({(u16)x})); break;
    case 22: d = bits_of_f32(f32x2_from_f16x2(x).y); break;
    case 23: d = bits_of_f32(f32x2_from_bf16x2(x).y); break;
    case 24: d = tf32_from_f32(f); break;
    case 25: d = s32_from_f32(f); break;
    case 26: d = s8_from_f32(f); break;
    case 27: d = u8_from_f32(f); break;
    case 28: d = bits_of_f32(f32_from_s32(x)); break;
#ifdef FP8
    case 29: d = e4m3x2_from_f32(f, g); break;
    case 30: d = e5m2x2_from_f32(f, g); break;
    case 31: d = e4m3x2_from_f16x2(x); break;
    case 32: d = e5m2x2_from_f16x2(x); break;
    case 33: d = f16x2_from_e4m3x2((u16)x); break;
    case 34: d = f16x2_from_e5m2x2((u16)x); break;
#endif
    case 35: d = lop3<0xe8>(x, z, w); break;
    case 36: d = prmt(x, z, w); break;
    case 37: d = funnel_left(x, z, w); break;
    case 38: d = funnel_right(x, z, w); break;
    case 39: d = popc(x); break;
    case 40: d = clz(x >> (z & 31)); break;
    case 41: d = reverse(x); break;
    case 42: d = dp4a_s8(x, z, w); break;
    case 43: d = dp4a_u8s8(x, z, w); break;
    case 44: d = dp4a_u8(x, z, w); break;
    case 45: d = bits_of_f32(exp2_approx(f)); break;
    case 46: d = bits_of_f32(log2_approx(f)); break;
    case 47: d = bits_of_f32(reciprocal_approx(f)); break;
    case 48: d = bits_of_f32(rsqrt_approx(f)); break;
    case 49: d = bits_of_f32(tanh_approx(f)); break;
  }
  store_global(y + i, d);
}
