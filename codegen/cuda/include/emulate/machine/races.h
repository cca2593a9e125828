// Checks of every access to shared memory: order, copies under way, bytes that nobody wrote.
#pragma once

namespace tilec::emulated {

// Who accesses, where, and what it knows; of the four warps of a wgmma what all of them know.
struct Party {
  const Clock& clock;
  u32 thread;
  Site site;
  const char* what;
};

inline Event event_of(const Thread& thread, Site site) {
  return {thread.rank, at(thread.clock.known, thread.rank), thread.block->epoch, true, site};
}

inline bool knows(const Party& party, const Event& event) {
  return knows(party.clock, event, block().epoch, (u32)block().threads.size());
}

inline void shared_finding(const char* kind, const Party& party, Site other, s64 other_thread,
                           u32 offset, std::string message) {
  report({kind, party.site, other, party.thread, other_thread, offset, "shared", {},
          std::move(message)});
}

inline s64 thread_of(const Event& event) {
  return event.agent < block().threads.size() ? (s64)event.agent : -1;
}

inline void check_in_flight(const Cell& cell, const Party& party, u32 offset) {
  if (cell.mbarrier) {
    shared_finding("mbarrier", party, cell.write.site, thread_of(cell.write), offset,
                   format("%s of bytes that hold an mbarrier", party.what));
  } else if (cell.landings) {
    shared_finding("in-flight", party, cell.landing, -1, offset,
                   format("%s while the asynchronous copy of line %d into it is under way",
                          party.what, cell.landing.line));
  }
}

inline void check_known(const Cell& cell, const Party& party, u32 offset) {
  if (cell.landings || knows(party, cell.write)) return;
  shared_finding("race", party, cell.write.site, thread_of(cell.write), offset,
                 format("%s of what line %d writes, and nothing orders the two", party.what,
                        cell.write.site.line));
}

inline void check_unread(const Cell& cell, const Party& party, u32 offset) {
  if (cell.readers) {
    shared_finding("overwritten", party, cell.reader, -1, offset,
                   format("%s of what the asynchronous operation of line %d still reads",
                          party.what, cell.reader.line));
  }
  for (const Event& read : cell.reads) {
    if (knows(party, read)) continue;
    shared_finding("race", party, read.site, thread_of(read), offset,
                   format("%s of what line %d reads, and nothing orders the two", party.what,
                          read.site.line));
    return;
  }
}

inline void check_written(const Cell& cell, const Party& party, u32 offset) {
  if (cell.written || cell.landings || cell.mbarrier) return;
  shared_finding("uninitialised", party, {}, -1, offset,
                 format("%s of bytes that nothing wrote", party.what));
}

inline void check_fenced(const Cell& cell, const Party& party, u32 offset) {
  if (cell.landings || fenced(party.clock, cell.write)) return;
  shared_finding("proxy-fence", party, cell.write.site, thread_of(cell.write), offset,
                 format("%s of what line %d writes, with no fence_async() between", party.what,
                        cell.write.site.line));
}

// Keep the reads that say something that this one does not.
inline void remember(Cell& cell, const Event& read, const Party& party) {
  constexpr size_t KEPT = 32;
  auto known = [&](const Event& old) { return knows(party, old); };
  cell.reads.erase(std::remove_if(cell.reads.begin(), cell.reads.end(), known), cell.reads.end());
  if (cell.reads.size() < KEPT) cell.reads.push_back(read);
}

inline void wrote(Cell& cell, const Event& write) {
  cell.write = write;
  cell.reads.clear();
  cell.written = true;
}

inline void check_read(u32 offset, u32 bytes, const Party& party, const Event& read) {
  block().shadow.visit(offset, bytes, [&](Cell& cell, u32 first, u32) {
    check_in_flight(cell, party, first);
    check_written(cell, party, first);
    check_known(cell, party, first);
    remember(cell, read, party);
  });
}

// Before the bytes change: two threads that write the same do no harm.
inline void check_write(u32 offset, u32 bytes, const Party& party, const Event& write,
                        const u8* values) {
  block().shadow.visit(offset, bytes, [&](Cell& cell, u32 first, u32 size) {
    check_in_flight(cell, party, first);
    if (memcmp(&block().shared[first], values + (first - offset), size) != 0)
      check_known(cell, party, first);
    check_unread(cell, party, first);
    wrote(cell, write);
  });
}

// An asynchronous write starts; `proxy` if it does not go through the threads' own path.
inline void begin_landing(u32 offset, u32 bytes, const Party& party, bool proxy) {
  block().shadow.visit(offset, bytes, [&](Cell& cell, u32 first, u32) {
    check_in_flight(cell, party, first);
    check_known(cell, party, first);
    check_unread(cell, party, first);
    if (proxy) check_fenced(cell, party, first);
    cell.landings++;
    cell.landing = party.site;
  });
}
inline void end_landing(u32 offset, u32 bytes, const Event& write) {
  block().shadow.visit(offset, bytes, [&](Cell& cell, u32, u32) {
    cell.landings--;
    wrote(cell, write);
  });
}

// An asynchronous read starts.
inline void begin_reading(u32 offset, u32 bytes, const Party& party) {
  block().shadow.visit(offset, bytes, [&](Cell& cell, u32 first, u32) {
    check_in_flight(cell, party, first);
    check_written(cell, party, first);
    check_known(cell, party, first);
    check_fenced(cell, party, first);
    cell.readers++;
    cell.reader = party.site;
  });
}
inline void end_reading(u32 offset, u32 bytes, const Event& read, const Party& party) {
  block().shadow.visit(offset, bytes, [&](Cell& cell, u32, u32) {
    cell.readers--;
    remember(cell, read, party);
  });
}

}  // namespace tilec::emulated
