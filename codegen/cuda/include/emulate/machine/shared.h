// Shared memory: bounds, alignment, loads and stores.
#pragma once

namespace tilec::emulated {

// Where the copy unit puts, and matrix units find, what belongs at an address.
inline u32 swizzled(u32 address, Swizzle swizzle) {
  constexpr u32 bits[] = {0, 0x70, 0x30, 0x10};
  return address ^ (address >> 3 & bits[(u32)swizzle]);
}

inline Party party_of(const Thread& thread, Site site, const char* what) {
  return {thread.clock, thread.rank, site, what};
}

// The offset of an access that is inside and aligned; other accesses are findings, and not made.
inline bool locate_shared(u32 address, u32 bytes, u32 aligned, const char* what, Site site,
                          u32& offset) {
  offset = address - BASE;
  u64 size = block().shared.size();
  if (address < BASE || (u64)offset + bytes > size) {
    report({"shared-bounds", site, {}, -1, -1, (s64)address - BASE, "shared", {},
            format("%s of %u bytes outside the %llu bytes of shared memory", what, bytes, size)});
    return false;
  }
  if (address % aligned != 0) {
    report({"misaligned", site, {}, -1, -1, offset, "shared", {},
            format("%s at an address that is no multiple of %u", what, aligned)});
    return false;
  }
  return true;
}

void load_shared(void* to, u32 address, u32 bytes, Site site) {
  u32 offset;
  memset(to, 0xff, bytes);
  if (!locate_shared(address, bytes, bytes, "load", site, offset)) return;
  Thread& self = *machine->current;
  if (CHECKED) {
    check_read(offset, bytes, party_of(self, site, "load"), event_of(self, site));
    machine->statistics->lane(self, "load_shared", site, bytes, offset, NOWHERE);
  }
  memcpy(to, &block().shared[offset], bytes);
}

void store_shared(u32 address, const void* from, u32 bytes, Site site) {
  u32 offset;
  if (!locate_shared(address, bytes, bytes, "store", site, offset)) return;
  Thread& self = *machine->current;
  if (CHECKED) {
    check_write(offset, bytes, party_of(self, site, "store"), event_of(self, site),
                (const u8*)from);
    machine->statistics->lane(self, "store_shared", site, bytes, offset, NOWHERE);
  }
  memcpy(&block().shared[offset], from, bytes);
}

}  // namespace tilec::emulated
