// Barriers in shared memory. Bytes come when someone waits for them, and what they belong to lands
// when the phase ends.
#pragma once

namespace tilec::emulated {

static Mbarrier& mbarrier_at(u32 address, const char* what, Site site) {
  auto& all = block().mbarriers;
  auto found = all.find(address - BASE);
  if (found == all.end())
    stop({"mbarrier", site, {}, -1, -1, (s64)address - BASE, "shared", {},
          format("%s where no mbarrier was made", what)});
  return found->second;
}

void mbarrier_init(u32 at, u32 count, Site site) {
  u32 offset;
  if (!locate_shared(at, 8, 8, "mbarrier_init", site, offset)) return;
  Block& here = block();
  Thread& self = *machine->current;
  if (here.mbarriers.count(offset))
    stop({"mbarrier", site, here.mbarriers[offset].site, -1, -1, offset, "shared", {},
          "an mbarrier is made where there is one"});
  if (CHECKED) {
    const u8 none[8] = {};
    check_write(offset, 8, party_of(self, site, "mbarrier_init"), event_of(self, site), none);
    here.shadow.visit(offset, 8, [](Cell& cell, u32, u32) { cell.mbarrier = true; });
  }
  Mbarrier& made = here.mbarriers[offset];
  made.count = made.pending = count;
  made.agent = here.agents++;
  made.site = site;
  made.owner = self.rank;
}

// Both fences make the thread's own mbarriers known to the copy unit.
static void fence_mbarriers() {
  for (auto& [offset, mbarrier] : block().mbarriers)
    if (mbarrier.owner == machine->current->rank) mbarrier.fenced = true;
}
void fence_mbarrier_init(Site) { fence_mbarriers(); }
void fence_async(Site) {
  fence_mbarriers();
  order_for_proxy(*machine->current);
}

// Whether making the mbarrier is ordered before its use by the running thread.
static void check_made(u32 address, const Mbarrier& mbarrier, const char* what, Site site) {
  if (!CHECKED) return;
  Thread& self = *machine->current;
  block().shadow.visit(address - BASE, 8, [&](Cell& cell, u32 first, u32) {
    if (!knows(party_of(self, site, what), cell.write))
      shared_finding("race", party_of(self, site, what), mbarrier.site, mbarrier.owner, first,
                     format("%s of an mbarrier that line %d makes, and nothing orders the two",
                            what, mbarrier.site.line));
  });
}

static void end_phase(Mbarrier& mbarrier) {
  if (mbarrier.pending != 0 || mbarrier.bytes != 0) return;
  mbarrier.waited = mbarrier.late.empty();
  for (auto& land_now : mbarrier.late) land_now();
  mbarrier.late.clear();
  mbarrier.phase++;
  mbarrier.pending = mbarrier.count;
  mbarrier.ended = mbarrier.clock;
  for (Thread* thread : mbarrier.waiting) wake(thread);
  mbarrier.waiting.clear();
}

// All bytes that are on their way come.
static void bring(Mbarrier& mbarrier) {
  auto coming = std::move(mbarrier.coming);
  mbarrier.coming.clear();
  for (auto& [bytes, land_now] : coming) {
    mbarrier.bytes -= bytes;
    mbarrier.late.push_back(std::move(land_now));
  }
  if (!coming.empty()) end_phase(mbarrier);
}

void mbarrier_expect(u32 at, u32 bytes, Site site) {
  Mbarrier& mbarrier = mbarrier_at(at, "mbarrier_expect", site);
  check_made(at, mbarrier, "mbarrier_expect", site);
  mbarrier.bytes += bytes;
}

static void arrive(u32 at, Mbarrier& mbarrier, const char* what, Site site) {
  check_made(at, mbarrier, what, site);
  if (mbarrier.pending == 0)
    stop({"mbarrier", site, mbarrier.site, -1, -1, (s64)at - BASE, "shared", {},
          format("%s beyond the %u arrivals of a phase", what, mbarrier.count)});
  mbarrier.pending--;
  release(*machine->current, mbarrier.clock);
  end_phase(mbarrier);
}

void mbarrier_arrive(u32 at, Site site) {
  arrive(at, mbarrier_at(at, "mbarrier_arrive", site), "mbarrier_arrive", site);
}

void mbarrier_arrive_copies(u32 at, Site site) {
  Mbarrier& mbarrier = mbarrier_at(at, "mbarrier_arrive_copies", site);
  Thread& self = *machine->current;
  Event event = event_of(self, site);
  Block* here = &block();
  while (!self.chunks.empty() && self.chunks.front()->landed) self.chunks.pop_front();
  for (auto& chunk : self.chunks) {
    chunk->shared = true;
    mbarrier.late.push_back([here, chunk, event] { land(*here, *chunk, event); });
  }
  arrive(at, mbarrier, "mbarrier_arrive_copies", site);
}

bool mbarrier_try(u32 at, u32 parity, bool wait, Site site) {
  Mbarrier& mbarrier = mbarrier_at(at, "mbarrier_wait", site);
  check_made(at, mbarrier, "mbarrier_wait", site);
  Thread& self = *machine->current;
  auto ended = [&] { return mbarrier.phase % 2 != parity % 2; };
  if (!ended()) bring(mbarrier);
  if (!ended() && !wait) spin("mbarrier_try", site);
  while (!ended() && wait) {
    mbarrier.waiting.push_back(&self);
    park({"mbarrier_wait", site, nullptr, &mbarrier});
    if (!ended()) bring(mbarrier);
  }
  if (!ended()) return false;
  mbarrier.waited = true;
  acquire(self, mbarrier.ended);
  return true;
}

}  // namespace tilec::emulated
