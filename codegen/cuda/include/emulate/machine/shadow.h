// What happened to every byte of shared memory. Words are told apart, and bytes where something
// smaller than a word was accessed.
#pragma once

#include <array>
#include <unordered_map>

namespace tilec::emulated {

struct Cell {
  Event write;                // the last one
  std::vector<Event> reads;   // since then, the first few that are not ordered to each other
  Site landing, reader;       // what asynchronous operation writes it now, or reads it
  u32 landings = 0, readers = 0;
  bool written = false, mbarrier = false;
};

class Shadow {
 public:
  void reset(u32 bytes) {
    words_.assign((bytes + 3) / 4, Cell());
    split_.clear();
  }

  // Call see(cell, offset, bytes) for the cells that these bytes are in.
  template <class See> void visit(u32 offset, u32 bytes, See see) {
    for (u32 word = offset / 4; word <= (offset + bytes - 1) / 4; word++) {
      u32 first = std::max(offset, word * 4), last = std::min(offset + bytes, word * 4 + 4);
      if (last - first == 4 && (split_.empty() || !split_.count(word))) {
        see(words_[word], first, 4u);
      } else {
        auto& cells = bytes_of(word);
        for (u32 i = first; i < last; i++) see(cells[i % 4], i, 1u);
      }
    }
  }

 private:
  std::array<Cell, 4>& bytes_of(u32 word) {
    auto found = split_.find(word);
    if (found != split_.end()) return found->second;
    const Cell& whole = words_[word];
    return split_.emplace(word, std::array<Cell, 4>{whole, whole, whole, whole}).first->second;
  }

  std::vector<Cell> words_;
  std::unordered_map<u32, std::array<Cell, 4>> split_;
};

}  // namespace tilec::emulated
