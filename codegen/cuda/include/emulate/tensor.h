// device/tensor.cuh on the host. Products are exact, sums are in double and rounded once to the
// accumulator's type. The registers of a wgmma are NaN until it is waited for.
#pragma once

namespace tilec {
namespace emulated {

template <class T> struct ElementOf;
template <class T> struct SumOf;
#define TILEC_NAMES(T) \
  template <> struct ElementOf<T> { static constexpr Element value = Element::T; };
TILEC_NAMES(f16)
TILEC_NAMES(bf16)
TILEC_NAMES(tf32)
TILEC_NAMES(e4m3)
TILEC_NAMES(e5m2)
TILEC_NAMES(s8)
TILEC_NAMES(u8)
TILEC_NAMES(s4)
TILEC_NAMES(u4)
TILEC_NAMES(b1)
#undef TILEC_NAMES
template <> struct SumOf<f32> { static constexpr Sum value = Sum::f32; };
template <> struct SumOf<s32> { static constexpr Sum value = Sum::s32; };
template <> struct SumOf<u32> { static constexpr Sum value = Sum::f16; };

constexpr u32 bits_of(Element element) {
  constexpr u32 bits[] = {16, 16, 32, 8, 8, 8, 8, 4, 4, 1};
  return bits[(u32)element];
}

template <class A, class B, class D>
constexpr Product product(u32 k, u32 a_registers, u32 b_registers, bool sparse, u32 selector) {
  return {ElementOf<A>::value, ElementOf<B>::value, SumOf<D>::value, k,
          a_registers, b_registers, sparse, selector};
}

// Whether the registers hold 16 x k, or half of that, and k x 8 elements.
constexpr bool fits(const Product& p) {
  u32 bits = p.k * bits_of(p.a);
  return bits == (p.sparse ? 128 : 64) * p.a_registers && bits == 128 * p.b_registers;
}

template <class A, class B, class D>
constexpr WarpgroupProduct warpgroup_product(u32 n, u32 registers, bool a_mn, bool b_mn,
                                             bool accumulate, bool sparse = false,
                                             u32 selector = 0) {
  return {ElementOf<A>::value, ElementOf<B>::value, SumOf<D>::value, n, registers,
          a_mn, b_mn, accumulate, sparse, selector};
}
template <class D> constexpr bool fits(u32 n, u32 registers) {
  bool known = n % 8 == 0 && n <= 256 && (SumOf<D>::value != Sum::s32 || n <= 32 || n % 16 == 0);
  return known && registers == (SumOf<D>::value == Sum::f16 ? n / 4 : n / 2);
}

}  // namespace emulated

template <u32 count>
TILEC_DEVICE void ldmatrix(u32 (&d)[count], u32 address, Site site = Site::here()) {
  emulated::load_matrix(d, count, false, address, site);
}
template <u32 count>
TILEC_DEVICE void ldmatrix_trans(u32 (&d)[count], u32 address, Site site = Site::here()) {
  emulated::load_matrix(d, count, true, address, site);
}
template <u32 count>
TILEC_DEVICE void stmatrix(u32 address, const u32 (&a)[count], Site site = Site::here()) {
  emulated::store_matrix(address, a, count, false, site);
}
template <u32 count>
TILEC_DEVICE void stmatrix_trans(u32 address, const u32 (&a)[count], Site site = Site::here()) {
  emulated::store_matrix(address, a, count, true, site);
}

template <u32 k, class A, class B, class D, u32 d_registers, u32 a_registers, u32 b_registers>
TILEC_DEVICE void mma(D (&d)[d_registers], const u32 (&a)[a_registers],
                      const u32 (&b)[b_registers], Site site = Site::here()) {
  constexpr auto shape = emulated::product<A, B, D>(k, a_registers, b_registers, false, 0);
  static_assert(emulated::fits(shape), "mma: the registers are not those of this shape");
  emulated::mma(shape, d, a, b, 0, site);
}

template <u32 k, class A, class B, u32 selector = 0, class D>
TILEC_DEVICE void mma_sp(D (&d)[4], const u32 (&a)[4], const u32 (&b)[4], u32 metadata,
                         Site site = Site::here()) {
  constexpr auto shape = emulated::product<A, B, D>(k, 4, 4, true, selector);
  static_assert(emulated::fits(shape), "mma_sp: the registers are not those of this shape");
  emulated::mma(shape, d, a, b, metadata, site);
}

template <u32 n, class A, class B, bool a_mn = false, bool b_mn = false, class D, u32 registers>
TILEC_DEVICE void wgmma(D (&d)[registers], u64 a, u64 b, bool accumulate,
                        Site site = Site::here()) {
  static_assert(emulated::fits<D>(n, registers), "wgmma: n columns need other registers");
  emulated::wgmma(emulated::warpgroup_product<A, B, D>(n, registers, a_mn, b_mn, accumulate), d,
                  nullptr, a, b, 0, site);
}
template <u32 n, class A, class B, bool b_mn = false, class D, u32 registers>
TILEC_DEVICE void wgmma(D (&d)[registers], const u32 (&a)[4], u64 b, bool accumulate,
                        Site site = Site::here()) {
  static_assert(emulated::fits<D>(n, registers), "wgmma: n columns need other registers");
  emulated::wgmma(emulated::warpgroup_product<A, B, D>(n, registers, false, b_mn, accumulate), d,
                  a, 0, b, 0, site);
}
template <u32 n, class A, class B, u32 selector, bool b_mn = false, class D, u32 registers>
TILEC_DEVICE void wgmma_sp(D (&d)[registers], u64 a, u64 b, u32 metadata, bool accumulate,
                           Site site = Site::here()) {
  static_assert(emulated::fits<D>(n, registers), "wgmma_sp: n columns need other registers");
  emulated::wgmma(emulated::warpgroup_product<A, B, D>(n, registers, false, b_mn, accumulate, true,
                                                       selector), d, nullptr, a, b, metadata, site);
}
template <u32 n, class A, class B, u32 selector, bool b_mn = false, class D, u32 registers>
TILEC_DEVICE void wgmma_sp(D (&d)[registers], const u32 (&a)[4], u64 b, u32 metadata,
                           bool accumulate, Site site = Site::here()) {
  static_assert(emulated::fits<D>(n, registers), "wgmma_sp: n columns need other registers");
  emulated::wgmma(emulated::warpgroup_product<A, B, D>(n, registers, false, b_mn, accumulate, true,
                                                       selector), d, a, 0, b, metadata, site);
}
TILEC_DEVICE void wgmma_fence(Site site = Site::here()) { emulated::wgmma_fence(site); }
TILEC_DEVICE void wgmma_commit(Site site = Site::here()) { emulated::wgmma_commit(site); }
template <u32 pending> TILEC_DEVICE void wgmma_wait(Site site = Site::here()) {
  emulated::wgmma_wait(pending, site);
}
template <class D, u32 registers> TILEC_DEVICE void wgmma_keep(D (&)[registers]) {}

}  // namespace tilec
