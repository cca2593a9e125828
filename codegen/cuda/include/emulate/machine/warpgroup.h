// wgmma: four warps multiply asynchronously. Operands in shared memory are read, and accumulators
// written, when the group is waited for; until then the accumulators are NaN in the kernel.
#pragma once

namespace tilec::emulated {

static Warpgroup& warpgroup() { return block().warpgroups[machine->current->rank / WARPGROUP]; }
static u32 first_of_warpgroup() { return machine->current->rank / WARPGROUP * WARPGROUP; }

template <class Work>
static void warpgroup_meet(const char* what, void* mine, Site site, Work work) {
  if (first_of_warpgroup() + WARPGROUP > block().threads.size())
    stop({"divergence", site, {}, -1, -1, -1, "", {},
          format("%s in a warpgroup of fewer than 128 threads", what)});
  meet(warpgroup().rendezvous, first_of_warpgroup(), WARPGROUP, what, mine, site, work);
}

// Call see(i, address) for the runs of 16 bytes that a descriptor names. A line is a row if it is
// K-major, with two runs, and one of 16 k if MN-major, with a run for each 8 rows; of what a sparse
// A is multiplied by there is twice as much along k (`steps`). (PTX ISA, wgmma, shared memory
// layout; CUTLASS, make_gmma_desc.)
template <class See>
static void for_runs(u64 descriptor, bool mn, u32 rows, u32 steps, See see) {
  u32 start = (u32)(descriptor & 0x3fff) << 4, leading = (u32)(descriptor >> 16 & 0x3fff) << 4;
  u32 stride = (u32)(descriptor >> 32 & 0x3fff) << 4;
  constexpr u32 widths[] = {16, 128, 64, 32};
  Swizzle swizzle = (Swizzle)(descriptor >> 62);
  u32 width = widths[(u32)swizzle], lines = mn ? 16 * steps : rows;
  u32 runs = mn ? rows / 8 : 2 * steps;
  // Without a swizzle the two distances change places in MN-major matrices.
  if (mn && swizzle == Swizzle::none) std::swap(leading, stride);
  for (u32 i = 0; i < lines; i++) {
    u32 line = start + i / 8 * stride + i % 8 * width;
    for (u32 run = 0; run < runs; run++) {
      u32 at = line + run * 16 / width * leading + run * 16 % width;
      see(i * runs + run, swizzled(at, swizzle));
    }
  }
}

// A swizzle counts lines from a multiple of 8 lines; no other start is modelled.
static void check_start(u64 descriptor, Site site) {
  constexpr u32 widths[] = {16, 128, 64, 32};
  u32 start = (u32)(descriptor & 0x3fff) << 4, width = widths[descriptor >> 62];
  if (width > 16 && (start % (8 * width) >= width || (descriptor >> 49 & 7)))
    report({"descriptor", site, {}, -1, -1, (s64)start - BASE, "shared", {},
            format("wgmma: the swizzled operand starts in line %u of 8, expected the first",
                   start % (8 * width) / width)});
}

// The operand as rows x k doubles. Runs outside shared memory were found when it was issued.
static void read_operand(u64 descriptor, bool mn, u32 rows, u32 steps, Element element, double* to) {
  u32 each = 128 / bits_of(element), k = steps * 256 / bits_of(element), runs = 2 * steps;
  for_runs(descriptor, mn, rows, steps, [&](u32 i, u32 address) {
    u32 words[4];
    double values[128];
    memset(words, 0xff, 16);
    if (address >= BASE && address - BASE + 16 <= block().shared.size())
      memcpy(words, &block().shared[address - BASE], 16);
    for (u32 w = 0; w < 4; w++) decode(element, words[w], &values[w * each / 4]);
    for (u32 v = 0; v < each; v++)
      to[mn ? (i % (rows / 8) * 8 + v) * k + i / (rows / 8)
            : i / runs * k + i % runs * each + v] = values[v];
  });
}

// What all of the four warps know.
static Clock common_clock() {
  Clock common = block().threads[first_of_warpgroup()].clock;
  for (u32 warp = 1; warp < 4; warp++) {
    const Clock& other = block().threads[first_of_warpgroup() + warp * WARP].clock;
    for (u32 i = 0; i < common.known.size(); i++)
      common.known[i] = std::min(common.known[i], at(other.known, i));
    for (u32 i = 0; i < common.proxied.size(); i++)
      common.proxied[i] = std::min(common.proxied[i], at(other.proxied, i));
    common.proxied_epoch = std::min(common.proxied_epoch, other.proxied_epoch);
  }
  return common;
}

// Call see(descriptor, MN-major, rows, steps) for the operands in shared memory.
template <class See> static void for_operands(const Flight& flight, See see) {
  if (flight.a_registers.empty()) see(flight.a, flight.shape.a_mn, 64u, 1u);
  see(flight.b, flight.shape.b_mn, flight.shape.n, 1u + flight.shape.sparse);
}

static void begin_operands(const Flight& flight) {
  if (!CHECKED) return;
  Clock common = common_clock();
  Party party = {common, first_of_warpgroup(), flight.site, "wgmma"};
  for_operands(flight, [&](u64 descriptor, bool mn, u32 rows, u32 steps) {
    check_start(descriptor, flight.site);
    for_runs(descriptor, mn, rows, steps, [&](u32, u32 address) {
      u32 offset;
      if (locate_shared(address, 16, 16, "wgmma", flight.site, offset))
        begin_reading(offset, 16, party);
    });
  });
}

// The reads become events of the matrix unit, which everyone in the warpgroup knows from here on.
static void end_operands(const Flight& flight) {
  if (!CHECKED) return;
  u32 agent = (u32)block().threads.size() + machine->current->rank / WARPGROUP;
  Event event = {agent, ++warpgroup().ticks, block().epoch, false, flight.site};
  for (u32 t = 0; t < WARPGROUP; t++)
    raise(block().threads[first_of_warpgroup() + t].clock.known, agent, event.clock);
  Party party = party_of(*machine->current, flight.site, "wgmma");
  for_operands(flight, [&](u64 descriptor, bool mn, u32 rows, u32 steps) {
    for_runs(descriptor, mn, rows, steps, [&](u32, u32 address) {
      if (address >= BASE && address - BASE + 16 <= block().shared.size())
        end_reading(address - BASE, 16, event, party);
    });
  });
}

}  // namespace tilec::emulated
