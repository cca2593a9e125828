// device/asynchronous.cuh on the host. A copy lands at the last moment that the rules allow: when
// it is waited for, or when the phase of the barrier that it arrives at ends.
#pragma once

namespace tilec {

TILEC_DEVICE u64 policy_evict_first() { return 1; }
TILEC_DEVICE u64 policy_evict_last() { return 2; }

template <u32 bytes>
TILEC_DEVICE void copy_async(u32 to, const void* from, bool keep = true,
                             Site site = Site::here()) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async moves 4, 8 or 16 bytes");
  emulated::copy_async(to, from, bytes, keep, site);
}
template <u32 bytes>
TILEC_DEVICE void copy_async(u32 to, const void* from, bool keep, u64,
                             Site site = Site::here()) {
  static_assert(bytes == 16, "a policy goes with 16 bytes");
  emulated::copy_async(to, from, bytes, keep, site);
}
TILEC_DEVICE void copy_async_commit(Site site = Site::here()) {
  emulated::copy_async_commit(site);
}
template <u32 pending> TILEC_DEVICE void copy_async_wait(Site site = Site::here()) {
  emulated::copy_async_wait(pending, site);
}

TILEC_DEVICE void mbarrier_init(u32 at, u32 count, Site site = Site::here()) {
  emulated::mbarrier_init(at, count, site);
}
TILEC_DEVICE void fence_mbarrier_init(Site site = Site::here()) {
  emulated::fence_mbarrier_init(site);
}
TILEC_DEVICE void mbarrier_arrive(u32 at, Site site = Site::here()) {
  emulated::mbarrier_arrive(at, site);
}
TILEC_DEVICE void mbarrier_arrive_expect(u32 at, u32 bytes, Site site = Site::here()) {
  emulated::mbarrier_expect(at, bytes, site);
  emulated::mbarrier_arrive(at, site);
}
TILEC_DEVICE void mbarrier_expect(u32 at, u32 bytes, Site site = Site::here()) {
  emulated::mbarrier_expect(at, bytes, site);
}
TILEC_DEVICE void mbarrier_arrive_copies(u32 at, Site site = Site::here()) {
  emulated::mbarrier_arrive_copies(at, site);
}
TILEC_DEVICE bool mbarrier_try(u32 at, u32 parity, Site site = Site::here()) {
  return emulated::mbarrier_try(at, parity, false, site);
}
TILEC_DEVICE void mbarrier_wait(u32 at, u32 parity, Site site = Site::here()) {
  emulated::mbarrier_try(at, parity, true, site);
}

}  // namespace tilec
