// Random numbers by their place in a stream, alike on every machine.
#pragma once

namespace tilec {

// The upper half of a product.
TILEC_DEVICE u32 upper_product(u32 a, u32 b) { return u32(u64(a) * b >> 32); }

// Word 0 of Philox4x32-10 with the counter (offset, 0, 0, 0) and the key (seed, 0): Salmon et al.,
// Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
TILEC_DEVICE u32 random_bits(u32 seed, u32 offset) {
  u32 word[4] = {offset, 0, 0, 0}, key[2] = {seed, 0};
#pragma unroll
  for (u32 round = 0; round < 10; round++) {
    const u32 high[2] = {upper_product(word[0], 0xd2511f53), upper_product(word[2], 0xcd9e8d57)};
    const u32 low[2] = {word[0] * 0xd2511f53, word[2] * 0xcd9e8d57};
    word[0] = high[1] ^ word[1] ^ key[0];
    word[1] = low[1];
    word[2] = high[0] ^ word[3] ^ key[1];
    word[3] = low[0];
    key[0] += 0x9e3779b9;
    key[1] += 0xbb67ae85;
  }
  return word[0];
}

}  // namespace tilec
