// What the vocabulary asks of the machine, which is a library of its own.
#pragma once

#include "../types.cuh"

#define TILEC_DEVICE static inline __attribute__((always_inline, unused))
#define TILEC_EXPORT extern "C" __attribute__((visibility("default")))

namespace tilec::emulated {

// A place in the kernel's source. As a default argument, here() is the place of the call.
struct Site {
  const char* file = "";
  int line = 0;
  static Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

// Where the running thread is.
struct Position {
  u32 thread[3], block[3], threads[3], blocks[3];
  u32 rank;  // of the thread among those of its block, x innermost
};

#pragma GCC visibility push(default)
extern const Position* position;

// threads
void barrier(u32 id, u32 threads, bool wait, Site site);  // threads 0: all of the block
void warp_sync(Site site);
enum class Shuffle { index, exclusive_or, up, down };
u32 shuffle(Shuffle how, u32 value, u32 operand, Site site);
u32 vote_ballot(bool yes, Site site);
bool elect(Site site);
void pause(Site site);

// arithmetic
// How a number of 16 or 8 bits is coded: bits of mantissa, exponent of the smallest normal number,
// the code above all finite ones (infinity, or the largest where that saturates), the code of NaN.
struct Coding { int mantissa, smallest; u32 top, nan; };
constexpr Coding CODING_F16 = {10, -14, 0x7c00, 0x7fff};
constexpr Coding CODING_BF16 = {7, -126, 0x7f80, 0x7fff};
constexpr Coding CODING_E4M3 = {3, -6, 0x7e, 0x7f};
constexpr Coding CODING_E5M2 = {2, -14, 0x7b, 0x7f};
u32 nearest(double value, const Coding& to);
f32 f32_from_e4m3(u32 code);
f32 f32_from_e5m2(u32 code);
u32 f16x2(char operation, u32 a, u32 b, u32 c);  // one of + - * and f for fma
u32 bf16x2(char operation, u32 a, u32 b, u32 c);
s64 integer(f32 value, s64 low, s64 high);

// memory
void load_shared(void* to, u32 address, u32 bytes, Site site);
void store_shared(u32 address, const void* from, u32 bytes, Site site);
void load_global(void* to, const void* from, u32 bytes, Site site);
void store_global(void* to, const void* from, u32 bytes, Site site);

// atomics: what was there before, of which `change` makes what is there then
enum class Change {
  add_u32, add_u64, add_f32, add_f64, add_f16, add_bf16, add_f16x2, exchange, compare_exchange
};
u64 atomic(Change change, void* at, u64 value, u64 expected, u32 bytes, Order order, Site site);
u32 load_acquire(const u32* at, Site site);
void store_release(u32* at, u32 value, Site site);
void fence(bool device, Site site);

// asynchronous
void copy_async(u32 to, const void* from, u32 bytes, bool keep, Site site);
void copy_async_commit(Site site);
void copy_async_wait(u32 pending, Site site);
void mbarrier_init(u32 at, u32 count, Site site);
void fence_mbarrier_init(Site site);
void mbarrier_arrive(u32 at, Site site);
void mbarrier_expect(u32 at, u32 bytes, Site site);
void mbarrier_arrive_copies(u32 at, Site site);
bool mbarrier_try(u32 at, u32 parity, bool wait, Site site);

// bulk
struct Box { const TensorMap* map; s32 at[5]; u32 rank; };  // rank 0: no tensor, plain bytes
void fence_async(Site site);
void bulk_load(u32 to, const void* from, u32 bytes, u32 arrive, Site site);
void bulk_store(void* to, u32 from, u32 bytes, Site site);
void tensor_load(u32 to, const Box& box, u32 arrive, Site site);
void tensor_store(const Box& box, u32 from, Site site);
void bulk_commit(Site site);
void bulk_wait(u32 pending, bool read, Site site);

// tensor
enum class Element : u32 { f16, bf16, tf32, e4m3, e5m2, s8, u8, s4, u4, b1 };
enum class Sum : u32 { f32, s32, f16 };
struct Product {
  Element a, b;
  Sum sum;
  u32 k, a_registers, b_registers;
  bool sparse;
  u32 selector;
};
struct WarpgroupProduct {
  Element a, b;
  Sum sum;
  u32 n, registers;
  bool a_mn, b_mn, accumulate;
  bool sparse = false;
  u32 selector = 0;
};
void load_matrix(u32* d, u32 count, bool transposed, u32 address, Site site);
void store_matrix(u32 address, const u32* a, u32 count, bool transposed, Site site);
void mma(const Product& shape, void* d, const u32* a, const u32* b, u32 metadata, Site site);
void wgmma(const WarpgroupProduct& shape, void* d, const u32* a_registers, u64 a, u64 b,
           u32 metadata, Site site);
void wgmma_fence(Site site);
void wgmma_commit(Site site);
void wgmma_wait(u32 pending, Site site);
#pragma GCC visibility pop

}  // namespace tilec::emulated

namespace tilec {
using emulated::Site;
}
