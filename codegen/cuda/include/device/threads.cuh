// Where a thread is, barriers, and what the threads of a warp tell each other. Every warp function
// must be reached by all 32 threads of the warp together.
#pragma once

namespace tilec {

// The thread's place in its block: %tid.
TILEC_DEVICE u32 thread_x() { return threadIdx.x; }
TILEC_DEVICE u32 thread_y() { return threadIdx.y; }
TILEC_DEVICE u32 thread_z() { return threadIdx.z; }
// The block's place in the grid: %ctaid.
TILEC_DEVICE u32 block_x() { return blockIdx.x; }
TILEC_DEVICE u32 block_y() { return blockIdx.y; }
TILEC_DEVICE u32 block_z() { return blockIdx.z; }
// Threads in a block: %ntid.
TILEC_DEVICE u32 threads_x() { return blockDim.x; }
TILEC_DEVICE u32 threads_y() { return blockDim.y; }
TILEC_DEVICE u32 threads_z() { return blockDim.z; }
// Blocks in the grid: %nctaid.
TILEC_DEVICE u32 blocks_x() { return gridDim.x; }
TILEC_DEVICE u32 blocks_y() { return gridDim.y; }
TILEC_DEVICE u32 blocks_z() { return gridDim.z; }

// The thread's place in its warp: %laneid.
TILEC_DEVICE u32 lane() {
  u32 d;
  asm("mov.u32 %0, %%laneid;" : "=r"(d));
  return d;
}

// Wait for all threads of the block: bar.sync 0.
TILEC_DEVICE void barrier() { asm volatile("bar.sync 0;" ::: "memory"); }

// Wait until `threads` threads have come to barrier `id` (1..15): bar.sync.
TILEC_DEVICE void barrier_sync(u32 id, u32 threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Count as come to barrier `id`, without waiting: bar.arrive.
TILEC_DEVICE void barrier_arrive(u32 id, u32 threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Wait for the warp and see what its threads wrote: bar.warp.sync.
TILEC_DEVICE void warp_sync() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }

// The value that lane `from` gives: shfl.sync.idx.
TILEC_DEVICE u32 shuffle(u32 value, u32 from) {
  u32 d;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 0x1f, 0xffffffff;"
               : "=r"(d) : "r"(value), "r"(from));
  return d;
}

// The value of lane ^ mask: shfl.sync.bfly.
TILEC_DEVICE u32 shuffle_xor(u32 value, u32 mask) {
  u32 d;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;"
               : "=r"(d) : "r"(value), "r"(mask));
  return d;
}

// The value of lane - by, or the own where there is no such lane: shfl.sync.up.
TILEC_DEVICE u32 shuffle_up(u32 value, u32 by) {
  u32 d;
  asm volatile("shfl.sync.up.b32 %0, %1, %2, 0, 0xffffffff;" : "=r"(d) : "r"(value), "r"(by));
  return d;
}

// The value of lane + by, or the own where there is no such lane: shfl.sync.down.
TILEC_DEVICE u32 shuffle_down(u32 value, u32 by) {
  u32 d;
  asm volatile("shfl.sync.down.b32 %0, %1, %2, 0x1f, 0xffffffff;"
               : "=r"(d) : "r"(value), "r"(by));
  return d;
}

// One bit a lane, set where `yes`: vote.sync.ballot.
TILEC_DEVICE u32 vote_ballot(bool yes) {
  u32 d;
  asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %1, 0;\n"
               "vote.sync.ballot.b32 %0, p, 0xffffffff;\n}"
               : "=r"(d) : "r"((u32)yes));
  return d;
}
TILEC_DEVICE bool vote_any(bool yes) { return vote_ballot(yes) != 0; }
TILEC_DEVICE bool vote_all(bool yes) { return vote_ballot(yes) == 0xffffffffu; }

// Sleep for about so many nanoseconds, so that others go on: nanosleep.
TILEC_DEVICE void pause(u32 nanoseconds) {
  asm volatile("nanosleep.u32 %0;" ::"r"(nanoseconds) : "memory");
}

#if TILEC_SINCE(900)
// True in one thread of the warp: elect.sync.
TILEC_DEVICE bool elect() {
  u32 d;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}"
               : "=r"(d));
  return d != 0;
}
#endif

#if TILEC_REGISTER_LIMITS
// Take more registers, up to `count` a thread, for the warpgroup: setmaxnreg.inc.
template <u32 count> TILEC_DEVICE void registers_raise() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
// Give registers back, down to `count` a thread: setmaxnreg.dec.
template <u32 count> TILEC_DEVICE void registers_drop() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
#endif

}  // namespace tilec
