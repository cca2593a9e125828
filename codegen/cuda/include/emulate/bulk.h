// device/bulk.cuh on the host. Stores reach global memory when they are waited for, or when the
// block ends.
#pragma once

namespace tilec {

TILEC_DEVICE void fence_async(Site site = Site::here()) { emulated::fence_async(site); }
TILEC_DEVICE void bulk_load(u32 to, const void* from, u32 bytes, u32 arrive,
                            Site site = Site::here()) {
  emulated::bulk_load(to, from, bytes, arrive, site);
}
TILEC_DEVICE void bulk_load(u32 to, const void* from, u32 bytes, u32 arrive, u64,
                            Site site = Site::here()) {
  emulated::bulk_load(to, from, bytes, arrive, site);
}
TILEC_DEVICE void bulk_store(void* to, u32 from, u32 bytes, Site site = Site::here()) {
  emulated::bulk_store(to, from, bytes, site);
}
TILEC_DEVICE void bulk_commit(Site site = Site::here()) { emulated::bulk_commit(site); }
template <u32 pending> TILEC_DEVICE void bulk_wait(Site site = Site::here()) {
  emulated::bulk_wait(pending, false, site);
}
template <u32 pending> TILEC_DEVICE void bulk_wait_read(Site site = Site::here()) {
  emulated::bulk_wait(pending, true, site);
}

TILEC_DEVICE void tensor_prefetch(const TensorMap*) {}

#define TILEC_TENSOR(rank, parameters, ...) \
  TILEC_DEVICE void tensor_load(u32 to, const TensorMap* map, u32 arrive, parameters, \
                                Site site = Site::here()) { \
    emulated::tensor_load(to, {map, {__VA_ARGS__}, rank}, arrive, site); \
  } \
  TILEC_DEVICE void tensor_load_kept(u32 to, const TensorMap* map, u32 arrive, u64, parameters, \
                                     Site site = Site::here()) { \
    emulated::tensor_load(to, {map, {__VA_ARGS__}, rank}, arrive, site); \
  } \
  TILEC_DEVICE void tensor_store(const TensorMap* map, u32 from, parameters, \
                                 Site site = Site::here()) { \
    emulated::tensor_store({map, {__VA_ARGS__}, rank}, from, site); \
  }
#define TILEC_AND ,
TILEC_TENSOR(1, s32 x, x)
TILEC_TENSOR(2, s32 x TILEC_AND s32 y, x, y)
TILEC_TENSOR(3, s32 x TILEC_AND s32 y TILEC_AND s32 z, x, y, z)
TILEC_TENSOR(4, s32 x TILEC_AND s32 y TILEC_AND s32 z TILEC_AND s32 u, x, y, z, u)
TILEC_TENSOR(5, s32 x TILEC_AND s32 y TILEC_AND s32 z TILEC_AND s32 u TILEC_AND s32 v,
             x, y, z, u, v)
#undef TILEC_TENSOR
#undef TILEC_AND

template <u32 count> TILEC_DEVICE void registers_fewer() { registers_drop<count>(); }
template <u32 count> TILEC_DEVICE void registers_more() { registers_raise<count>(); }

}  // namespace tilec
