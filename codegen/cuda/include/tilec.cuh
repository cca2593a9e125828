// What printed CUDA kernels include: the vocabulary that they are written in. It has two bodies,
// one inline PTX statement a function for the device (device.cuh), and the same functions for a
// host compiler, which run the kernel on a CPU and check it (emulate.h). The families (threads,
// arithmetic, memory, asynchronous, atomics, tensor) have the same file names in both. Each
// function is described once, beside its PTX, in device/.
#pragma once
#include "types.cuh"
#ifdef __CUDACC__
#include "device.cuh"
#else
#include "emulate.h"
#endif
