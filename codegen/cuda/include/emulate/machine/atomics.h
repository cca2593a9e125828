// Atomic accesses to global memory, and fences. What a release publishes waits at its address for
// an acquire there. A fence makes releases of the later relaxed accesses, and acquires of the
// earlier ones: here every relaxed access publishes what the last fence of its thread covered.
#pragma once

namespace tilec::emulated {

// Everything that the thread knows, in the terms of other blocks.
inline SharedForeigners published(const Thread& thread) {
  const Block& own = *thread.block;
  auto news = std::make_shared<Foreigners>();
  (*news)[own.rank] = {own.epoch, thread.clock.known};
  return merged(thread.clock.foreigners, news);
}

// What was published at an address.
inline SharedForeigners news_at(const void* at) {
  auto found = machine->released.find(at);
  return found == machine->released.end() ? nullptr : found->second;
}

// Add to it all that the thread knows and did.
inline void publish(Thread& thread, const void* at) {
  if (!CHECKED) return;
  machine->released[at] = merged(news_at(at), published(thread));
  tick(thread);
}

// Learn what was published; the part of the own block is in terms of its own agents.
inline void subscribe(Thread& thread, const SharedForeigners& news) {
  if (!news) return;
  thread.clock.foreigners = merged(thread.clock.foreigners, news);
  auto own = news->find(thread.block->rank);
  if (own != news->end()) raise(thread.clock.known, own->second.known);
}

inline u64 sum_f64(u64 a, u64 b) {
  union { u64 bits; double number; } x = {a}, y = {b};
  x.number += y.number;
  return x.bits;
}

inline u64 changed(Change change, u64 old, u64 value, u64 expected) {
  switch (change) {
    case Change::add_u32: return u32(old + value);
    case Change::add_u64: return old + value;
    case Change::add_f32: return bits_of_f32(f32_of_bits(u32(old)) + f32_of_bits(u32(value)));
    case Change::add_f64: return sum_f64(old, value);
    case Change::add_f16: return u16(add_f16x2(u32(old), u32(value)));
    case Change::add_bf16:
      return bf16_from_f32(f32_from_bf16({u16(old)}) + f32_from_bf16({u16(value)})).bits;
    case Change::add_f16x2: return add_f16x2(u32(old), u32(value));
    case Change::exchange: return value;
    case Change::compare_exchange: return old == expected ? value : old;
  }
  __builtin_unreachable();
}

inline void acquire_at(Thread& self, const void* at, Order order) {
  if (!CHECKED) return;
  bool acquires = order == Order::acquire || order == Order::acq_rel;
  if (acquires) subscribe(self, news_at(at));
  else self.observed = merged(self.observed, news_at(at));
}

inline void release_at(Thread& self, const void* at, Order order) {
  if (order == Order::release || order == Order::acq_rel) publish(self, at);
  else if (self.fenced) machine->released[at] = merged(news_at(at), self.fenced);
}

u64 atomic(Change change, void* at, u64 value, u64 expected, u32 bytes, Order order, Site site) {
  bool looks = change == Change::exchange || change == Change::compare_exchange;
  looks ? spin("atomic", site) : yield("atomic", site);  // a sum waits for nothing
  Buffer* buffer = locate_global(at, bytes, bytes, true, "atomic access", site);
  if (!buffer) return ~0ull;
  Thread& self = *machine->current;
  u64 old = 0;
  memcpy(&old, at, bytes);
  u64 now = changed(change, old, value, expected);
  acquire_at(self, at, order);
  note_global_write(self, *buffer, (u8*)at, (const u8*)&now, bytes, true, "atomic access",
                    site);
  release_at(self, at, order);
  count_global("atomic", *buffer, at, bytes, site);
  memcpy(at, &now, bytes);
  if (now != old) progress();
  return old;
}

u32 load_acquire(const u32* at, Site site) {
  spin("load_acquire", site);
  Buffer* buffer = locate_global(at, 4, 4, false, "load_acquire", site);
  if (!buffer) return ~0u;
  Thread& self = *machine->current;
  if (CHECKED) subscribe(self, news_at(at));
  note_global_read(self, *buffer, at, 4, true, "load_acquire", site);
  count_global("load_acquire", *buffer, at, 4, site);
  return *at;
}

void store_release(u32* at, u32 value, Site site) {
  yield("store_release", site);
  Buffer* buffer = locate_global(at, 4, 4, true, "store_release", site);
  if (!buffer) return;
  Thread& self = *machine->current;
  note_global_write(self, *buffer, (u8*)at, (const u8*)&value, 4, true, "store_release", site);
  count_global("store_release", *buffer, at, 4, site);
  machine->released.erase(at);  // who reads this value sees this release only
  publish(self, at);
  *at = value;
  progress();
}

void fence(bool device, Site) {
  if (!CHECKED || !device) return;
  Thread& self = *machine->current;
  subscribe(self, self.observed);
  self.fenced = published(self);
  tick(self);
}

}  // namespace tilec::emulated
