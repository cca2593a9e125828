// device/atomics.cuh on the host. Every atomic access lets other threads run first.
#pragma once

namespace tilec {

template <Order order = Order::relaxed>
TILEC_DEVICE u32 atomic_add(u32* p, u32 value, Site site = Site::here()) {
  return emulated::atomic(emulated::Change::add_u32, p, value, 0, order, site);
}
template <Order order = Order::relaxed>
TILEC_DEVICE s32 atomic_add(s32* p, s32 value, Site site = Site::here()) {
  return (s32)emulated::atomic(emulated::Change::add_u32, p, (u32)value, 0, order, site);
}
template <Order order = Order::relaxed>
TILEC_DEVICE f32 atomic_add(f32* p, f32 value, Site site = Site::here()) {
  return f32_of_bits(
      emulated::atomic(emulated::Change::add_f32, p, bits_of_f32(value), 0, order, site));
}
template <Order order = Order::relaxed>
TILEC_DEVICE u32 atomic_exchange(u32* p, u32 value, Site site = Site::here()) {
  return emulated::atomic(emulated::Change::exchange, p, value, 0, order, site);
}
template <Order order = Order::relaxed>
TILEC_DEVICE u32 atomic_compare_exchange(u32* p, u32 expected, u32 value,
                                         Site site = Site::here()) {
  return emulated::atomic(emulated::Change::compare_exchange, p, value, expected, order, site);
}

template <Order order = Order::relaxed, class T>
TILEC_DEVICE void reduce_add(T* p, T value, Site site = Site::here()) {
  static_assert(order == Order::relaxed || order == Order::release, "red: relaxed or release");
  atomic_add<order>(p, value, site);
}
TILEC_DEVICE void reduce_add_f16x2(u32* p, u32 value, Site site = Site::here()) {
  emulated::atomic(emulated::Change::add_f16x2, p, value, 0, Order::relaxed, site);
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
