// What threads do together: warps, warpgroups, barriers.
#pragma once

namespace tilec::emulated {

// The last of the threads `first`.. to come does the work for all; the others wait for it. Each
// gives `mine`.
template <class Work>
void meet(Rendezvous& at, u32 first, u32 count, const char* what, void* mine, Site site,
          Work work) {
  Thread& self = *machine->current;
  if (at.arrived == 0) {
    at.what = what;
    at.site = site;
  } else if (at.what != what || !same(at.site, site)) {
    stop({"divergence", site, at.site, -1, -1, -1, "", {},
          format("%s, while other threads of the same %s are at %s of line %d", what,
                 count > WARP ? "warpgroup" : "warp", at.what, at.site.line)});
  }
  at.of[self.rank - first] = mine;
  if (++at.arrived < count) return park({what, site});
  at.arrived = 0;
  work(at.of);
  for (u32 t = first; t < first + count; t++)
    if (t != self.rank) wake(&self.block->threads[t]);
}

inline u32 first_of_warp() { return machine->current->rank / WARP * WARP; }
inline u32 warp_size() {
  return std::min<u32>(WARP, (u32)block().threads.size() - first_of_warp());
}

template <class Work> void warp_meet(const char* what, void* mine, Site site, Work work) {
  meet(block().warps[machine->current->rank / WARP], first_of_warp(), warp_size(), what, mine, site,
       work);
}

void warp_sync(Site site) {
  warp_meet("warp_sync", nullptr, site, [](void**) {
    std::vector<Thread*> threads;
    for (u32 i = 0; i < warp_size(); i++) threads.push_back(&block().threads[first_of_warp() + i]);
    order_some(threads);
  });
}

static u32 source_lane(Shuffle how, u32 lane, u32 operand) {
  switch (how) {
    case Shuffle::index: return operand % WARP;
    case Shuffle::exclusive_or: return lane ^ (operand % WARP);
    case Shuffle::up: return operand > lane ? lane : lane - operand;
    case Shuffle::down: return lane + operand >= WARP ? lane : lane + operand;
  }
  __builtin_unreachable();
}

u32 shuffle(Shuffle how, u32 value, u32 operand, Site site) {
  struct Lane { Shuffle how; u32 value, operand, result; } mine = {how, value, operand, 0};
  warp_meet("shuffle", &mine, site, [&](void** of) {
    count("shuffle", site);
    for (u32 i = 0; i < warp_size(); i++) {
      Lane& lane = *(Lane*)of[i];
      u32 from = source_lane(lane.how, i, lane.operand);
      lane.result = from < warp_size() ? ((Lane*)of[from])->value : lane.value;
    }
  });
  return mine.result;
}

u32 vote_ballot(bool yes, Site site) {
  struct Lane { bool yes; u32 result; } mine = {yes, 0};
  warp_meet("vote", &mine, site, [&](void** of) {
    count("vote", site);
    u32 votes = 0;
    for (u32 i = 0; i < warp_size(); i++) votes |= (u32)((Lane*)of[i])->yes << i;
    for (u32 i = 0; i < warp_size(); i++) ((Lane*)of[i])->result = votes;
  });
  return mine.result;
}

bool elect(Site site) {
  warp_meet("elect", nullptr, site, [](void**) {});
  return machine->current->rank % WARP == 0;
}

void pause(Site site) { spin("pause", site); }

static void open_gate(Block& block, Gate& gate) {
  bool all = gate.waiting.size() == block.alive;
  if (all) order_all(block);
  for (Thread* thread : gate.waiting) {
    if (!all) acquire(*thread, gate.clock);
    if (thread != machine->current) wake(thread);
  }
  gate.waiting.clear();
  gate.sites.clear();
  gate.arrived = gate.expected = 0;
}

static void check_gate(const Gate& gate, u32 id, u32 threads, Site site) {
  if (threads % WARP != 0 || id >= GATES)
    stop({"barrier", site, {}, -1, -1, -1, "", {},
          format("barrier %u of %u threads: expected 0..15 and a multiple of 32", id, threads)});
  if (gate.arrived && gate.expected != threads)
    stop({"barrier", site, gate.sites.begin()->second, -1, -1, -1, "", {},
          format("barrier %u of %u threads, which others came to as one of %u", id, threads,
                 gate.expected)});
}

// The threads of a warp come to a barrier together.
static void check_warp_at(Gate& gate, Site site) {
  auto found = gate.sites.emplace(machine->current->rank / WARP, site);
  if (!found.second && !same(found.first->second, site))
    stop({"divergence", site, found.first->second, -1, -1, -1, "", {},
          format("a barrier, while other threads of the same warp are at that of line %d",
                 found.first->second.line)});
}

void barrier(u32 id, u32 threads, bool wait, Site site) {
  Block& here = block();
  Gate& gate = here.gates[id % GATES];
  check_gate(gate, id, threads, site);
  check_warp_at(gate, site);
  Thread& self = *machine->current;
  gate.expected = threads;
  gate.arrived++;
  if (threads) release(self, gate.clock);
  if (wait) gate.waiting.push_back(&self);
  if (gate.arrived == (threads ? threads : here.alive)) return open_gate(here, gate);
  if (wait) park({"barrier", site, &gate});
}

// A thread that has ended counts as come to the barrier of the whole block.
static void leave_gates(Block& block) {
  Gate& gate = block.gates[0];
  if (gate.arrived && gate.expected == 0 && gate.arrived == block.alive) open_gate(block, gate);
}

}  // namespace tilec::emulated
