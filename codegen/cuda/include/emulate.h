// The vocabulary on the host, in C++17 for g++ or clang: what device/ says, as calls of a machine
// that runs every thread of a block as a fiber. The machine is compiled once (emulate/machine.h),
// so these headers include nothing else and a kernel compiles in a moment. Each call carries the
// place where it stands in the kernel, as #line gives it. What a kernel accesses by a pointer and
// past the vocabulary is neither checked nor counted.
#pragma once

#define TILEC_KERNEL(...) extern "C" void
#define TILEC_GRID_CONSTANT const

#include "emulate/interface.h"

#include "descriptor.cuh"
#include "emulate/threads.h"
#include "emulate/arithmetic.h"
#include "emulate/memory.h"
#include "emulate/atomics.h"
#include "emulate/asynchronous.h"
#include "emulate/bulk.h"
#include "emulate/tensor.h"
#include "emulate/entry.h"
