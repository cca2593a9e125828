// The bulk copy unit (TMA): whole runs of bytes and boxes of tensors, started by one thread.
#pragma once

#if TILEC_SINCE(900)
namespace tilec {

// Order shared memory that threads wrote before what the bulk copy unit or wgmma reads of it:
// fence.proxy.async.
TILEC_DEVICE void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Copy to shared memory; the bytes count on the mbarrier `arrive`. Addresses and size are
// multiples of 16: cp.async.bulk.shared::cluster.global.
TILEC_DEVICE void bulk_load(u32 to, const void* from, u32 bytes, u32 arrive) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1], %2, [%3];"
               ::"r"(to), "l"(from), "r"(bytes), "r"(arrive) : "memory");
}
TILEC_DEVICE void bulk_load(u32 to, const void* from, u32 bytes, u32 arrive, u64 policy) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
               ".L2::cache_hint [%0], [%1], %2, [%3], %4;"
               ::"r"(to), "l"(from), "r"(bytes), "r"(arrive), "l"(policy) : "memory");
}

// Copy from shared memory, in this thread's group of bulk stores: cp.async.bulk.global.shared.
TILEC_DEVICE void bulk_store(void* to, u32 from, u32 bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;"
               ::"l"(to), "r"(from), "r"(bytes) : "memory");
}

// Close this thread's group of bulk stores: cp.async.bulk.commit_group.
TILEC_DEVICE void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Wait until at most `pending` groups are unfinished, or have not read their source:
// cp.async.bulk.wait_group, .read.
template <u32 pending> TILEC_DEVICE void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(pending) : "memory");
}
template <u32 pending> TILEC_DEVICE void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(pending) : "memory");
}

// Fetch a descriptor ahead of its use: prefetch.tensormap.
TILEC_DEVICE void tensor_prefetch(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// The box of the tensor whose first element has the coordinates x (innermost), y, ...; what is
// outside the tensor is zeros and counts as bytes too: cp.async.bulk.tensor.1d .. 5d.
// tensor_load(to, map, arrive, x, ...), tensor_load_kept(to, map, arrive, policy, x, ...) and, in
// this thread's group of bulk stores, tensor_store(map, from, x, ...).
#define TILEC_TENSOR(rank, parameters, operands, where, last, ...) \
  TILEC_DEVICE void tensor_load(u32 to, const TensorMap* map, u32 arrive, parameters) { \
    asm volatile("cp.async.bulk.tensor." rank ".shared::cluster.global.tile" \
                 ".mbarrier::complete_tx::bytes [%0], [%1, {" operands "}], [%2];" \
                 ::"r"(to), "l"(map), "r"(arrive), __VA_ARGS__ : "memory"); \
  } \
  TILEC_DEVICE void tensor_load_kept(u32 to, const TensorMap* map, u32 arrive, u64 policy, \
                                     parameters) { \
    asm volatile("cp.async.bulk.tensor." rank ".shared::cluster.global.tile" \
                 ".mbarrier::complete_tx::bytes.L2::cache_hint" \
                 " [%0], [%1, {" operands "}], [%2], " last ";" \
                 ::"r"(to), "l"(map), "r"(arrive), __VA_ARGS__, "l"(policy) : "memory"); \
  } \
  TILEC_DEVICE void tensor_store(const TensorMap* map, u32 from, parameters) { \
    asm volatile("cp.async.bulk.tensor." rank ".global.shared::cta.tile.bulk_group" \
                 " [%0, {" where "}], [%1];" \
                 ::"l"(map), "r"(from), __VA_ARGS__ : "memory"); \
  }
#define TILEC_AND ,
TILEC_TENSOR("1d", s32 x, "%3", "%2", "%4", "r"(x))
TILEC_TENSOR("2d", s32 x TILEC_AND s32 y, "%3, %4", "%2, %3", "%5", "r"(x), "r"(y))
TILEC_TENSOR("3d", s32 x TILEC_AND s32 y TILEC_AND s32 z, "%3, %4, %5", "%2, %3, %4",
             "%6", "r"(x), "r"(y), "r"(z))
TILEC_TENSOR("4d", s32 x TILEC_AND s32 y TILEC_AND s32 z TILEC_AND s32 u,
             "%3, %4, %5, %6", "%2, %3, %4, %5", "%7", "r"(x), "r"(y), "r"(z), "r"(u))
TILEC_TENSOR("5d", s32 x TILEC_AND s32 y TILEC_AND s32 z TILEC_AND s32 u TILEC_AND s32 v,
             "%3, %4, %5, %6, %7", "%2, %3, %4, %5, %6",
             "%8", "r"(x), "r"(y), "r"(z), "r"(u), "r"(v))
#undef TILEC_TENSOR
#undef TILEC_AND

// Between warpgroups that copy and those that compute: give registers back, down to `count` a
// thread, and take them, where the target can: setmaxnreg.
template <u32 count> TILEC_DEVICE void registers_fewer() {
#if TILEC_REGISTER_LIMITS
  registers_drop<count>();
#endif
}
template <u32 count> TILEC_DEVICE void registers_more() {
#if TILEC_REGISTER_LIMITS
  registers_raise<count>();
#endif
}

}  // namespace tilec
#endif
