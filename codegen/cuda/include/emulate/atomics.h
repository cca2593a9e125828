// device/atomics.cuh on the host. Every atomic access lets other threads run first.
#pragma once

namespace tilec {

// What was at p, whose T is the bits of a Word, before a change.
template <class Word, class T>
TILEC_DEVICE T changed(emulated::Change change, T* p, T value, T expected, Order order,
                       emulated::Site site) {
  union { T number; Word bits; } to = {value}, was = {expected}, old;
  old.bits = (Word)emulated::atomic(change, p, to.bits, was.bits, sizeof(Word), order, site);
  return old.number;
}

#define TILEC_ATOM(name, change, T, Word) \
  template <Order order = Order::relaxed> \
  TILEC_DEVICE T name(T* p, T value, Site site = Site::here()) { \
    return changed<Word>(emulated::Change::change, p, value, T(), order, site); \
  }
#define TILEC_SWAP(T) \
  template <Order order = Order::relaxed> \
  TILEC_DEVICE T atomic_compare_exchange(T* p, T expected, T value, Site site = Site::here()) { \
    return changed<T>(emulated::Change::compare_exchange, p, value, expected, order, site); \
  }
#define TILEC_RED(change, T, Word) \
  template <Order order = Order::relaxed> \
  TILEC_DEVICE void reduce_add(T* p, T value, Site site = Site::here()) { \
    static_assert(order == Order::relaxed || order == Order::release, "red: relaxed or release"); \
    changed<Word>(emulated::Change::change, p, value, T(), order, site); \
  }
TILEC_ATOM(atomic_add, add_u32, u32, u32)
TILEC_ATOM(atomic_add, add_u32, s32, u32)
TILEC_ATOM(atomic_add, add_f32, f32, u32)
TILEC_ATOM(atomic_exchange, exchange, u32, u32)
TILEC_SWAP(u32)
TILEC_SWAP(u16)
TILEC_RED(add_u32, u32, u32)
TILEC_RED(add_u32, s32, u32)
TILEC_RED(add_f32, f32, u32)
TILEC_RED(add_u64, u64, u64)
TILEC_RED(add_f64, double, u64)
TILEC_RED(add_f16, f16, u16)
TILEC_RED(add_bf16, bf16, u16)
#undef TILEC_ATOM
#undef TILEC_SWAP
#undef TILEC_RED

TILEC_DEVICE void reduce_add_f16x2(u32* p, u32 value, Site site = Site::here()) {
  emulated::atomic(emulated::Change::add_f16x2, p, value, 0, 4, Order::relaxed, site);
}

TILEC_DEVICE u32 load_acquire(const u32* p, Site site = Site::here()) {
  return emulated::load_acquire(p, site);
}
TILEC_DEVICE void store_release(u32* p, u32 value, Site site = Site::here()) {
  emulated::store_release(p, value, site);
}
TILEC_DEVICE void wait_until(const u32* p, u32 value, Site site = Site::here()) {
  while (emulated::load_acquire(p, site) != value) emulated::pause(site);
}

TILEC_DEVICE void fence_block(Site site = Site::here()) { emulated::fence(false, site); }
TILEC_DEVICE void fence_device(Site site = Site::here()) { emulated::fence(true, site); }

}  // namespace tilec
