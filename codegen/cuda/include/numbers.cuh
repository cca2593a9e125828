// Numbers of every type that tiles have, on the vocabulary of tilec.cuh and alike in both bodies:
// arithmetic, functions, rounding, codes, what an element is in registers and memory, casts, random
// bits. An element is computed with as a carrier, which holds its value exactly: f32 for floats of
// at most 32 bits and for codes, f64, bool, s32 or u32 for whole numbers of at most 32 bits, s64.
#pragma once

#include "numbers/arithmetic.cuh"
#include "numbers/functions.cuh"
#include "numbers/rounding.cuh"
#include "numbers/codes.cuh"
#include "numbers/elements.cuh"
#include "numbers/cast.cuh"
#include "numbers/random.cuh"
