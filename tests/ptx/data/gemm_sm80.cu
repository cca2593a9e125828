// c[M, N] (f32) = a[M, K] (f16) times the transpose of b[N, K] (f16). Tiles of 64 x 64 x 32, four
// warps of 32 x 32, three stages of cp.async, rows of 64 bytes whose chunks are exchanged by row.
// nvcc -std=c++17 -lineinfo -arch=sm_80 -ptx gemm_sm80.cu
typedef unsigned int u32;

constexpr int SIDE = 64, DEPTH = 32, STAGES = 3;
constexpr u32 TILE = SIDE * DEPTH * 2;

static __device__ u32 chunk_at(u32 row, u32 chunk) {
  return row * 64 + ((chunk ^ (row >> 1 & 3)) << 4);
}

static __device__ void copy16(u32 to, const void* from, bool inside) {
  int bytes = inside ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

static __device__ void fragments(u32 (&r)[4], u32 at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at) : "memory");
}

static __device__ void multiply(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ void load_tile(u32 to, const char* from, int first, int rows, int k, int depth) {
  for (int i = 0; i < 2; i++) {
    int piece = threadIdx.x + 128 * i, row = piece >> 2, chunk = piece & 3, column = k + chunk * 8;
    bool inside = first + row < rows && column < depth;
    size_t offset = inside ? (size_t)(first + row) * depth + column : 0;
    copy16(to + chunk_at(row, chunk), from + 2 * offset, inside);
  }
}

extern "C" __global__ void __launch_bounds__(128)
gemm(const char* a, const char* b, float* c, int m, int n, int depth) {
  extern __shared__ __align__(128) char memory[];
  u32 base = (u32)__cvta_generic_to_shared(memory);
  int top = blockIdx.y * SIDE, left = blockIdx.x * SIDE, steps = (depth + DEPTH - 1) / DEPTH;
  u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  u32 row = (warp & 1) * 32, column = (warp >> 1) * 32;
  float sum[2][4][4] = {};
  for (int s = 0; s < STAGES - 1; s++) {
    if (s < steps) {
      load_tile(base + s * 2 * TILE, a, top, m, s * DEPTH, depth);
      load_tile(base + s * 2 * TILE + TILE, b, left, n, s * DEPTH, depth);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    __syncthreads();
    int next = step + STAGES - 1;
    if (next < steps) {
      u32 to = base + next % STAGES * 2 * TILE;
      load_tile(to, a, top, m, next * DEPTH, depth);
      load_tile(to + TILE, b, left, n, next * DEPTH, depth);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    u32 here = base + step % STAGES * 2 * TILE;
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
      u32 x[2][4], y[2][4];
#pragma unroll
      for (int i = 0; i < 2; i++) {
        fragments(x[i], here + chunk_at(row + i * 16 + (lane & 15), half * 2 + (lane >> 4)));
        fragments(y[i], here + TILE + chunk_at(column + i * 16 + (lane & 7) + (lane >> 4) * 8,
                                               half * 2 + (lane >> 3 & 1)));
      }
#pragma unroll
      for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
          multiply(sum[i][j], x[i], y[j >> 1][j % 2 * 2], y[j >> 1][j % 2 * 2 + 1]);
    }
  }
#pragma unroll
  for (int i = 0; i < 2; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int r = top + row + i * 16 + (lane >> 2) + e / 2 * 8;
        int k = left + column + j * 8 + (lane & 3) * 2 + e % 2;
        if (r < m && k < n) c[(size_t)r * n + k] = sum[i][j][e];
      }
}
