// Everything that a launch consists of. Offsets into shared memory count from its base.
#pragma once

#include <deque>
#include <functional>
#include <string>

#ifndef TILEC_CHECK
#define TILEC_CHECK 1
#endif

namespace tilec::emulated {

constexpr bool CHECKED = TILEC_CHECK;
constexpr u32 WARP = 32, WARPGROUP = 128, BASE = 1024, GATES = 16;

struct Block;

// Copies that a thread started and did not yet commit, or committed together.
struct Copy { u32 to; const u8* from; u32 bytes; bool keep; Site site; };
struct Chunk {
  u32 group;               // how many groups the thread had closed before
  std::vector<Copy> copies;
  bool shared = false;     // with an mbarrier, so that it takes no more copies
  bool landed = false;
};

// A tensor map as the host encodes it for emulation. Dimensions start with the innermost, whose
// elements are adjacent; strides are in bytes, of the other dimensions.
struct TensorLayout {
  u64 base, sizes[5], strides[4];
  u16 box[5];
  u8 rank, swizzle, bytes;
};

// A bulk store: of plain bytes to `to`, or of a box of a tensor.
struct BulkStore {
  u8* to;
  TensorLayout tensor;
  s32 corner[5];
  u32 from, bytes;
  Site site;
  std::vector<u8> taken;   // what was read of shared memory, once it was
};

// What a thread waits for.
struct Gate;
struct Mbarrier;
struct Waiting {
  const char* what = "";
  Site site;
  const Gate* gate = nullptr;
  const Mbarrier* mbarrier = nullptr;
};

struct Thread {
  Position position;
  Context context;
  Block* block = nullptr;
  u32 rank = 0;
  bool done = false;
  Waiting waiting;
  Clock clock;
  SharedForeigners fenced, observed;          // what its last fence covered, what it saw since
  u32 groups = 0;                             // of copies, closed so far
  std::deque<std::shared_ptr<Chunk>> chunks;  // not yet landed
  std::vector<BulkStore> open_stores;
  std::deque<std::vector<BulkStore>> stores;
  std::vector<u32> occurrences;               // by place: how often it came there
};

// Where the threads of a warp or a warpgroup meet.
struct Rendezvous {
  u32 arrived = 0;
  const char* what = "";
  Site site;
  void* of[WARPGROUP] = {};
};

// A hardware barrier.
struct Gate {
  u32 arrived = 0, expected = 0;
  std::vector<Thread*> waiting;
  Clock clock;
  std::map<u32, Site> sites;                  // by warp
};

struct Mbarrier {
  u32 count = 0, pending = 0, phase = 0;
  s64 bytes = 0;                              // expected and not yet come
  Clock clock, ended;                         // of all arrivals; when the last phase ended
  u32 agent = 0, ticks = 0, owner = 0;
  std::vector<Thread*> waiting;
  std::vector<std::function<void()>> late;    // what lands when the phase ends
  std::vector<std::pair<u32, std::function<void()>>> coming;  // bytes that have not come, likewise
  Site site, loaded;
  bool fenced = false, waited = true;
};

// The accumulators of one thread's wgmma, kept here while they are NaN in the kernel.
struct Held { u32* registers; u32 count; std::vector<u32> values; u32 flights = 0; };

struct Flight {                               // a wgmma that was not waited for
  WarpgroupProduct shape;
  u64 a, b;
  std::vector<const u32*> a_registers;        // by thread; empty where a is in shared memory
  std::vector<u32> a_values;
  std::vector<u32*> d;
  std::vector<u32> metadata;                  // by thread, of a sparse a
  Site site;
};

struct Warpgroup {
  Rendezvous rendezvous;
  std::vector<Flight> open;
  std::deque<std::vector<Flight>> groups;
  std::map<u32*, Held> held;                  // by the registers of each thread
  std::map<const u32*, std::vector<u32>> fenced_values;
  bool fenced = false;
  u32 ticks = 0;
};

struct Block {
  u32 index[3] = {};
  u32 rank = 0, alive = 0, slot = 0;
  std::vector<Thread> threads;
  std::vector<Rendezvous> warps;
  std::vector<Warpgroup> warpgroups;
  Gate gates[GATES];
  std::map<u32, Mbarrier> mbarriers;          // by offset
  std::vector<u8> shared;
  Shadow shadow;
  u32 epoch = 1, agents = 0;
  bool proxied = false;                       // a fence of the asynchronous proxy since the epoch
};

// A part of global memory that the kernel may access.
struct GlobalEvent { u32 block, agent, clock, epoch; bool atomic; Site site; };
struct Buffer {
  std::string name;
  u8* base;
  u64 bytes;
  bool writable;
  std::vector<GlobalEvent> writes;            // by byte, once one was written
};

struct Launch {
  u32 grid[3], block[3];
  u32 shared_bytes, resident;
  u64 seed, order;
  void (*entry)(void**);
  void** arguments;
};

class Statistics;

struct Machine {
  Launch launch;
  std::vector<Buffer> buffers;
  size_t last_buffer = 0;
  Stacks stacks;
  std::vector<std::unique_ptr<Block>> resident;
  std::deque<Thread*> ready;
  Thread* current = nullptr;
  Context host;
  u64 random;
  u64 idle = 0;                               // turns since a thread last got on
  bool stopped = false;
  Findings findings;
  std::unique_ptr<Statistics> statistics;
  std::map<const void*, SharedForeigners> released;  // by address: what its releases published

  explicit Machine(const Launch& given)
      : launch(given),
        stacks((size_t)given.block[0] * given.block[1] * given.block[2] * given.resident),
        resident(given.resident),
        random(given.seed) {}
};

extern Machine* machine;

inline Block& block() { return *machine->current->block; }

// Record a finding of the running thread.
inline void report(Finding finding) {
  const Thread& self = *machine->current;
  if (finding.thread < 0) finding.thread = self.rank;
  std::copy(self.block->index, self.block->index + 3, finding.block);
  machine->findings.add(std::move(finding));
}

// Record a finding after which no more can be said, and end the launch.
[[noreturn]] inline void stop(Finding finding) {
  report(std::move(finding));
  machine->stopped = true;
  machine->current->context.leave_for(machine->host);
  __builtin_unreachable();
}

}  // namespace tilec::emulated
