// A launch: blocks one after another, as many at a time as are resident, until all have ended or
// none can go on.
#pragma once

#include <algorithm>
#include <mutex>
#include <numeric>
#include <random>

namespace tilec::emulated {

static void finish_thread() {
  Thread& self = *machine->current;
  check_copies_at_end(self);
  end_stores(self);
  self.done = true;
  Block& here = block();
  here.alive--;
  leave_gates(here);
  progress();
  if (here.alive == 0) self.context.leave_for(machine->host);
  leave();
}

static void thread_body() {
  machine->launch.entry(machine->launch.arguments);
  finish_thread();
}

static void check_block_at_end(const Block& here) {
  for (const Warpgroup& group : here.warpgroups) {
    const Flight* flight = !group.open.empty() ? &group.open[0] : nullptr;
    if (!group.groups.empty() && !group.groups[0].empty()) flight = &group.groups[0][0];
    if (flight)
      report({"exit", flight->site, {}, -1, -1, -1, "", {},
              "the block ends while this wgmma is under way"});
  }
  for (const auto& [offset, mbarrier] : here.mbarriers)
    if (!mbarrier.coming.empty() || !mbarrier.late.empty() || !mbarrier.waited)
      report({"exit", mbarrier.loaded.line ? mbarrier.loaded : mbarrier.site, mbarrier.site, -1, -1,
              offset, "shared", {}, "the block ends, and no one waited for what this loads"});
}

static void prepare_thread(Block& block, u32 rank) {
  Thread& thread = block.threads[rank];
  const Launch& launch = machine->launch;
  for (u32 d = 0, rest = rank; d < 3; rest /= launch.block[d], d++) {
    thread.position.thread[d] = rest % launch.block[d];
    thread.position.block[d] = block.index[d];
    thread.position.threads[d] = launch.block[d];
    thread.position.blocks[d] = launch.grid[d];
  }
  thread.position.rank = thread.rank = rank;
  thread.block = &block;
  if (CHECKED) raise(thread.clock.known, rank, 1);
  size_t stack = block.slot * block.threads.size() + rank;
  thread.context.prepare(machine->stacks.stack(stack), Stacks::BYTES, thread_body);
  machine->ready.push_back(&thread);
}

static void start_block(u32 rank, u32 slot) {
  const Launch& launch = machine->launch;
  auto made = std::make_unique<Block>();
  u32 threads = launch.block[0] * launch.block[1] * launch.block[2];
  made->rank = rank;
  made->slot = slot;
  for (u32 d = 0, rest = rank; d < 3; rest /= launch.grid[d], d++)
    made->index[d] = rest % launch.grid[d];
  made->alive = threads;
  made->threads.resize(threads);
  made->warps.resize((threads + WARP - 1) / WARP);
  made->warpgroups.resize((threads + WARPGROUP - 1) / WARPGROUP);
  made->agents = threads + (u32)made->warpgroups.size();
  made->shared.assign(launch.shared_bytes, 0xff);  // NaN in every floating-point type
  if (CHECKED) made->shadow.reset(launch.shared_bytes);
  for (u32 t = 0; t < threads; t++) prepare_thread(*made, t);
  machine->resident[slot] = std::move(made);
}

static std::string detail(const Waiting& waiting, const Block& block) {
  if (waiting.mbarrier)
    return format(": %u arrivals and %lld bytes are missing", waiting.mbarrier->pending,
                  waiting.mbarrier->bytes);
  if (waiting.gate)
    return format(": %u of %u threads have come", waiting.gate->arrived,
                  waiting.gate->expected ? waiting.gate->expected : block.alive);
  return "";
}

// Every place where threads wait for ever, with the first of them.
static void report_stuck() {
  for (auto& resident : machine->resident) {
    if (!resident) continue;
    std::map<std::pair<std::string, int>, std::vector<Thread*>> places;
    for (Thread& t : resident->threads)
      if (!t.done) places[{t.waiting.what, t.waiting.site.line}].push_back(&t);
    for (auto& [place, threads] : places) {
      machine->current = threads[0];
      const Waiting& waiting = threads[0]->waiting;
      report({"deadlock", waiting.site, {}, threads.front()->rank, threads.back()->rank, -1, "", {},
              format("%zu threads wait for ever in %s", threads.size(), waiting.what) +
                  detail(waiting, *resident)});
    }
  }
}

static void end_block(std::unique_ptr<Block>& ended) {
  check_block_at_end(*ended);
  if (CHECKED) machine->statistics->end_block(ended->slot);
  ended.reset();
}

// The blocks in the order in which they start: that of their index, or one by chance.
static std::vector<u32> ordered_blocks() {
  const Launch& launch = machine->launch;
  std::vector<u32> ranks((size_t)launch.grid[0] * launch.grid[1] * launch.grid[2]);
  std::iota(ranks.begin(), ranks.end(), 0u);
  if (launch.order) std::shuffle(ranks.begin(), ranks.end(), std::mt19937_64(launch.order));
  return ranks;
}

static void run_blocks() {
  const std::vector<u32> ranks = ordered_blocks();
  u32 next = 0;
  for (;;) {
    for (u32 slot = 0; slot < machine->resident.size(); slot++)
      if (!machine->resident[slot] && next < ranks.size()) start_block(ranks[next++], slot);
    if (machine->ready.empty()) return report_stuck();
    enter(machine->host, *next_thread());
    Block& left = block();
    if (left.alive == 0) end_block(machine->resident[left.slot]);
    else return machine->stopped ? void() : report_stuck();
  }
}

}  // namespace tilec::emulated

using tilec::emulated::Launch;

struct TilecBuffer { const char* name; void* base; unsigned long long bytes; unsigned writable; };

// Run a launch; gives one JSON object a line: what was found, and what was counted. The text is the
// caller's, to be given to free(); it is null where there is no memory for stacks.
TILEC_EXPORT char* tilec_emulate(const Launch* launch, const TilecBuffer* buffers,
                                 unsigned count) {
  using namespace tilec::emulated;
  static std::mutex one_at_a_time;
  std::lock_guard<std::mutex> turn(one_at_a_time);
  Machine whole(*launch);
  if (!whole.stacks.made()) return nullptr;
  for (unsigned i = 0; i < count; i++)
    whole.buffers.push_back({buffers[i].name, (tilec::u8*)buffers[i].base, buffers[i].bytes,
                             buffers[i].writable != 0, {}});
  whole.statistics = std::make_unique<Statistics>();
  machine = &whole;
  run_blocks();
  machine = nullptr;
  return strdup((whole.findings.json() + whole.statistics->json()).c_str());
}
