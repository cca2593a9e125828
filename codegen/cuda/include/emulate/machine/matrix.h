// ldmatrix, stmatrix, mma.sync: the warp's last thread to come does the work of all.
#pragma once

namespace tilec::emulated {

struct MatrixLane { u32* to; const u32* from; u32 address; };

// Call see(lane, matrix, row, offset) for each row of `count` matrices that can be accessed.
template <class See>
static void for_rows(void** of, u32 count, const char* what, Site site, See see) {
  WarpAccess access;
  access.bytes = 16;
  for (u32 i = 0; i < 8 * count; i++) {
    u32 offset;
    if (!locate_shared(((MatrixLane*)of[i])->address, 16, 16, what, site, offset)) continue;
    access.shared[i] = offset;
    see(first_of_warp() + i, i / 8, i % 8, offset);
  }
  if (CHECKED) machine->statistics->warp(what, site, access);
}

void load_matrix(u32* d, u32 count, bool transposed, u32 address, Site site) {
  MatrixLane mine = {d, nullptr, address};
  warp_meet("ldmatrix", &mine, site, [&](void** of) {
    u16 values[4][8][8];
    memset(values, 0xff, sizeof values);
    for_rows(of, count, "ldmatrix", site, [&](u32 thread, u32 matrix, u32 row, u32 offset) {
      const Thread& reader = block().threads[thread];
      if (CHECKED)
        check_read(offset, 16, party_of(reader, site, "ldmatrix"), event_of(reader, site));
      memcpy(values[matrix][row], &block().shared[offset], 16);
    });
    for (u32 lane = 0; lane < WARP; lane++)
      for (u32 j = 0; j < count; j++) {
        u32 g = lane / 4, t = lane % 4 * 2;
        u32 low = transposed ? values[j][t][g] : values[j][g][t];
        u32 high = transposed ? values[j][t + 1][g] : values[j][g][t + 1];
        ((MatrixLane*)of[lane])->to[j] = low | high << 16;
      }
  });
}

void store_matrix(u32 address, const u32* a, u32 count, bool transposed, Site site) {
  MatrixLane mine = {nullptr, a, address};
  warp_meet("stmatrix", &mine, site, [&](void** of) {
    u16 values[4][8][8];
    for (u32 lane = 0; lane < WARP; lane++)
      for (u32 j = 0; j < count; j++) {
        u32 g = lane / 4, t = lane % 4 * 2, word = ((MatrixLane*)of[lane])->from[j];
        (transposed ? values[j][t][g] : values[j][g][t]) = (u16)word;
        (transposed ? values[j][t + 1][g] : values[j][g][t + 1]) = (u16)(word >> 16);
      }
    for_rows(of, count, "stmatrix", site, [&](u32 thread, u32 matrix, u32 row, u32 offset) {
      const Thread& writer = block().threads[thread];
      const u8* bytes = (const u8*)values[matrix][row];
      if (CHECKED)
        check_write(offset, 16, party_of(writer, site, "stmatrix"), event_of(writer, site), bytes);
      memcpy(&block().shared[offset], bytes, 16);
    });
  });
}

struct MmaLane { u32* d; const u32 *a, *b; u32 metadata; };

// Fragments of A to rows x k, by the closed form that device/tensor.cuh states. Row 0 is lane 0's.
static void gather_rows(const u32* registers, u32 count, Element element, u32 lane, u32 k,
                        double* to) {
  u32 g = lane / 4, t = lane % 4, each = 32 / bits_of(element);
  for (u32 i = 0; i < count; i++)
    decode(element, registers[i], &to[(g + 8 * (i & 1)) * k + t * each + (i >> 1) * 4 * each]);
}
static void gather_columns(const u32* registers, u32 count, Element element, u32 lane, u32 k,
                           double* to) {
  u32 g = lane / 4, t = lane % 4, each = 32 / bits_of(element);
  for (u32 i = 0; i < count; i++)
    decode(element, registers[i], &to[g * k + t * each + i * 4 * each]);
}

// Which lane holds the indices of a group of four columns of a row, and from which bit on: fields
// of 4 bits. (PTX ISA, sparse mma, metadata.)
static u32 indices_of(Element a, u32 selector, const u32* words, u32 row, u32 group) {
  bool bytes = bits_of(a) == 8;
  u32 lane = row % 8 * 4 + (bytes ? row / 8 + 2 * (group / 8) : 2 * selector + group / 4);
  u32 shift = bytes ? group % 8 * 4 : row / 8 * 16 + group % 4 * 4;
  return words[lane] >> shift & 15;
}

// Half the columns of 16 rows to all k of them, by the words of a warp's lanes.
static void spread(Element a, u32 selector, u32 k, const u32* words, const double* half, double* to,
                   Site site) {
  std::fill(to, to + 16 * k, 0.0);
  for (u32 row = 0; row < 16; row++)
    for (u32 group = 0; group < k / 4; group++) {
      u32 field = indices_of(a, selector, words, row, group), first = field & 3, second = field >> 2;
      if (first >= second)
        stop({"metadata", site, {}, -1, -1, -1, "", {},
              format("sparse: indices %u, %u of row %u, columns %u to %u do not ascend", first,
                     second, row, group * 4, group * 4 + 3)});
      to[row * k + group * 4 + first] = half[row * (k / 2) + group * 2];
      to[row * k + group * 4 + second] = half[row * (k / 2) + group * 2 + 1];
    }
}

static void multiply_fragments(const Product& p, void** of, Site site) {
  static double stored[16 * 256], a[16 * 256], b[8 * 256], d[16 * 8];
  u32 columns = p.sparse ? p.k / 2 : p.k;
  for (u32 lane = 0; lane < WARP; lane++) {
    MmaLane& m = *(MmaLane*)of[lane];
    gather_rows(m.a, p.a_registers, p.a, lane, columns, p.sparse ? stored : a);
    gather_columns(m.b, p.b_registers, p.b, lane, p.k, b);
    for (u32 i = 0; i < 4; i++)
      d[(lane / 4 + 8 * (i >> 1)) * 8 + lane % 4 * 2 + (i & 1)] = accumulated(p.sum, m.d, i);
  }
  if (p.sparse) {
    u32 words[WARP];
    for (u32 lane = 0; lane < WARP; lane++) words[lane] = ((MmaLane*)of[lane])->metadata;
    spread(p.a, p.selector, p.k, words, stored, a, site);
  }
  multiply(a, b, d, 16, 8, p.k);
  for (u32 lane = 0; lane < WARP; lane++)
    for (u32 i = 0; i < 4; i++)
      accumulate(p.sum, ((MmaLane*)of[lane])->d, i,
                 d[(lane / 4 + 8 * (i >> 1)) * 8 + lane % 4 * 2 + (i & 1)]);
}

void mma(const Product& shape, void* d, const u32* a, const u32* b, u32 metadata, Site site) {
  MmaLane mine = {(u32*)d, a, b, metadata};
  warp_meet("mma", &mine, site, [&](void** of) {
    count(shape.sparse ? "mma_sp" : "mma", site);
    multiply_fragments(shape, of, site);
  });
}

}  // namespace tilec::emulated
