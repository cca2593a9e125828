// device/memory.cuh on the host. Loads from outside every buffer give bytes 0xff.
#pragma once

namespace tilec {

template <Cache cache = Cache::normal, class T>
TILEC_DEVICE T load_global(const T* p, Site site = Site::here()) {
  T value;
  emulated::load_global(&value, p, sizeof(T), site);
  return value;
}

template <Cache cache = Cache::normal, class T>
TILEC_DEVICE void store_global(T* p, T value, Site site = Site::here()) {
  static_assert(cache != Cache::read_only, "no store is read-only");
  emulated::store_global(p, &value, sizeof(T), site);
}

// Not 0, so that an address that was never computed is outside.
TILEC_DEVICE u32 shared_base() { return 1024; }

template <class T> TILEC_DEVICE T load_shared(u32 address, Site site = Site::here()) {
  T value;
  emulated::load_shared(&value, address, sizeof(T), site);
  return value;
}

template <class T> TILEC_DEVICE void store_shared(u32 address, T value, Site site = Site::here()) {
  emulated::store_shared(address, &value, sizeof(T), site);
}

}  // namespace tilec
