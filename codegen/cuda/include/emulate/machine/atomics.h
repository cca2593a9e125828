// Atomic accesses to global memory, and fences. What a release publishes waits at its address for
// an acquire there. A fence makes releases of the later relaxed accesses, and acquires of the
// earlier ones: here every relaxed access publishes what the last fence of its thread covered.
#pragma once

namespace tilec::emulated {

// Everything that the thread knows, in the terms of other blocks.
inline Clock published(const Thread& thread) {
  const Block& own = *thread.block;
  Clock out;
  Foreigners news;
  news[own.rank] = {own.epoch, thread.clock.known};
  out.foreigners = merged(thread.clock.foreigners, std::make_shared<Foreigners>(std::move(news)));
  return out;
}

inline void publish(Thread& thread, const void* at) {
  if (!CHECKED) return;
  machine->released[at].join(published(thread));
  tick(thread);
}

// Learn what was published there, also by threads of the own block.
inline void subscribe(Thread& thread, const Clock& news) {
  thread.clock.foreigners = merged(thread.clock.foreigners, news.foreigners);
  if (!news.foreigners) return;
  auto own = news.foreigners->find(thread.block->rank);
  // Threads' clocks go on from epoch to epoch, so that what was published is no more than known.
  if (own != news.foreigners->end()) raise(thread.clock.known, own->second.known);
}

inline u32 changed(Change change, u32 old, u32 value, u32 expected) {
  switch (change) {
    case Change::add_u32: return old + value;
    case Change::add_f32: return bits_of_f32(f32_of_bits(old) + f32_of_bits(value));
    case Change::add_f16x2: return add_f16x2(old, value);
    case Change::exchange: return value;
    case Change::compare_exchange: return old == expected ? value : old;
  }
  __builtin_unreachable();
}

u32 atomic(Change change, void* at, u32 value, u32 expected, Order order, Site site) {
  bool looks = change == Change::exchange || change == Change::compare_exchange;
  looks ? spin("atomic", site) : yield("atomic", site);  // a sum waits for nothing
  Buffer* buffer = locate_global(at, 4, 4, true, "atomic access", site);
  if (!buffer) return ~0u;
  Thread& self = *machine->current;
  u32 old;
  memcpy(&old, at, 4);
  u32 now = changed(change, old, value, expected);
  note_global_write(self, *buffer, (u8*)at, (const u8*)&now, 4, true, "atomic access", site);
  count_global("atomic", *buffer, at, 4, site);
  if (order == Order::release || order == Order::acq_rel) publish(self, at);
  else if (self.fenced.foreigners) machine->released[at].join(self.fenced);
  if (CHECKED && (order == Order::acquire || order == Order::acq_rel))
    subscribe(self, machine->released[at]);
  else if (CHECKED) self.observed.join(machine->released[at]);
  memcpy(at, &now, 4);
  if (now != old) progress();
  return old;
}

u32 load_acquire(const u32* at, Site site) {
  spin("load_acquire", site);
  Buffer* buffer = locate_global(at, 4, 4, false, "load_acquire", site);
  if (!buffer) return ~0u;
  Thread& self = *machine->current;
  if (CHECKED) subscribe(self, machine->released[at]);
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
  if (CHECKED) machine->released[at] = Clock();  // who reads this value sees this release only
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
