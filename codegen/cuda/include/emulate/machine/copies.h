// cp.async: a copy lands when its thread waits for its group, or when the phase of an mbarrier ends
// that its thread arrived at with its copies.
#pragma once

namespace tilec::emulated {

void copy_async(u32 to, const void* from, u32 bytes, bool keep, Site site) {
  u32 offset;
  if (!locate_shared(to, bytes, bytes, "copy_async", site, offset)) return;
  Buffer* source = nullptr;
  if (keep) source = locate_global(from, bytes, bytes, false, "copy_async", site);
  Thread& self = *machine->current;
  if (CHECKED) {
    begin_landing(offset, bytes, party_of(self, site, "copy_async"), false);
    if (source) note_global_read(self, *source, from, bytes, false, "copy_async", site);
    u64 place = source ? place_in(*source, from) : NOWHERE;
    machine->statistics->lane(self, "copy_async", site, bytes, offset, place);
  }
  auto& chunks = self.chunks;
  if (chunks.empty() || chunks.back()->group != self.groups || chunks.back()->shared)
    chunks.push_back(std::make_shared<Chunk>(Chunk{self.groups, {}}));
  chunks.back()->copies.push_back({offset, (const u8*)from, bytes, source != nullptr, site});
}

static void land(Block& block, Chunk& chunk, Event event) {
  if (chunk.landed) return;
  chunk.landed = true;
  for (const Copy& copy : chunk.copies) {
    u8* to = &block.shared[copy.to];
    if (copy.keep) memcpy(to, copy.from, copy.bytes);
    else memset(to, 0, copy.bytes);
    event.site = copy.site;
    if (CHECKED) end_landing(copy.to, copy.bytes, event);
  }
}

void copy_async_commit(Site) { machine->current->groups++; }

void copy_async_wait(u32 pending, Site site) {
  Thread& self = *machine->current;
  auto& chunks = self.chunks;
  while (!chunks.empty() && chunks.front()->group + pending < self.groups) {
    land(block(), *chunks.front(), event_of(self, site));
    chunks.pop_front();
  }
}

// What a thread that ends has not waited for.
static void check_copies_at_end(Thread& thread) {
  for (const auto& chunk : thread.chunks) {
    if (chunk->landed || chunk->copies.empty() || chunk->shared) continue;
    report({"exit", chunk->copies[0].site, {}, -1, -1, chunk->copies[0].to, "shared", {},
            "the thread ends while this asynchronous copy is under way"});
  }
}

}  // namespace tilec::emulated
