// How often each place ran, in how many wavefronts its accesses to shared memory go and how many
// sectors of 32 bytes of global memory they touch, beside the fewest that could do. Accesses of
// single threads count as one of the warp when its threads come to the place the same number of
// times; where only some threads access, that is a guess.
#pragma once

namespace tilec::emulated {

constexpr u64 NOWHERE = ~0ull;

// One access of a warp: by lane the offset into shared memory and the address in global memory.
struct WarpAccess {
  u32 bytes = 0, lanes = 0;
  std::array<u64, WARP> shared, global;
  WarpAccess() { shared.fill(NOWHERE), global.fill(NOWHERE); }
};

class Statistics {
 public:
  // One thread's part of an access.
  void lane(Thread& thread, const char* what, Site site, u32 bytes, u64 shared, u64 global) {
    u32 place = place_of(what, site), warp = thread.rank / WARP;
    if (thread.occurrences.size() <= place) thread.occurrences.resize(place + 1, 0);
    u32 occurrence = thread.occurrences[place]++;
    auto key = std::make_tuple(thread.block->slot, warp, place, occurrence);
    WarpAccess& access = pending_[key];
    access.bytes = bytes;
    access.shared[thread.rank % WARP] = shared;
    access.global[thread.rank % WARP] = global;
    if (++access.lanes < WARP) return;
    add(lines_[place], access);
    pending_.erase(key);
  }

  // A whole access at once; with 0 bytes, of no memory.
  void warp(const char* what, Site site, const WarpAccess& access) {
    add(lines_[place_of(what, site)], access);
  }

  // The block in this slot has ended: what is incomplete now stays so.
  void end_block(u32 slot) {
    auto first = pending_.lower_bound({slot, 0, 0, 0}), last = first;
    for (; last != pending_.end() && std::get<0>(last->first) == slot; ++last)
      add(lines_[std::get<2>(last->first)], last->second);
    pending_.erase(first, last);
  }

  // One JSON object a line.
  std::string json() const {
    std::string out;
    for (const Line& l : lines_) {
      out += format("{\"kind\": \"count\", \"line\": %d, \"operation\": \"%s\", "
                    "\"executions\": %llu, \"wavefronts\": %llu, \"ideal_wavefronts\": %llu, "
                    "\"sectors\": %llu, \"ideal_sectors\": %llu, ",
                    l.site.line, l.what, l.executions, l.wavefronts, l.ideal_wavefronts,
                    l.sectors, l.ideal_sectors) +
             "\"file\": " + quoted(l.site.file) + "}\n";
    }
    return out;
  }

 private:
  struct Line {
    const char* what;
    Site site;
    u64 executions, wavefronts, ideal_wavefronts, sectors, ideal_sectors;
  };

  u32 place_of(const char* what, Site site) {
    for (u32 i : {recent_[0], recent_[1]})
      if (i < lines_.size() && lines_[i].what == what && same(lines_[i].site, site)) return i;
    auto key = std::make_tuple(std::string(what), std::string(site.file), site.line);
    auto found = places_.emplace(key, (u32)lines_.size());
    if (found.second) lines_.push_back({what, site, 0, 0, 0, 0, 0});
    recent_[1] = recent_[0];
    return recent_[0] = found.first->second;
  }

  static void add(Line& line, const WarpAccess& access) {
    line.executions++;
    if (access.bytes == 0) return;
    // A wavefront serves 128 bytes: of wide accesses a part of the warp at a time.
    u32 step = access.bytes == 16 ? 8 : access.bytes == 8 ? 16 : WARP;
    for (u32 first = 0; first < WARP; first += step) {
      u32 waves = wavefronts(&access.shared[first], step, access.bytes);
      line.wavefronts += waves;
      line.ideal_wavefronts += waves > 0;
    }
    add_sectors(line, access);
  }

  // The most words that one of the 32 banks has to give.
  static u32 wavefronts(const u64* offsets, u32 count, u32 bytes) {
    std::vector<u64> words;
    for (u32 i = 0; i < count; i++)
      for (u32 b = 0; offsets[i] != NOWHERE && b < bytes; b += 4)
        words.push_back((offsets[i] + b) / 4);
    unique(words);
    u32 load[32] = {}, most = 0;
    for (u64 word : words) most = std::max(most, ++load[word % 32]);
    return most;
  }

  static void add_sectors(Line& line, const WarpAccess& access) {
    std::vector<u64> sectors, pieces;
    u32 grain = std::min(access.bytes, 4u);
    for (u64 address : access.global) {
      if (address == NOWHERE) continue;
      for (u32 b = 0; b < access.bytes; b += grain) pieces.push_back((address + b) / grain);
    }
    unique(pieces);
    for (u64 piece : pieces) sectors.push_back(piece * grain / 32);
    unique(sectors);
    line.sectors += sectors.size();
    line.ideal_sectors += (pieces.size() * grain + 31) / 32;
  }

  static void unique(std::vector<u64>& values) {
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
  }

  std::vector<Line> lines_;
  std::map<std::tuple<std::string, std::string, int>, u32> places_;
  u32 recent_[2] = {~0u, ~0u};
  std::map<std::tuple<u32, u32, u32, u32>, WarpAccess> pending_;
};

// An operation of a whole warp that accesses no memory in a way that counts.
inline void count(const char* what, Site site) {
  if (CHECKED) machine->statistics->warp(what, site, WarpAccess());
}

}  // namespace tilec::emulated
