// The bulk copy unit. A load lands when its mbarrier is waited for; a store reads shared memory
// when it is waited for, and writes global memory then or when its thread ends.
#pragma once

namespace tilec::emulated {

static TensorLayout layout_of(const Box& box, const char* what, Site site) {
  TensorLayout layout;
  memcpy(&layout, box.map->opaque, sizeof layout);
  if (layout.rank != box.rank)
    stop({"tensor-map", site, {}, -1, -1, -1, "", {},
          format("%s with %u coordinates of a tensor map of %u dimensions", what, box.rank,
                 layout.rank)});
  return layout;
}

static u32 bytes_of_box(const TensorLayout& layout) {
  u32 bytes = layout.bytes;
  for (u32 d = 0; d < layout.rank; d++) bytes *= layout.box[d];
  return bytes;
}

// A row of a box: `inside` elements from `p` on, after `before` elements outside the tensor.
struct BoxRow { u32 number; u8* p; u32 before, inside; };

// Call see(row) for the rows of a box, a row being along the innermost dimension.
template <class See>
static void for_box(const TensorLayout& layout, const s32* corner, See see) {
  u32 rows = bytes_of_box(layout) / layout.box[0] / layout.bytes;
  s64 first = std::max<s64>(corner[0], 0);
  s64 last = std::min<s64>((s64)corner[0] + layout.box[0], (s64)layout.sizes[0]);
  for (u32 row = 0; row < rows; row++) {
    u8* p = (u8*)layout.base + first * layout.bytes;
    bool within = first < last;
    for (u32 d = 1, rest = row; d < layout.rank; rest /= layout.box[d], d++) {
      s64 at = (s64)corner[d] + rest % layout.box[d];
      within = within && at >= 0 && at < (s64)layout.sizes[d];
      p += at * (s64)layout.strides[d - 1];
    }
    see(BoxRow{row, p, within ? (u32)(first - corner[0]) : 0, within ? (u32)(last - first) : 0});
  }
}

// Call see(place in the box, offset into shared memory) for its runs of 16 bytes.
template <class See>
static void for_box_runs(const TensorLayout& layout, u32 start, u32 bytes, See see) {
  for (u32 i = 0; i < bytes; i += 16)
    see(i, swizzled(start + BASE + i, (Swizzle)layout.swizzle) - BASE);
}

static Buffer* locate_tensor(const TensorLayout& layout, bool write, const char* what, Site site) {
  u64 bytes = layout.sizes[0] * layout.bytes;
  for (u32 d = 1; d < layout.rank; d++) bytes += (layout.sizes[d] - 1) * layout.strides[d - 1];
  return locate_global((u8*)layout.base, bytes, 16, write, what, site);
}

// An mbarrier that the copy unit may count on.
static Mbarrier& arrival(u32 address, const char* what, Site site) {
  Mbarrier& mbarrier = mbarrier_at(address, what, site);
  check_made(address, mbarrier, what, site);
  if (!mbarrier.fenced)
    report({"proxy-fence", site, mbarrier.site, -1, -1, (s64)address - BASE, "shared", {},
            format("%s on an mbarrier with no fence_mbarrier_init() after line %d", what,
                   mbarrier.site.line)});
  return mbarrier;
}

// Start a load of bytes that `put` puts into shared memory once they land.
template <class Put>
static void start_load(u32 offset, u32 bytes, Mbarrier& mbarrier, const char* what, Site site,
                       Put put) {
  Thread& self = *machine->current;
  if (CHECKED) begin_landing(offset, bytes, party_of(self, site, what), true);
  count(what, site);
  mbarrier.loaded = site;
  mbarrier.coming.emplace_back(bytes, [=, &mbarrier] {
    put(&block().shared[0]);
    if (!CHECKED) return;
    Event event = {mbarrier.agent, ++mbarrier.ticks, block().epoch, false, site};
    raise(mbarrier.clock.known, mbarrier.agent, event.clock);
    end_landing(offset, bytes, event);
  });
  if (!mbarrier.waiting.empty()) bring(mbarrier);
}

static bool is_whole(u32 bytes, const char* what, Site site) {
  if (bytes % 16 == 0) return true;
  report({"misaligned", site, {}, -1, -1, -1, "shared", {},
          format("%s of %u bytes, expected a multiple of 16", what, bytes)});
  return false;
}

void bulk_load(u32 to, const void* from, u32 bytes, u32 arrive, Site site) {
  u32 offset;
  Mbarrier& mbarrier = arrival(arrive, "bulk_load", site);
  if (!is_whole(bytes, "bulk_load", site)) return;
  if (!locate_shared(to, bytes, 16, "bulk_load", site, offset)) return;
  Buffer* source = locate_global(from, bytes, 16, false, "bulk_load", site);
  if (!source) return;
  note_global_read(*machine->current, *source, from, bytes, false, "bulk_load", site);
  start_load(offset, bytes, mbarrier, "bulk_load", site,
             [=](u8* shared) { memcpy(shared + offset, from, bytes); });
}

void tensor_load(u32 to, const Box& box, u32 arrive, Site site) {
  u32 offset;
  TensorLayout layout = layout_of(box, "tensor_load", site);
  Mbarrier& mbarrier = arrival(arrive, "tensor_load", site);
  u32 bytes = bytes_of_box(layout);
  if (!locate_shared(to, bytes, 128, "tensor_load", site, offset)) return;
  Buffer* source = locate_tensor(layout, false, "tensor_load", site);
  if (!source) return;
  std::array<s32, 5> corner;
  std::copy(box.at, box.at + 5, corner.begin());
  for_box(layout, corner.data(), [&](const BoxRow& row) {
    note_global_read(*machine->current, *source, row.p, row.inside * layout.bytes, false,
                     "tensor_load", site);
  });
  start_load(offset, bytes, mbarrier, "tensor_load", site, [=](u8* shared) {
    std::vector<u8> values(bytes, 0);
    u32 width = layout.box[0] * layout.bytes;
    for_box(layout, corner.data(), [&](const BoxRow& row) {
      u8* at = &values[row.number * width + row.before * layout.bytes];
      if (row.inside) memcpy(at, row.p, row.inside * layout.bytes);
    });
    for_box_runs(layout, offset, bytes,
                 [&](u32 i, u32 place) { memcpy(shared + place, &values[i], 16); });
  });
}

static void start_store(BulkStore store, const char* what) {
  Thread& self = *machine->current;
  if (CHECKED) begin_reading(store.from, store.bytes, party_of(self, store.site, what));
  count(what, store.site);
  self.open_stores.push_back(std::move(store));
}

void bulk_store(void* to, u32 from, u32 bytes, Site site) {
  u32 offset;
  if (!is_whole(bytes, "bulk_store", site)) return;
  if (!locate_shared(from, bytes, 16, "bulk_store", site, offset)) return;
  if (!locate_global(to, bytes, 16, true, "bulk_store", site)) return;
  start_store({(u8*)to, {}, {}, offset, bytes, site, {}}, "bulk_store");
}

void tensor_store(const Box& box, u32 from, Site site) {
  u32 offset;
  TensorLayout layout = layout_of(box, "tensor_store", site);
  u32 bytes = bytes_of_box(layout);
  if (!locate_shared(from, bytes, 128, "tensor_store", site, offset)) return;
  if (!locate_tensor(layout, true, "tensor_store", site)) return;
  BulkStore store = {nullptr, layout, {}, offset, bytes, site, {}};
  std::copy(box.at, box.at + 5, store.corner);
  start_store(std::move(store), "tensor_store");
}

static void take(BulkStore& store) {
  if (!store.taken.empty()) return;
  Thread& self = *machine->current;
  store.taken.resize(store.bytes);
  for_box_runs(store.tensor, store.from, store.bytes, [&](u32 i, u32 place) {
    memcpy(&store.taken[i], &block().shared[place], 16);
  });
  Event event = event_of(self, store.site);
  event.generic = false;
  if (CHECKED) end_reading(store.from, store.bytes, event, party_of(self, store.site, "store"));
}

static void write_global(const BulkStore& store, u8* to, const u8* values, u32 bytes) {
  Buffer* buffer = locate_global(to, bytes, 1, true, "bulk store", store.site);
  if (!buffer) return;
  note_global_write(*machine->current, *buffer, to, values, bytes, false, "bulk store", store.site);
  memcpy(to, values, bytes);
  progress();
}

static void finish(const BulkStore& store) {
  if (store.to) return write_global(store, store.to, store.taken.data(), store.bytes);
  const TensorLayout& layout = store.tensor;
  u32 width = layout.box[0] * layout.bytes;
  for_box(layout, store.corner, [&](const BoxRow& row) {
    const u8* values = &store.taken[row.number * width + row.before * layout.bytes];
    if (row.inside) write_global(store, row.p, values, row.inside * layout.bytes);
  });
}

void bulk_commit(Site) {
  Thread& self = *machine->current;
  self.stores.push_back(std::move(self.open_stores));
  self.open_stores.clear();
}

void bulk_wait(u32 pending, bool read, Site) {
  auto& groups = machine->current->stores;
  for (size_t i = 0; i + pending < groups.size(); i++)
    for (BulkStore& store : groups[i]) take(store);
  while (!read && groups.size() > pending) {
    for (BulkStore& store : groups.front()) finish(store);
    groups.pop_front();
  }
}

// Shared memory ends with the block: a store must have read it by then.
static void end_stores(Thread& thread) {
  thread.stores.push_back(std::move(thread.open_stores));
  for (auto& group : thread.stores) {
    for (BulkStore& store : group) {
      if (store.taken.empty())
        report({"exit", store.site, {}, -1, -1, store.from, "shared", {},
                "the thread ends while this bulk store still reads shared memory"});
      take(store);
      finish(store);
    }
  }
}

}  // namespace tilec::emulated
