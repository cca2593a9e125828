// Matrix units. Fragments (PTX ISA, matrix fragments for mma): with g = lane / 4, t = lane % 4 and
// e elements in a register, register i of A holds row g + 8 (i & 1) and, from t e + 4 e (i >> 1)
// on, e columns; register i of B column g and the rows from t e + 4 e i; register i of the
// accumulator row g + 8 (i >> 1) and column 2 t + (i & 1).
#pragma once

namespace tilec {

// 8x8 matrices of 16-bit elements, one register each: lane 8 j + r gives the shared address of
// row r of matrix j; register j gets row g, columns 2 t and 2 t + 1 of it, or the transposed:
// ldmatrix.x1, .x2, .x4, .trans.
#define TILEC_LDMATRIX(name, trans) \
  TILEC_DEVICE void name(u32 (&d)[1], u32 address) { \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1" trans ".shared.b16 {%0}, [%1];" \
                 : "=r"(d[0]) : "r"(address) : "memory"); \
  } \
  TILEC_DEVICE void name(u32 (&d)[2], u32 address) { \
    asm volatile("ldmatrix.sync.aligned.m8n8.x2" trans ".shared.b16 {%0, %1}, [%2];" \
                 : "=r"(d[0]), "=r"(d[1]) : "r"(address) : "memory"); \
  } \
  TILEC_DEVICE void name(u32 (&d)[4], u32 address) { \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 {%0, %1, %2, %3}, [%4];" \
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(address) : "memory"); \
  }
TILEC_LDMATRIX(ldmatrix, "")
TILEC_LDMATRIX(ldmatrix_trans, ".trans")
#undef TILEC_LDMATRIX

