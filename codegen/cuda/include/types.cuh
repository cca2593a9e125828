// The types that kernels are written in, the same in both bodies.
#pragma once

namespace tilec {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using s8 = signed char;
using s16 = short;
using s32 = int;
using s64 = long long;
using f32 = float;

// Storage of numbers that C++ lacks. Arithmetic on them is by functions, two in a u32 at a time.
struct f16 { u16 bits; };
struct bf16 { u16 bits; };
struct e4m3 { u8 bits; };
struct e5m2 { u8 bits; };

// Element types that only matrix instructions know.
struct tf32;
struct s4;
struct u4;
struct b1;

// What one access moves at once.
struct alignas(8) u32x2 { u32 x, y; };
struct alignas(16) u32x4 { u32 x, y, z, w; };
struct alignas(8) f32x2 { f32 x, y; };
struct alignas(16) f32x4 { f32 x, y, z, w; };

// A tensor for the bulk copy unit: encoded by the driver, or by the host for emulation.
struct alignas(64) TensorMap { u64 opaque[16]; };

// What a global access says about the data's reuse. read_only and no_allocate promise in addition
// that no one writes it while the kernel runs.
enum class Cache { normal, read_only, no_allocate, evict_first, evict_last };

// What an atomic access orders: nothing, what follows it, what precedes it, both.
enum class Order { relaxed, acquire, release, acq_rel };

// How the 16-byte columns of a tile in shared memory are permuted; the number is the one that
// matrix descriptors use.
enum class Swizzle : u32 { none = 0, b128 = 1, b64 = 2, b32 = 3 };

}  // namespace tilec
