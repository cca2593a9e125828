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

#define TILEC_RED(order, T, reg) \
  template <> __device__ __forceinline__ void reduce_add<Order::order>(T* p, T value) { \
    asm volatile("red." #order ".gpu.global.add." #T " [%0], %1;" \
                 ::"l"(p), reg(value) : "memory"); \
  }
TILEC_RED(relaxed, u32, "r")
TILEC_RED(relaxed, s32, "r")
TILEC_RED(relaxed, f32, "f")
TILEC_RED(release, u32, "r")
TILEC_RED(release, s32, "r")
TILEC_RED(release, f32, "f")
#undef TILEC_RED

// Two f16 at once: red.global.add.noftz.f16x2.
TILEC_DEVICE void reduce_add_f16x2(u32* p, u32 value) {
  asm volatile("red.relaxed.gpu.global.add.noftz.f16x2 [%0], %1;" ::"l"(p), "r"(value) : "memory");
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
