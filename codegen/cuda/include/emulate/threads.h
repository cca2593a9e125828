// device/threads.cuh on the host.
#pragma once

namespace tilec {

TILEC_DEVICE u32 thread_x() { return emulated::position->thread[0]; }
TILEC_DEVICE u32 thread_y() { return emulated::position->thread[1]; }
TILEC_DEVICE u32 thread_z() { return emulated::position->thread[2]; }
TILEC_DEVICE u32 block_x() { return emulated::position->block[0]; }
TILEC_DEVICE u32 block_y() { return emulated::position->block[1]; }
TILEC_DEVICE u32 block_z() { return emulated::position->block[2]; }
TILEC_DEVICE u32 threads_x() { return emulated::position->threads[0]; }
TILEC_DEVICE u32 threads_y() { return emulated::position->threads[1]; }
TILEC_DEVICE u32 threads_z() { return emulated::position->threads[2]; }
TILEC_DEVICE u32 blocks_x() { return emulated::position->blocks[0]; }
TILEC_DEVICE u32 blocks_y() { return emulated::position->blocks[1]; }
TILEC_DEVICE u32 blocks_z() { return emulated::position->blocks[2]; }
TILEC_DEVICE u32 lane() { return emulated::position->rank % 32; }

TILEC_DEVICE void barrier(Site site = Site::here()) { emulated::barrier(0, 0, true, site); }
TILEC_DEVICE void barrier_sync(u32 id, u32 threads, Site site = Site::here()) {
  emulated::barrier(id, threads, true, site);
}
TILEC_DEVICE void barrier_arrive(u32 id, u32 threads, Site site = Site::here()) {
  emulated::barrier(id, threads, false, site);
}
TILEC_DEVICE void warp_sync(Site site = Site::here()) { emulated::warp_sync(site); }

TILEC_DEVICE u32 shuffle(u32 value, u32 from, Site site = Site::here()) {
  return emulated::shuffle(emulated::Shuffle::index, value, from, site);
}
TILEC_DEVICE u32 shuffle_xor(u32 value, u32 mask, Site site = Site::here()) {
  return emulated::shuffle(emulated::Shuffle::exclusive_or, value, mask, site);
}
TILEC_DEVICE u32 shuffle_up(u32 value, u32 by, Site site = Site::here()) {
  return emulated::shuffle(emulated::Shuffle::up, value, by, site);
}
TILEC_DEVICE u32 shuffle_down(u32 value, u32 by, Site site = Site::here()) {
  return emulated::shuffle(emulated::Shuffle::down, value, by, site);
}
TILEC_DEVICE u32 vote_ballot(bool yes, Site site = Site::here()) {
  return emulated::vote_ballot(yes, site);
}
TILEC_DEVICE bool vote_any(bool yes, Site site = Site::here()) {
  return emulated::vote_ballot(yes, site) != 0;
}
TILEC_DEVICE bool vote_all(bool yes, Site site = Site::here()) {
  return emulated::vote_ballot(!yes, site) == 0;
}

TILEC_DEVICE void pause(u32, Site site = Site::here()) { emulated::pause(site); }
TILEC_DEVICE bool elect(Site site = Site::here()) { return emulated::elect(site); }

template <u32 count> TILEC_DEVICE void registers_raise() {
  static_assert(count % 8 == 0 && count >= 24 && count <= 256, "setmaxnreg: 24..256 by 8");
}
template <u32 count> TILEC_DEVICE void registers_drop() { registers_raise<count>(); }

}  // namespace tilec
