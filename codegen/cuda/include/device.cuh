// The vocabulary on the device. No CUDA header is included, so NVRTC needs no include path. A
// function that the architecture lacks is not declared, so its use is an error of the compiler.
// The host pass of nvcc, where __CUDA_ARCH__ is undefined, sees all.
#pragma once

#define TILEC_KERNEL(...) extern "C" __global__ void __launch_bounds__(__VA_ARGS__)
#define TILEC_DEVICE static __device__ __forceinline__
#define TILEC_GRID_CONSTANT const __grid_constant__

#ifdef __CUDA_ARCH__
#define TILEC_SINCE(arch) (__CUDA_ARCH__ >= (arch))
#else
#define TILEC_SINCE(arch) 1
#endif
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define TILEC_HOPPER 1
#else
#define TILEC_HOPPER 0
#endif
#if TILEC_HOPPER || defined(__CUDA_ARCH_FEAT_SM100_ALL)
#define TILEC_REGISTER_LIMITS 1
#else
#define TILEC_REGISTER_LIMITS 0
#endif

#include "descriptor.cuh"
#include "device/threads.cuh"
#include "device/arithmetic.cuh"
#include "device/memory.cuh"
#include "device/atomics.cuh"
#include "device/asynchronous.cuh"
#include "device/bulk.cuh"
#include "device/tensor.cuh"
