// Global memory: the buffers that a kernel may access, and the order of what threads, also those of
// different blocks, write and read there.
#pragma once

namespace tilec::emulated {

inline bool inside(const Buffer& buffer, const void* p, u64 bytes) {
  return (const u8*)p >= buffer.base && (const u8*)p + bytes <= buffer.base + buffer.bytes;
}

inline s64 distance(const Buffer& buffer, const void* p) {
  s64 before = buffer.base - (const u8*)p;
  return before > 0 ? before : std::max<s64>(0, -before - (s64)buffer.bytes);
}

inline void outside(const void* p, u64 bytes, const char* what, Site site) {
  const Buffer* near = nullptr;
  for (const Buffer& b : machine->buffers)
    if (!near || distance(b, p) < distance(*near, p)) near = &b;
  s64 offset = near ? (const u8*)p - near->base : -1;
  report({"out-of-bounds", site, {}, -1, -1, offset, near ? near->name : "", {},
          format("%s of %llu bytes outside every buffer, at byte %lld of the nearest one, %s of "
                 "%llu bytes", what, bytes, offset, near ? near->name.c_str() : "none",
                 near ? near->bytes : 0ull)});
}

// The buffer that these bytes are in; most often that of the access before.
inline Buffer* buffer_of(const void* p, u64 bytes) {
  auto& buffers = machine->buffers;
  size_t& last = machine->last_buffer;
  if (last < buffers.size() && inside(buffers[last], p, bytes)) return &buffers[last];
  for (last = 0; last < buffers.size(); last++)
    if (inside(buffers[last], p, bytes)) return &buffers[last];
  return nullptr;
}

// The buffer of an access that is inside and aligned (buffers are taken to start at a multiple of
// 256); other accesses are findings, and not made.
inline Buffer* locate_global(const void* p, u64 bytes, u32 aligned, bool write, const char* what,
                             Site site) {
  Buffer* buffer = buffer_of(p, bytes);
  if (!buffer) return outside(p, bytes, what, site), nullptr;
  s64 offset = (const u8*)p - buffer->base;
  if (offset % aligned) {
    report({"misaligned", site, {}, -1, -1, offset, buffer->name, {},
            format("%s at a byte that is no multiple of %u", what, aligned)});
    return nullptr;
  }
  if (write && !buffer->writable) {
    report({"read-only", site, {}, -1, -1, offset, buffer->name, {},
            format("%s to a buffer that is only read", what)});
    return nullptr;
  }
  return buffer;
}

// An address for statistics that is the same in every run.
inline u64 place_in(const Buffer& buffer, const void* p) {
  return (u64)(&buffer - machine->buffers.data() + 1) << 40 | (u64)((const u8*)p - buffer.base);
}

inline bool knows(const Thread& thread, const GlobalEvent& event) {
  const Block& own = *thread.block;
  if (event.block == own.rank) {
    Event here = {event.agent, event.clock, event.epoch, true, event.site};
    return knows(thread.clock, here, own.epoch, (u32)own.threads.size());
  }
  if (!thread.clock.foreigners) return false;
  auto found = thread.clock.foreigners->find(event.block);
  if (found == thread.clock.foreigners->end()) return false;
  return event.epoch < found->second.epoch || at(found->second.known, event.agent) >= event.clock;
}

inline void check_global(const Thread& thread, const Buffer& buffer, u64 offset, bool atomic,
                         const char* what, Site site) {
  const GlobalEvent& write = buffer.writes[offset];
  if (write.clock == 0 || (atomic && write.atomic) || knows(thread, write)) return;
  report({"race-global", site, write.site, thread.rank, write.agent, (s64)offset, buffer.name, {},
          format("%s of what line %d writes in %s, and nothing orders the two", what,
                 write.site.line,
                 write.block == thread.block->rank ? "this block" : "another block")});
}

inline void note_global_read(const Thread& thread, Buffer& buffer, const void* p, u32 bytes,
                             bool atomic, const char* what, Site site) {
  if (!CHECKED || buffer.writes.empty()) return;
  u64 first = (u64)((const u8*)p - buffer.base);
  for (u32 i = 0; i < bytes; i++) check_global(thread, buffer, first + i, atomic, what, site);
}

// Before the bytes change: writers of the same value do no harm.
inline void note_global_write(const Thread& thread, Buffer& buffer, u8* p, const u8* values,
                              u32 bytes, bool atomic, const char* what, Site site) {
  if (!CHECKED) return;
  if (buffer.writes.empty()) buffer.writes.resize(buffer.bytes, GlobalEvent{});
  Event event = event_of(thread, site);
  u64 first = (u64)(p - buffer.base);
  for (u32 i = 0; i < bytes; i++) {
    if (atomic || p[i] != values[i])
      check_global(thread, buffer, first + i, atomic, what, site);
    buffer.writes[first + i] = {thread.block->rank, event.agent, event.clock, event.epoch, atomic,
                                site};
  }
}

inline void count_global(const char* what, const Buffer& buffer, const void* p, u32 bytes,
                         Site site) {
  if (CHECKED)
    machine->statistics->lane(*machine->current, what, site, bytes, NOWHERE, place_in(buffer, p));
}

void load_global(void* to, const void* from, u32 bytes, Site site) {
  memset(to, 0xff, bytes);
  Buffer* buffer = locate_global(from, bytes, bytes, false, "load", site);
  if (!buffer) return;
  Thread& self = *machine->current;
  note_global_read(self, *buffer, from, bytes, false, "load", site);
  count_global("load_global", *buffer, from, bytes, site);
  memcpy(to, from, bytes);
}

void store_global(void* to, const void* from, u32 bytes, Site site) {
  Buffer* buffer = locate_global(to, bytes, bytes, true, "store", site);
  if (!buffer) return;
  Thread& self = *machine->current;
  note_global_write(self, *buffer, (u8*)to, (const u8*)from, bytes, false, "store", site);
  count_global("store_global", *buffer, to, bytes, site);
  memcpy(to, from, bytes);
  progress();
}

}  // namespace tilec::emulated
