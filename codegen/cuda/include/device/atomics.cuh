// Atomic accesses to global memory, at the scope of the device, and the fences that go with them.
#pragma once

namespace tilec {

// *p += value, *p = value, or *p = value where it was `expected`; gives what was there before:
// atom.global.add, .exch, .cas, ordered as the template argument says.
template <Order order = Order::relaxed> TILEC_DEVICE u32 atomic_add(u32* p, u32 value);
template <Order order = Order::relaxed> TILEC_DEVICE s32 atomic_add(s32* p, s32 value);
template <Order order = Order::relaxed> TILEC_DEVICE f32 atomic_add(f32* p, f32 value);
template <Order order = Order::relaxed> TILEC_DEVICE u32 atomic_exchange(u32* p, u32 value);
template <Order order = Order::relaxed>
TILEC_DEVICE u32 atomic_compare_exchange(u32* p, u32 expected, u32 value);
template <Order order = Order::relaxed>
TILEC_DEVICE u16 atomic_compare_exchange(u16* p, u16 expected, u16 value);

#define TILEC_ATOM(order, name, T, reg, ptx) \
  template <> __device__ __forceinline__ T name<Order::order>(T* p, T value) { \
    T d; \
    asm volatile("atom." #order ".gpu.global." ptx " %0, [%1], %2;" \
                 : "=" reg(d) : "l"(p), reg(value) : "memory"); \
    return d; \
  }
#define TILEC_ATOMS(order) \
  TILEC_ATOM(order, atomic_add, u32, "r", "add.u32") \
  TILEC_ATOM(order, atomic_add, s32, "r", "add.s32") \
  TILEC_ATOM(order, atomic_add, f32, "f", "add.f32") \
  TILEC_ATOM(order, atomic_exchange, u32, "r", "exch.b32") \
  template <> __device__ __forceinline__ u32 \
  atomic_compare_exchange<Order::order>(u32* p, u32 expected, u32 value) { \
    u32 d; \
    asm volatile("atom." #order ".gpu.global.cas.b32 %0, [%1], %2, %3;" \
                 : "=r"(d) : "l"(p), "r"(expected), "r"(value) : "memory"); \
    return d; \
  } \
  template <> __device__ __forceinline__ u16 \
  atomic_compare_exchange<Order::order>(u16* p, u16 expected, u16 value) { \
    u16 d; \
    asm volatile("atom." #order ".gpu.global.cas.b16 %0, [%1], %2, %3;" \
                 : "=h"(d) : "l"(p), "h"(expected), "h"(value) : "memory"); \
    return d; \
  }
TILEC_ATOMS(relaxed)
TILEC_ATOMS(acquire)
TILEC_ATOMS(release)
TILEC_ATOMS(acq_rel)
#undef TILEC_ATOM
#undef TILEC_ATOMS

// *p += value, where no one needs what was there: red.global.add.
template <Order order = Order::relaxed> TILEC_DEVICE void reduce_add(u32* p, u32 value);
template <Order order = Order::relaxed> TILEC_DEVICE void reduce_add(s32* p, s32 value);
template <Order order = Order::relaxed> TILEC_DEVICE void reduce_add(f32* p, f32 value);
template <Order order = Order::relaxed> TILEC_DEVICE void reduce_add(u64* p, u64 value);
template <Order order = Order::relaxed> TILEC_DEVICE void reduce_add(double* p, double value);

#define TILEC_RED(order, T, reg, ptx) \
  template <> __device__ __forceinline__ void reduce_add<Order::order>(T* p, T value) { \
    asm volatile("red." #order ".gpu.global.add." ptx " [%0], %1;" \
                 ::"l"(p), reg(value) : "memory"); \
  }
#define TILEC_REDS(order) \
  TILEC_RED(order, u32, "r", "u32") \
  TILEC_RED(order, s32, "r", "s32") \
  TILEC_RED(order, f32, "f", "f32") \
  TILEC_RED(order, u64, "l", "u64") \
  TILEC_RED(order, double, "d", "f64")
TILEC_REDS(relaxed)
TILEC_REDS(release)
#undef TILEC_REDS
#undef TILEC_RED

// Two f16 at once: red.global.add.noftz.f16x2.
TILEC_DEVICE void reduce_add_f16x2(u32* p, u32 value) {
  asm volatile("red.relaxed.gpu.global.add.noftz.f16x2 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}

// One f16, and one bf16: red.global.add.noftz.f16 and, from sm_90 on, .bf16.
TILEC_DEVICE void reduce_add(f16* p, f16 value) {
  asm volatile("red.relaxed.gpu.global.add.noftz.f16 [%0], %1;"
               ::"l"(p), "h"(value.bits) : "memory");
}
TILEC_DEVICE void reduce_add(bf16* p, bf16 value) {
#if TILEC_SINCE(900)
  asm volatile("red.relaxed.gpu.global.add.noftz.bf16 [%0], %1;"
               ::"l"(p), "h"(value.bits) : "memory");
#else
  u16 seen = 0, old;  // a guess: the first exchange says what there is
  do {
    old = seen;
    const u16 sum = bf16_from_f32(f32_from_bf16({old}) + f32_from_bf16(value)).bits;
    seen = atomic_compare_exchange((u16*)p, old, sum);
  } while (seen != old);
#endif
}

// *p, and all that was released before it was written: ld.acquire.
TILEC_DEVICE u32 load_acquire(const u32* p) {
  u32 d;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(d) : "l"(p) : "memory");
  return d;
}

// *p = value, after all that this thread wrote or saw: st.release.
TILEC_DEVICE void store_release(u32* p, u32 value) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(value) : "memory");
}

// Wait until *p is `value`, as load_acquire: ld.acquire and nanosleep in a loop.
TILEC_DEVICE void wait_until(const u32* p, u32 value) {
  while (load_acquire(p) != value) pause(20);
}

// Order this thread's accesses before the fence against those after it, as the block sees them,
// or as the device does: fence.acq_rel.
TILEC_DEVICE void fence_block() { asm volatile("fence.acq_rel.cta;" ::: "memory"); }
TILEC_DEVICE void fence_device() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

}  // namespace tilec
