// Loads and stores of 1, 2, 4, 8 or 16 bytes: the size is that of the type that is moved. Global
// memory is named by pointers, shared memory by 32-bit addresses from shared_base().
#pragma once

// Loads of every size under one PTX prefix. An address is a `pointer`, of asm class `reg`.
#define TILEC_LOADS(group, pointer, reg, how, clobber, ptx) \
  template <> struct group { \
    static __device__ __forceinline__ void get(u8& d, pointer p) { \
      u32 w; how(ptx ".u8 %0, [%1];" : "=r"(w) : reg(p) clobber); d = (u8)w; } \
    static __device__ __forceinline__ void get(u16& d, pointer p) { \
      how(ptx ".u16 %0, [%1];" : "=h"(d) : reg(p) clobber); } \
    static __device__ __forceinline__ void get(u32& d, pointer p) { \
      how(ptx ".u32 %0, [%1];" : "=r"(d) : reg(p) clobber); } \
    static __device__ __forceinline__ void get(u32x2& d, pointer p) { \
      how(ptx ".v2.u32 {%0, %1}, [%2];" : "=r"(d.x), "=r"(d.y) : reg(p) clobber); } \
    static __device__ __forceinline__ void get(u32x4& d, pointer p) { \
      how(ptx ".v4.u32 {%0, %1, %2, %3}, [%4];" \
          : "=r"(d.x), "=r"(d.y), "=r"(d.z), "=r"(d.w) : reg(p) clobber); } \
  };
// Stores of every size, likewise.
#define TILEC_STORES(group, pointer, reg, ptx) \
  template <> struct group { \
    static __device__ __forceinline__ void put(pointer p, u8 v) { \
      asm volatile(ptx ".u8 [%0], %1;" ::reg(p), "r"((u32)v) : "memory"); } \
    static __device__ __forceinline__ void put(pointer p, u16 v) { \
      asm volatile(ptx ".u16 [%0], %1;" ::reg(p), "h"(v) : "memory"); } \
    static __device__ __forceinline__ void put(pointer p, u32 v) { \
      asm volatile(ptx ".u32 [%0], %1;" ::reg(p), "r"(v) : "memory"); } \
    static __device__ __forceinline__ void put(pointer p, u32x2 v) { \
      asm volatile(ptx ".v2.u32 [%0], {%1, %2};" ::reg(p), "r"(v.x), "r"(v.y) : "memory"); } \
    static __device__ __forceinline__ void put(pointer p, u32x4 v) { \
      asm volatile(ptx ".v4.u32 [%0], {%1, %2, %3, %4};" \
                   ::reg(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory"); } \
  };
#define TILEC_CLOBBER : "memory"
#define TILEC_NOTHING

namespace tilec {
namespace device {

template <u32 bytes> struct Raw;
template <> struct Raw<1> { using type = u8; };
template <> struct Raw<2> { using type = u16; };
template <> struct Raw<4> { using type = u32; };
template <> struct Raw<8> { using type = u32x2; };
template <> struct Raw<16> { using type = u32x4; };

// The same bits as another type.
template <class To, class From> TILEC_DEVICE To as(From from) {
  union { From from; To to; } bits = {from};
  return bits.to;
}

template <Cache cache> struct Global;
template <Cache cache> struct GlobalStore;
template <class T> struct Shared;
template <class T> struct SharedStore;

// No one writes what .nc reads, so its statements may be moved and merged.
TILEC_LOADS(Global<Cache::normal>, const void*, "l", asm volatile, TILEC_CLOBBER, "ld.global")
TILEC_LOADS(Global<Cache::read_only>, const void*, "l", asm, TILEC_NOTHING, "ld.global.nc")
TILEC_LOADS(Global<Cache::no_allocate>, const void*, "l", asm, TILEC_NOTHING,
            "ld.global.nc.L1::no_allocate")
TILEC_LOADS(Global<Cache::evict_first>, const void*, "l", asm volatile, TILEC_CLOBBER,
            "ld.global.L1::evict_first")
TILEC_LOADS(Global<Cache::evict_last>, const void*, "l", asm volatile, TILEC_CLOBBER,
            "ld.global.L1::evict_last")
TILEC_LOADS(Shared<u32>, u32, "r", asm volatile, TILEC_CLOBBER, "ld.shared")
TILEC_STORES(GlobalStore<Cache::normal>, void*, "l", "st.global")
TILEC_STORES(GlobalStore<Cache::no_allocate>, void*, "l", "st.global.L1::no_allocate")
TILEC_STORES(GlobalStore<Cache::evict_first>, void*, "l", "st.global.L1::evict_first")
TILEC_STORES(GlobalStore<Cache::evict_last>, void*, "l", "st.global.L1::evict_last")
TILEC_STORES(SharedStore<u32>, u32, "r", "st.shared")

}  // namespace device

// The value at p: ld.global, with .nc or .L1::<hint> by `cache`.
template <Cache cache = Cache::normal, class T> TILEC_DEVICE T load_global(const T* p) {
  typename device::Raw<sizeof(T)>::type raw;
  device::Global<cache>::get(raw, p);
  return device::as<T>(raw);
}

// *p = value: st.global, with .L1::<hint> by `cache`.
template <Cache cache = Cache::normal, class T> TILEC_DEVICE void store_global(T* p, T value) {
  device::GlobalStore<cache>::put(p, device::as<typename device::Raw<sizeof(T)>::type>(value));
}

// The shared address of the block's dynamic shared memory, a multiple of 1024.
TILEC_DEVICE u32 shared_base() {
  extern __shared__ __align__(1024) unsigned char tilec_shared[];
  return (u32)__cvta_generic_to_shared(tilec_shared);
}

// The value at a shared address: ld.shared.
template <class T> TILEC_DEVICE T load_shared(u32 address) {
  typename device::Raw<sizeof(T)>::type raw;
  device::Shared<u32>::get(raw, address);
  return device::as<T>(raw);
}

// Put a value at a shared address: st.shared.
template <class T> TILEC_DEVICE void store_shared(u32 address, T value) {
  device::SharedStore<u32>::put(address, device::as<typename device::Raw<sizeof(T)>::type>(value));
}

}  // namespace tilec

#undef TILEC_LOADS
#undef TILEC_STORES
#undef TILEC_CLOBBER
#undef TILEC_NOTHING
