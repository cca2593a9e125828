// How knowledge passes between the threads of a block. Each release ends with a tick of the own
// clock, so that later accesses are not covered by it.
#pragma once

namespace tilec::emulated {

inline void tick(Thread& thread) { thread.clock.known[thread.rank]++; }

inline void release(Thread& thread, Clock& to) {
  if (!CHECKED) return;
  to.join(thread.clock);
  tick(thread);
}

inline void acquire(Thread& thread, const Clock& from) {
  if (CHECKED) thread.clock.join(from);
}

// Everyone in the block learns all: a new epoch stands for the threads' clocks, the rest is joined.
inline void order_all(Block& block) {
  if (!CHECKED) return;
  Clock all;
  u32 threads = (u32)block.threads.size();
  for (const Thread& t : block.threads) {
    for (u32 agent = threads; agent < t.clock.known.size(); agent++)
      raise(all.known, agent, t.clock.known[agent]);
    if (block.proxied) raise(all.proxied, t.clock.proxied);
    all.proxied_epoch = std::max(all.proxied_epoch, t.clock.proxied_epoch);
    all.foreigners = merged(all.foreigners, t.clock.foreigners);
  }
  for (Thread& t : block.threads) {
    for (u32 agent = threads; agent < all.known.size(); agent++)
      raise(t.clock.known, agent, all.known[agent]);
    if (block.proxied) raise(t.clock.proxied, all.proxied);
    t.clock.proxied_epoch = all.proxied_epoch;
    t.clock.foreigners = all.foreigners;
  }
  block.proxied = false;
  block.epoch++;
}

// These threads learn all that any of them knows.
inline void order_some(const std::vector<Thread*>& threads) {
  if (!CHECKED) return;
  Clock all;
  for (Thread* t : threads) release(*t, all);
  for (Thread* t : threads) acquire(*t, all);
}

// All that the thread knows becomes visible to the asynchronous proxy.
inline void order_for_proxy(Thread& thread) {
  if (!CHECKED) return;
  raise(thread.clock.proxied, thread.clock.known);
  thread.clock.proxied_epoch = thread.block->epoch;
  thread.block->proxied = true;
  tick(thread);
}

}  // namespace tilec::emulated
