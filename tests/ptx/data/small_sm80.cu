// Small kernels of the kinds that nvcc makes from plain code: calls, tables, local arrays, shuffles,
// atomics, double precision, packed halves.
// nvcc -std=c++17 -lineinfo -arch=sm_80 -ptx small_sm80.cu
typedef unsigned int u32;
typedef unsigned long long u64;

__constant__ float weights[4] = {0.5f, -1.0f, 2.0f, 0.25f};
__device__ u32 visits = 3;

extern "C" __global__ void total(const float* x, float* out, int n) {
  __shared__ float part[32];
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
  for (int step = 16; step; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
    for (int step = 16; step; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
    if (threadIdx.x == 0) atomicAdd(out, sum);
  }
}

static __device__ __noinline__ u32 mixed(u32 x, u32 y) {
  if (x & 1) return x * 2654435761u + y;
  return (x >> 3 | x << 29) ^ y;
}

static __device__ __noinline__ u32 twice(u32 x) { return mixed(mixed(x, 7), x); }

extern "C" __global__ void called(const u32* x, u32* out) { out[threadIdx.x] = twice(x[threadIdx.x]); }

extern "C" __global__ void chosen(const int* x, int* out) {
  int v = x[threadIdx.x], d;
  switch (v & 7) {
    case 0: d = v + 11; break;
    case 1: d = v * 3; break;
    case 2: d = v / 5; break;
    case 3: d = v % 7; break;
    case 4: d = -v; break;
    case 5: d = __popc(v); break;
    default: d = v ^ 0x55; break;
  }
  out[threadIdx.x] = d;
}

extern "C" __global__ void sorted(const int* x, int* out, int n) {
  int mine[16];
  for (int i = 0; i < n; i++) mine[i] = x[threadIdx.x * n + i];
  for (int i = 1; i < n; i++)
    for (int j = i; j > 0 && mine[j - 1] > mine[j]; j--) {
      int t = mine[j];
      mine[j] = mine[j - 1];
      mine[j - 1] = t;
    }
  for (int i = 0; i < n; i++) out[threadIdx.x * n + i] = mine[i];
}

extern "C" __global__ void doubles(const double* x, double* out) {
  double v = x[threadIdx.x];
  out[threadIdx.x] = v / 3.0 + sqrt(v) * v - 1.0 / v;
}

extern "C" __global__ void quotients(const u64* x, u64* out) {
  u64 v = x[threadIdx.x];
  out[threadIdx.x] = v / 10 + v % 1000003 + __umul64hi(v, v);
}

extern "C" __global__ void weighted(const float* x, float* out) {
  out[threadIdx.x] = x[threadIdx.x] * weights[threadIdx.x % 4];
  if (threadIdx.x == 0) out[blockDim.x] = (float)atomicAdd(&visits, 5) + 0.25f * __ldg(x + 1);
}

extern "C" __global__ void counted(const unsigned char* x, u32* out, int n) {
  __shared__ u32 bins[16];
  if (threadIdx.x < 16) bins[threadIdx.x] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) atomicAdd(&bins[x[i] & 15], 1);
  __syncthreads();
  if (threadIdx.x < 16) out[threadIdx.x] = bins[threadIdx.x];
}
