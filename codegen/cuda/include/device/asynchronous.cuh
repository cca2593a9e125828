// Copies from global to shared memory that threads start and wait for, and barriers in memory.
#pragma once

namespace tilec {

// A note for L2: keep this data for a shorter, or a longer time than other data: createpolicy.
TILEC_DEVICE u64 policy_evict_first() {
  u64 d;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(d));
  return d;
}
TILEC_DEVICE u64 policy_evict_last() {
  u64 d;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(d));
  return d;
}

// Start a copy of 4, 8 or 16 bytes to a shared address; zeros and no read unless `keep`:
// cp.async.ca or, for 16 bytes, .cg, which passes L1 by. `policy` adds .L2::cache_hint.
template <u32 bytes> TILEC_DEVICE void copy_async(u32 to, const void* from, bool keep = true) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async moves 4, 8 or 16 bytes");
  u32 read = keep ? bytes : 0;
  if (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 ::"r"(to), "l"(from), "r"(read) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;"
                 ::"r"(to), "l"(from), "n"(bytes == 16 ? 4 : bytes), "r"(read) : "memory");
  }
}
template <u32 bytes>
TILEC_DEVICE void copy_async(u32 to, const void* from, bool keep, u64 policy) {
  static_assert(bytes == 16, "a policy goes with 16 bytes");
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;"
               ::"r"(to), "l"(from), "r"(keep ? 16 : 0), "l"(policy) : "memory");
}

// Close this thread's group of copies: cp.async.commit_group.
TILEC_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until at most `pending` of this thread's groups are under way: cp.async.wait_group.
template <u32 pending> TILEC_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

#if TILEC_SINCE(900)
// A barrier of 8 bytes at a shared address. A phase of it ends when `count` arrivals were made and
// all expected bytes have come: mbarrier.init.
TILEC_DEVICE void mbarrier_init(u32 at, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(count) : "memory");
}

// Make this thread's mbarrier_init visible to the bulk copy unit: fence.mbarrier_init.
TILEC_DEVICE void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// Arrive: mbarrier.arrive.
TILEC_DEVICE void mbarrier_arrive(u32 at) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
}

// Expect so many bytes more in this phase, and arrive: mbarrier.arrive.expect_tx.
TILEC_DEVICE void mbarrier_arrive_expect(u32 at, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               ::"r"(at), "r"(bytes) : "memory");
}

// Expect so many bytes more in this phase: mbarrier.expect_tx.
TILEC_DEVICE void mbarrier_expect(u32 at, u32 bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;"
               ::"r"(at), "r"(bytes) : "memory");
}

// Arrive once this thread's copies so far have come: cp.async.mbarrier.arrive.noinc.
TILEC_DEVICE void mbarrier_arrive_copies(u32 at) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(at) : "memory");
}

// Whether the phase of this parity has ended; may wait a while: mbarrier.try_wait.parity.
TILEC_DEVICE bool mbarrier_try(u32 at, u32 parity) {
  u32 d;
  asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
               "selp.u32 %0, 1, 0, p;\n}"
               : "=r"(d) : "r"(at), "r"(parity) : "memory");
  return d != 0;
}

// Wait until the phase of this parity has ended: mbarrier.try_wait.parity in a loop.
TILEC_DEVICE void mbarrier_wait(u32 at, u32 parity) {
  while (!mbarrier_try(at, parity)) {}
}
#endif

}  // namespace tilec
