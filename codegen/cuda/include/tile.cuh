// A thread's share of a tile, and how it is moved. The same for both bodies: it is written in the
// vocabulary of tilec.cuh. On the host a function passes on the place where it was called.
#pragma once
#include "tilec.cuh"

#include "numbers.cuh"

#ifdef __CUDACC__
#define TILEC_MEMBER __device__ __forceinline__
#define TILEC_CALLED
#define TILEC_CALLER
#else
#define TILEC_MEMBER inline __attribute__((always_inline))
#define TILEC_CALLED , emulated::Site site = emulated::Site::here()
#define TILEC_CALLER , site
#endif

namespace tilec {

// N elements of a tile of T in a thread's registers, packed as in memory where T has fewer than 32
// bits. `[i]` is an element in the type that is computed in; `set` rounds to T.
template <class T, u32 N, u32 bits = Number<T>::bits> struct Share {
  using Word = u32;
  static constexpr u32 each = 32 / bits;
  Word words[(N + each - 1) / each];
  TILEC_MEMBER typename Number<T>::Carrier operator[](u32 i) const {
    return Number<T>::value(raw(i));
  }
  TILEC_MEMBER u32 raw(u32 i) const {
    return words[i / each] >> (i % each * bits) & ((1u << bits) - 1);
  }
  TILEC_MEMBER void put(u32 i, u32 raw) {
    const u32 at = i % each * bits, mask = ((1u << bits) - 1) << at;
    words[i / each] = (words[i / each] & ~mask) | (raw << at & mask);
  }
  TILEC_MEMBER void set(u32 i, typename Number<T>::Carrier x) { put(i, Number<T>::raw(x)); }
};
template <class T, u32 N> struct Share<T, N, 32> {
  using Word = typename Number<T>::Carrier;
  Word words[N];
  TILEC_MEMBER Word operator[](u32 i) const { return words[i]; }
  TILEC_MEMBER void set(u32 i, Word x) { words[i] = Number<T>::rounded(x); }
};
template <class T, u32 N> struct Share<T, N, 64> {
  using Word = typename Number<T>::Carrier;
  Word words[N];
  TILEC_MEMBER Word operator[](u32 i) const { return words[i]; }
  TILEC_MEMBER void set(u32 i, Word x) { words[i] = x; }
};

// Every element i becomes f(i).
template <class T, u32 N, class F> TILEC_DEVICE void fill(Share<T, N>& to, F f) {
  if constexpr (Number<T>::bits == 16 && Number<T>::floating) {
#pragma unroll
    for (u32 i = 0; i + 1 < N; i += 2) to.words[i / 2] = Number<T>::pair(f(i), f(i + 1));
    if constexpr (N % 2 == 1) to.words[N / 2] = Number<T>::raw(f(N - 1));
  } else {
#pragma unroll
    for (u32 i = 0; i < N; i++) to.set(i, f(i));
  }
}

// `count` of the words of a share, from word `first` on, as an instruction takes them.
template <u32 count, class T, u32 N> TILEC_DEVICE auto& part(Share<T, N>& x, u32 first) {
  return *reinterpret_cast<typename Share<T, N>::Word(*)[count]>(&x.words[first]);
}

// What one access moves.
template <u32 bytes> struct Piece;
template <> struct Piece<1> { u8 word[1]; };
template <> struct Piece<2> { u16 word[1]; };
template <> struct Piece<4> { u32 word[1]; };
template <> struct alignas(8) Piece<8> { u32 word[2]; };
template <> struct alignas(16) Piece<16> { u32 word[4]; };
template <u32 V, class T> using PieceOf = Piece<V * Number<T>::bits / 8>;

// V elements of a share from element i on, as they are in memory, and the other way.
template <u32 V, class T, u32 N> TILEC_DEVICE PieceOf<V, T> piece(const Share<T, N>& x, u32 i) {
  constexpr u32 bits = Number<T>::bits;
  PieceOf<V, T> out;
  if constexpr (bits >= 32) {
    union { PieceOf<V, T> piece; typename Share<T, N>::Word items[V]; } both;
#pragma unroll
    for (u32 j = 0; j < V; j++) both.items[j] = x.words[i + j];
    out = both.piece;
  } else if constexpr (V * bits >= 32) {
#pragma unroll
    for (u32 j = 0; j < V * bits / 32; j++) out.word[j] = x.words[i * bits / 32 + j];
  } else {
    out.word[0] = x.words[i * bits / 32] >> (i * bits % 32);
  }
  return out;
}
template <u32 V, class T, u32 N>
TILEC_DEVICE void put_piece(Share<T, N>& to, u32 i, const PieceOf<V, T>& from) {
  constexpr u32 bits = Number<T>::bits;
  if constexpr (bits >= 32) {
    union { PieceOf<V, T> piece; typename Share<T, N>::Word items[V]; } both = {from};
#pragma unroll
    for (u32 j = 0; j < V; j++) to.set(i + j, both.items[j]);  // words may have bits of no tf32
  } else if constexpr (V * bits >= 32) {
#pragma unroll
    for (u32 j = 0; j < V * bits / 32; j++) to.words[i * bits / 32 + j] = from.word[j];
  } else {
#pragma unroll
    for (u32 j = 0; j < V; j++) to.put(i + j, u32(from.word[0]) >> (j * bits));
  }
}

// V elements from element i on from global memory, or zeros; and to it, or nowhere.
template <u32 V, Cache cache = Cache::normal, class T, u32 N>
TILEC_DEVICE void load(Share<T, N>& to, u32 i, const void* from, bool inside TILEC_CALLED) {
  PieceOf<V, T> x = {};
  if (inside) x = load_global<cache>((const PieceOf<V, T>*)from TILEC_CALLER);
  put_piece<V>(to, i, x);
  if constexpr (Number<T>::zero != 0) {
#pragma unroll
    for (u32 j = 0; j < V; j++) if (!inside) to.put(i + j, Number<T>::zero);
  }
}
template <u32 V, class T, u32 N>
TILEC_DEVICE void store(void* to, const Share<T, N>& from, u32 i, bool inside TILEC_CALLED) {
  if (inside) store_global((PieceOf<V, T>*)to, piece<V>(from, i) TILEC_CALLER);
}

// A number added to an element of T in global memory by exchanges that fail where another thread
// was faster. `seen` is a guess at first: an exchange says what there is.
template <class T, class Word>
TILEC_DEVICE void exchange_add(Word* p, typename Number<T>::Carrier x TILEC_CALLED) {
  Word seen = 0, old;
  do {
    old = seen;
    const Word sum = Word(Number<T>::raw(Number<T>::value(old) + x));
    seen = atomic_compare_exchange(p, old, sum TILEC_CALLER);
  } while (seen != old);
}

// One element that starts at any bit of a row in memory.
template <class T, u32 N>
TILEC_DEVICE void load_bits(Share<T, N>& to, u32 i, const u8* row, u32 bit, bool inside TILEC_CALLED) {
  constexpr u32 bits = Number<T>::memory;
  u32 raw = Number<T>::zero;
  if (inside) {
    raw = load_global(row + bit / 8 TILEC_CALLER);
    if (bit % 8 + bits > 8) raw |= u32(load_global(row + bit / 8 + 1 TILEC_CALLER)) << 8;
    raw = raw >> (bit % 8) & ((1u << bits) - 1);
  }
  to.put(i, raw);
}

// V elements from element i on: at each one of a word of a mask from bit low + above on the next of
// the values from item `first` on, of which `start` come before the word, else 0. `low` is what the
// thread adds to the bit.
template <u32 V, class T, u32 N, class Count, class Item>
TILEC_DEVICE void expand(Share<T, N>& to, u32 i, const u32* mask, const Count* start,
                         const void* values, Item first, u32 low, u32 above,
                         bool inside TILEC_CALLED) {
  const PieceOf<1, T>* from = (const PieceOf<1, T>*)values;
  u32 ones = 0;
  if (inside) {
    const u32 word = load_global<Cache::read_only>(mask TILEC_CALLER), mine = word >> low;
    u32 before = load_global<Cache::read_only>(start TILEC_CALLER);
    before += popc(word & ((1u << low) - 1));
    from += first + before + popc(mine & ((1u << above) - 1));
    ones = mine >> above;
  }
#pragma unroll
  for (u32 j = 0; j < V; j += 2) {
    const u32 two = ones >> j & (V == 1 ? 1 : 3);
    u32 one = 0, other = 0;
    if (two) one = load_global<Cache::read_only>(from TILEC_CALLER).word[0];
    if (two == 3) other = load_global<Cache::read_only>(from + 1 TILEC_CALLER).word[0];
    to.put(i + j, two == 2 ? 0 : one);
    if constexpr (V > 1) to.put(i + j + 1, two == 2 ? one : other);
    from += popc(two);
  }
}

// V elements from element i on to a shared address, and from it.
template <u32 V, class T, u32 N>
TILEC_DEVICE void keep(u32 address, const Share<T, N>& from, u32 i TILEC_CALLED) {
  store_shared(address, piece<V>(from, i) TILEC_CALLER);
}
template <u32 V, class T, u32 N>
TILEC_DEVICE void take(Share<T, N>& to, u32 i, u32 address TILEC_CALLED) {
  put_piece<V>(to, i, load_shared<PieceOf<V, T>>(address TILEC_CALLER));
}

// A number of the lane whose number differs in the bits of `mask`.
template <class C> TILEC_DEVICE C exchanged(C x, u32 mask TILEC_CALLED) {
  if constexpr (sizeof(C) == 8) {
    union { C number; u32 word[2]; } both = {x};
    both.word[0] = shuffle_xor(both.word[0], mask TILEC_CALLER);
    both.word[1] = shuffle_xor(both.word[1], mask TILEC_CALLER);
    return both.number;
  } else {
    union { C number; u32 word; } both = {};
    both.number = x;
    both.word = shuffle_xor(both.word, mask TILEC_CALLER);
    return both.number;
  }
}

// A word that lane `from` gives. All lanes of the warp are here together.
template <class C> TILEC_DEVICE C given(C x, u32 from TILEC_CALLED) {
  static_assert(sizeof(C) == 4, "a shuffle brings 32 bits");
  union { C number; u32 word; } both = {x};
  both.word = shuffle(both.word, from TILEC_CALLER);
  return both.number;
}

// Word `which` of lane `from`, where every lane wants one `among` the same few.
template <class C, u32 N, u32 count>
TILEC_DEVICE C fetched(const C (&words)[N], const u16 (&among)[count], u32 from,
                       u32 which TILEC_CALLED) {
  C found = given(words[among[0]], from TILEC_CALLER);
#pragma unroll
  for (u32 j = 1; j < count; j++) {
    const C other = given(words[among[j]], from TILEC_CALLER);
    if (which == among[j]) found = other;
  }
  return found;
}

}  // namespace tilec
