// Who knows of which accesses: vector clocks. An agent is a thread of a block, or one that acts for
// hardware: a warpgroup's matrix unit, the copy unit behind an mbarrier. A barrier of the whole
// block starts a new epoch; then everyone knows all that threads did in the ones before.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <vector>

namespace tilec::emulated {

// An access that may have to be ordered against later ones.
struct Event {
  u32 agent = 0, clock = 0, epoch = 0;  // clock 0: there was none
  bool generic = true;                  // by a thread, not by the asynchronous proxy
  Site site = {};
};

inline void raise(std::vector<u32>& clocks, u32 agent, u32 clock) {
  if (clocks.size() <= agent) clocks.resize(agent + 1, 0);
  clocks[agent] = std::max(clocks[agent], clock);
}
inline void raise(std::vector<u32>& clocks, const std::vector<u32>& others) {
  if (clocks.size() < others.size()) clocks.resize(others.size(), 0);
  for (size_t i = 0; i < others.size(); i++) clocks[i] = std::max(clocks[i], others[i]);
}
inline u32 at(const std::vector<u32>& clocks, u32 agent) {
  return agent < clocks.size() ? clocks[agent] : 0;
}

// What is known of another block: all before an epoch, and its agents' events up to a clock.
struct Foreign {
  u32 epoch = 0;
  std::vector<u32> known;
};
using Foreigners = std::map<u32, Foreign>;
using SharedForeigners = std::shared_ptr<const Foreigners>;

inline SharedForeigners merged(const SharedForeigners& a, const SharedForeigners& b) {
  if (a == b || !b) return a;
  if (!a) return b;
  auto both = std::make_shared<Foreigners>(*a);
  for (const auto& [block, news] : *b) {
    Foreign& known = (*both)[block];
    known.epoch = std::max(known.epoch, news.epoch);
    raise(known.known, news.known);
  }
  return both;
}

struct Clock {
  std::vector<u32> known;     // by agent: the last of its events that is known
  std::vector<u32> proxied;   // likewise, and fenced for the asynchronous proxy
  u32 proxied_epoch = 0;      // all before this epoch is fenced, too
  SharedForeigners foreigners;

  void join(const Clock& other) {
    raise(known, other.known);
    raise(proxied, other.proxied);
    proxied_epoch = std::max(proxied_epoch, other.proxied_epoch);
    foreigners = merged(foreigners, other.foreigners);
  }
};

// Whether everyone who has `clock` knows of the event. `threads` agents are threads, whose events
// of earlier epochs all know.
inline bool knows(const Clock& clock, const Event& event, u32 epoch, u32 threads) {
  if (event.clock == 0 || (event.agent < threads && event.epoch < epoch)) return true;
  return at(clock.known, event.agent) >= event.clock;
}

// Whether the event is also ordered for the asynchronous proxy.
inline bool fenced(const Clock& clock, const Event& event) {
  if (event.clock == 0 || !event.generic || event.epoch < clock.proxied_epoch) return true;
  return at(clock.proxied, event.agent) >= event.clock;
}

}  // namespace tilec::emulated
