// The life of a wgmma: issued, committed in a group, waited for.
#pragma once

namespace tilec::emulated {

struct WgmmaLane { u32* d; const u32* a_registers; u64 a, b; u32 metadata; bool accumulate; };

static void register_finding(const char* kind, Site site, Site other, u32 thread,
                             const char* message) {
  report({kind, site, other, first_of_warpgroup() + thread, -1, -1, "", {}, message});
}

// Registers that the kernel changed after the last wgmma_fence().
static void check_fence(Warpgroup& group, const u32* registers, u32 count, u32 thread, Site site) {
  auto found = group.fenced_values.find(registers);
  if (found == group.fenced_values.end()) {
    group.fenced_values[registers].assign(registers, registers + count);
  } else if (memcmp(found->second.data(), registers, count * 4) != 0) {
    register_finding("wgmma-fence", site, {}, thread,
                     "registers of this wgmma changed after the last wgmma_fence()");
    found->second.assign(registers, registers + count);
  }
}

static bool poisoned(const Held& held) {
  for (u32 i = 0; i < held.count; i++)
    if (held.registers[i] != ~0u) return false;
  return true;
}

// Keep a thread's accumulators here and leave NaN in the kernel.
static void take(Warpgroup& group, u32* registers, u32 count, u32 thread, Site site) {
  Held& held = group.held[registers];
  if (held.flights++ == 0) {
    if (CHECKED) check_fence(group, registers, count, thread, site);
    held.registers = registers;
    held.count = count;
    held.values.assign(registers, registers + count);
    std::fill(registers, registers + count, ~0u);
  } else if (!poisoned(held)) {
    register_finding("wgmma-register", site, {}, thread,
                     "accumulators changed while a wgmma that writes them is under way");
  }
}

static void give_back(Warpgroup& group, u32* registers, u32 thread, Site site) {
  Held& held = group.held[registers];
  if (--held.flights) return;
  if (!poisoned(held))
    register_finding("wgmma-register", site, {}, thread,
                     "accumulators changed while this wgmma was under way");
  std::copy(held.values.begin(), held.values.end(), registers);
  if (CHECKED) group.fenced_values[registers] = held.values;
}

static void check_uniform(void** of, Site site) {
  const WgmmaLane& first = *(WgmmaLane*)of[0];
  for (u32 t = 1; t < WARPGROUP; t++) {
    const WgmmaLane& lane = *(WgmmaLane*)of[t];
    if (lane.a != first.a || lane.b != first.b || lane.accumulate != first.accumulate)
      stop({"descriptor", site, {}, first_of_warpgroup() + t, first_of_warpgroup(), -1, "", {},
            "wgmma: the threads of a warpgroup give different operands"});
  }
}

static void issue(const WarpgroupProduct& shape, void** of, Site site) {
  check_uniform(of, site);
  const WgmmaLane& first = *(WgmmaLane*)of[0];
  Warpgroup& group = warpgroup();
  if (!group.fenced)
    register_finding("wgmma-fence", site, {}, 0, "no wgmma_fence() before the first wgmma");
  Flight flight = {shape, first.a, first.b, {}, {}, {}, {}, site};
  for (u32 t = 0; t < WARPGROUP; t++) {
    const WgmmaLane& lane = *(WgmmaLane*)of[t];
    take(group, lane.d, shape.registers, t, site);
    flight.d.push_back(lane.d);
    flight.metadata.push_back(lane.metadata);
    if (!lane.a_registers) continue;
    if (CHECKED) check_fence(group, lane.a_registers, 4, t, site);
    flight.a_registers.push_back(lane.a_registers);
    flight.a_values.insert(flight.a_values.end(), lane.a_registers, lane.a_registers + 4);
  }
  begin_operands(flight);
  group.open.push_back(std::move(flight));
}

void wgmma(const WarpgroupProduct& shape, void* d, const u32* a_registers, u64 a, u64 b,
           u32 metadata, Site site) {
  WgmmaLane mine = {(u32*)d, a_registers, a, b, metadata, shape.accumulate};
  warpgroup_meet("wgmma", &mine, site, [&](void** of) {
    count(shape.sparse ? "wgmma_sp" : "wgmma", site);
    issue(shape, of, site);
  });
}

static u32 row_of(u32 thread, u32 i) {
  return thread / WARP * 16 + thread % WARP / 4 + 8 * (i >> 1 & 1);
}
static u32 column_of(u32 thread, u32 i) { return (i >> 2) * 8 + thread % 4 * 2 + (i & 1); }

static void read_stored(const Flight& flight, double* a) {
  const WarpgroupProduct& shape = flight.shape;
  if (flight.a_registers.empty()) return read_operand(flight.a, shape.a_mn, 64, 1, shape.a, a);
  u32 k = 256 / bits_of(shape.a);
  for (u32 t = 0; t < WARPGROUP; t++)
    gather_rows(&flight.a_values[t * 4], 4, shape.a, t % WARP, k, a + t / WARP * 16 * k);
}

static void read_a(const Flight& flight, u32 k, double* a) {
  static double stored[64 * 256];
  const WarpgroupProduct& shape = flight.shape;
  if (!shape.sparse) return read_stored(flight, a);
  read_stored(flight, stored);
  for (u32 warp = 0; warp < 4; warp++)
    spread(shape.a, shape.selector, k, &flight.metadata[warp * WARP], stored + warp * 8 * k,
           a + warp * 16 * k, flight.site);
}

static void calculate(const Flight& flight) {
  static double a[64 * 256], b[256 * 256], d[64 * 256];
  const WarpgroupProduct& shape = flight.shape;
  auto& held = warpgroup().held;
  u32 steps = 1 + shape.sparse, k = steps * 256 / bits_of(shape.a);
  read_a(flight, k, a);
  read_operand(flight.b, shape.b_mn, shape.n, steps, shape.b, b);
  for (u32 t = 0; t < WARPGROUP; t++) {
    const u32* values = held[flight.d[t]].values.data();
    for (u32 i = 0; i < shape.n / 2; i++)
      d[row_of(t, i) * shape.n + column_of(t, i)] =
          shape.accumulate ? accumulated(shape.sum, values, i) : 0;
  }
  multiply(a, b, d, 64, shape.n, k);
  for (u32 t = 0; t < WARPGROUP; t++) {
    u32* values = held[flight.d[t]].values.data();
    for (u32 i = 0; i < shape.n / 2; i++)
      accumulate(shape.sum, values, i, d[row_of(t, i) * shape.n + column_of(t, i)]);
  }
}

static void finish(const Flight& flight) {
  calculate(flight);
  end_operands(flight);
  Warpgroup& group = warpgroup();
  for (u32 t = 0; t < WARPGROUP; t++) {
    give_back(group, flight.d[t], t, flight.site);
    if (!flight.a_registers.empty() &&
        memcmp(&flight.a_values[t * 4], flight.a_registers[t], 16) != 0)
      register_finding("wgmma-register", flight.site, {}, t,
                       "the registers of A changed while this wgmma was under way");
  }
}

void wgmma_fence(Site site) {
  warpgroup_meet("wgmma_fence", nullptr, site, [](void**) {
    Warpgroup& group = warpgroup();
    group.fenced = true;
    for (auto& [registers, values] : group.fenced_values) {
      auto held = group.held.find((u32*)registers);
      if (held == group.held.end() || held->second.flights == 0)
        values.assign(registers, registers + values.size());
    }
  });
}

void wgmma_commit(Site site) {
  warpgroup_meet("wgmma_commit", nullptr, site, [](void**) {
    warpgroup().groups.push_back(std::move(warpgroup().open));
    warpgroup().open.clear();
  });
}

void wgmma_wait(u32 pending, Site site) {
  warpgroup_meet("wgmma_wait", nullptr, site, [&](void**) {
    auto& groups = warpgroup().groups;
    for (; groups.size() > pending; groups.pop_front())
      for (const Flight& flight : groups.front()) finish(flight);
  });
}

}  // namespace tilec::emulated
