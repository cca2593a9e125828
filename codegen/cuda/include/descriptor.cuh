// How wgmma is told where a matrix lies in shared memory, the same in both bodies.
#pragma once

namespace tilec {

// A descriptor for wgmma: the start, two distances in bytes and how columns are permuted.
// K-major: `stride` separates groups of 8 rows; `leading` separates columns of 16 bytes and
// counts only without a swizzle. MN-major: `leading` separates runs as wide as the swizzle along
// M or N and `stride` groups of 8 along K (without a swizzle the other way round).
// (PTX ISA, wgmma, matrix descriptor.)
TILEC_DEVICE u64 wgmma_descriptor(u32 start, u32 leading, u32 stride, Swizzle swizzle) {
  return (u64)((start & 0x3ffff) >> 4) | (u64)(leading >> 4) << 16 | (u64)(stride >> 4) << 32 |
         (u64)swizzle << 62;
}

}  // namespace tilec