#if TILEC_SINCE(900)
// The other way, from registers to shared memory: stmatrix.
#define TILEC_STMATRIX(name, trans) \
  TILEC_DEVICE void name(u32 address, const u32 (&a)[1]) { \
    asm volatile("stmatrix.sync.aligned.m8n8.x1" trans ".shared.b16 [%0], {%1};" \
                 ::"r"(address), "r"(a[0]) : "memory"); \
  } \
  TILEC_DEVICE void name(u32 address, const u32 (&a)[2]) { \
    asm volatile("stmatrix.sync.aligned.m8n8.x2" trans ".shared.b16 [%0], {%1, %2};" \
                 ::"r"(address), "r"(a[0]), "r"(a[1]) : "memory"); \
  } \
  TILEC_DEVICE void name(u32 address, const u32 (&a)[4]) { \
    asm volatile("stmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 [%0], {%1, %2, %3, %4};" \
                 ::"r"(address), "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]) : "memory"); \
  }
TILEC_STMATRIX(stmatrix, "")
TILEC_STMATRIX(stmatrix_trans, ".trans")
#undef TILEC_STMATRIX
#endif

// d += a b for a 16 x k and b k x 8, by the warp: mma.sync.m16n8k<k>.row.col. Accumulators are
// four f32 or s32, or four f16 in two registers.
template <u32 k, class A, class B> TILEC_DEVICE void
mma(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]);
template <u32 k, class A, class B> TILEC_DEVICE void
mma(f32 (&d)[4], const u32 (&a)[2], const u32 (&b)[1]);
template <u32 k, class A, class B> TILEC_DEVICE void
mma(s32 (&d)[4], const u32 (&a)[4], const u32 (&b)[2]);
template <u32 k, class A, class B> TILEC_DEVICE void
mma(s32 (&d)[4], const u32 (&a)[2], const u32 (&b)[1]);
template <u32 k, class A, class B> TILEC_DEVICE void
mma(u32 (&d)[2], const u32 (&a)[4], const u32 (&b)[2]);
template <u32 k, class A, class B> TILEC_DEVICE void
mma(u32 (&d)[2], const u32 (&a)[2], const u32 (&b)[1]);

#define TILEC_MMA_NAME(K, A, B, D, tail) \
  "mma.sync.aligned.m16n8k" #K ".row.col." #D "." #A "." #B "." #D tail
#define TILEC_MMA_LONG(K, A, B, D, reg, tail) \
  template <> __device__ __forceinline__ void \
  mma<K, A, B>(D (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) { \
    asm volatile(TILEC_MMA_NAME(K, A, B, D, tail) \
                 " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+" reg(d[0]), "+" reg(d[1]), "+" reg(d[2]), "+" reg(d[3]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); \
  }
#define TILEC_MMA_SHORT(K, A, B, D, reg, tail) \
  template <> __device__ __forceinline__ void \
  mma<K, A, B>(D (&d)[4], const u32 (&a)[2], const u32 (&b)[1]) { \
    asm volatile(TILEC_MMA_NAME(K, A, B, D, tail) \
                 " {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};" \
                 : "+" reg(d[0]), "+" reg(d[1]), "+" reg(d[2]), "+" reg(d[3]) \
                 : "r"(a[0]), "r"(a[1]), "r"(b[0])); \
  }
#define TILEC_MMA(LONG, SHORT, A, B, D, reg, tail) \
  TILEC_MMA_LONG(LONG, A, B, D, reg, tail) \
  TILEC_MMA_SHORT(SHORT, A, B, D, reg, tail)
TILEC_MMA(16, 8, f16, f16, f32, "f", "")
TILEC_MMA(16, 8, bf16, bf16, f32, "f", "")
TILEC_MMA(8, 4, tf32, tf32, f32, "f", "")
TILEC_MMA(32, 16, s8, s8, s32, "r", "")
TILEC_MMA(32, 16, s8, u8, s32, "r", "")
TILEC_MMA(32, 16, u8, s8, s32, "r", "")
TILEC_MMA(32, 16, u8, u8, s32, "r", "")
TILEC_MMA(64, 32, s4, s4, s32, "r", "")
TILEC_MMA(64, 32, s4, u4, s32, "r", "")
TILEC_MMA(64, 32, u4, s4, s32, "r", "")
TILEC_MMA(64, 32, u4, u4, s32, "r", "")
TILEC_MMA(256, 128, b1, b1, s32, "r", ".and.popc")
#if TILEC_SINCE(890)
TILEC_MMA_LONG(32, e4m3, e4m3, f32, "f", "")
TILEC_MMA_LONG(32, e4m3, e5m2, f32, "f", "")
TILEC_MMA_LONG(32, e5m2, e4m3, f32, "f", "")
TILEC_MMA_LONG(32, e5m2, e5m2, f32, "f", "")
#endif

template <> __device__ __forceinline__ void
mma<16, f16, f16>(u32 (&d)[2], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(TILEC_MMA_NAME(16, f16, f16, f16, "")
               " {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
               : "+r"(d[0]), "+r"(d[1])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <> __device__ __forceinline__ void
mma<8, f16, f16>(u32 (&d)[2], const u32 (&a)[2], const u32 (&b)[1]) {
  asm volatile(TILEC_MMA_NAME(8, f16, f16, f16, "") " {%0, %1}, {%2, %3}, {%4}, {%0, %1};"
               : "+r"(d[0]), "+r"(d[1]) : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

// d += a b with half of each four of a's columns stored, which `metadata` names by two ascending
// 2-bit indices: mma.sp::ordered_metadata. `selector` says which lanes hold the metadata: of 16-bit
// elements lanes 4 g + 2 selector and the next one, of 8-bit elements all (selector 0).
template <u32 k, class A, class B, u32 selector = 0> TILEC_DEVICE void
mma_sp(f32 (&d)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata);
template <u32 k, class A, class B, u32 selector = 0> TILEC_DEVICE void
mma_sp(s32 (&d)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata);

#define TILEC_MMA_SP(K, A, B, D, reg, selector) \
  template <> __device__ __forceinline__ void mma_sp<K, A, B, selector>( \
      D (&d)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata) { \
    asm volatile("mma.sp::ordered_metadata.sync.aligned.m16n8k" #K ".row.col." #D "." #A "." #B \
                 "." #D " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}," \
                 " {%0, %1, %2, %3}, %12, " #selector ";" \
                 : "+" reg(d[0]), "+" reg(d[1]), "+" reg(d[2]), "+" reg(d[3]) \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(b[2]), \
                   "r"(b[3]), "r"(metadata)); \
  }
TILEC_MMA_SP(32, f16, f16, f32, "f", 0)
TILEC_MMA_SP(32, f16, f16, f32, "f", 1)
TILEC_MMA_SP(32, bf16, bf16, f32, "f", 0)
TILEC_MMA_SP(32, bf16, bf16, f32, "f", 1)
TILEC_MMA_SP(64, s8, s8, s32, "r", 0)
TILEC_MMA_SP(64, s8, u8, s32, "r", 0)
TILEC_MMA_SP(64, u8, s8, s32, "r", 0)
TILEC_MMA_SP(64, u8, u8, s32, "r", 0)
#undef TILEC_MMA_NAME
#undef TILEC_MMA_LONG
#undef TILEC_MMA_SHORT
#undef TILEC_MMA
#undef TILEC_MMA_SP

#if TILEC_HOPPER
// d = a b, plus d if `accumulate`, for a 64 x k and b k x n, by the warpgroup and asynchronously:
// wgmma.mma_async.m64n<n>k.. . a is a descriptor or, as above with 16 rows a warp, registers; b is
// a descriptor; k is 32 bytes of elements. a_mn, b_mn: the operand is MN-major (16-bit elements
// only). Only declared here: the shapes that a kernel uses are printed with it, each one asm
// statement.
template <u32 n, class A, class B, bool a_mn = false, bool b_mn = false, class D, u32 registers>
TILEC_DEVICE void wgmma(D (&d)[registers], u64 a, u64 b, bool accumulate);
template <u32 n, class A, class B, bool b_mn = false, class D, u32 registers>
TILEC_DEVICE void wgmma(D (&d)[registers], const u32 (&a)[4], u64 b, bool accumulate);

// The same with half of each four of a's columns stored, and k 64 bytes of b's elements; metadata as
// in mma_sp for each warp's rows: wgmma.mma_async.sp. An a in shared memory is K-major.
template <u32 n, class A, class B, u32 selector, bool b_mn = false, class D, u32 registers>
TILEC_DEVICE void wgmma_sp(D (&d)[registers], u64 a, u64 b, u32 metadata, bool accumulate);
template <u32 n, class A, class B, u32 selector, bool b_mn = false, class D, u32 registers>
TILEC_DEVICE void wgmma_sp(D (&d)[registers], const u32 (&a)[4], u64 b, u32 metadata,
                           bool accumulate);

// Before the first wgmma, and between other accesses to its registers and it: wgmma.fence.
TILEC_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Close the warpgroup's group of wgmma: wgmma.commit_group.
TILEC_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Wait until at most `pending` groups are under way: wgmma.wait_group.
template <u32 pending> TILEC_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// Keep the compiler from moving other accesses to registers across this point.
template <u32 registers> TILEC_DEVICE void wgmma_keep(f32 (&d)[registers]) {
#pragma unroll
  for (u32 i = 0; i < registers; i++) asm volatile("" : "+f"(d[i])::"memory");
}
template <u32 registers> TILEC_DEVICE void wgmma_keep(u32 (&d)[registers]) {
#pragma unroll
  for (u32 i = 0; i < registers; i++) asm volatile("" : "+r"(d[i])::"memory");
}
template <u32 registers> TILEC_DEVICE void wgmma_keep(s32 (&d)[registers]) {
#pragma unroll
  for (u32 i = 0; i < registers; i++) asm volatile("" : "+r"(d[i])::"memory");
}
#endif

}  // namespace tilec
