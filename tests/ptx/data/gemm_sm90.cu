// c[M, N] (bf16) = a[M, K] (bf16) times the transpose of b[N, K] (bf16). A warpgroup multiplies tiles
// of 64 x 64 x 64 by wgmma; a fifth warp brings them by bulk copies through three stages. The result
// leaves through shared memory.
// nvcc -std=c++17 -lineinfo -arch=sm_90a -ptx gemm_sm90.cu
typedef unsigned int u32;
typedef unsigned long long u64;
struct alignas(64) Map { u64 words[16]; };

constexpr int STAGES = 3;
constexpr u32 TILE = 64 * 64 * 2, STAGE = 2 * TILE;

static __device__ void wait(u32 barrier, u32 parity) {
  asm volatile("{\n.reg .pred done;\nAGAIN:\n"
               "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
               "@!done bra AGAIN;\n}" ::"r"(barrier), "r"(parity) : "memory");
}

static __device__ void bring(u32 to, const Map* map, int column, int row, u32 barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%2, %3}], [%4];"
               ::"r"(to), "l"(map), "r"(column), "r"(row), "r"(barrier) : "memory");
}

static __device__ u64 descriptor(u32 at) {
  return (u64)(at >> 4 & 0x3FFF) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

static __device__ void multiply(float (&d)[32], u64 a, u64 b, int keep) {
  asm volatile(
      "{\n.reg .pred keep;\nsetp.ne.b32 keep, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, keep, 1, 1, 0, 0;\n}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
        "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
        "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]),
        "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]),
        "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "l"(a), "l"(b), "r"(keep));
}

extern "C" __global__ void __launch_bounds__(160)
gemm(const __grid_constant__ Map a, const __grid_constant__ Map b, const __grid_constant__ Map c,
     int depth) {
  extern __shared__ __align__(1024) char memory[];
  u32 base = (u32)__cvta_generic_to_shared(memory), full = base + STAGES * STAGE, free = full + 32;
  int top = blockIdx.y * 64, left = blockIdx.x * 64, steps = (depth + 63) / 64;
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(full + 8 * s) : "memory");
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(free + 8 * s) : "memory");
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  if (threadIdx.x >= 128) {
    if (threadIdx.x == 128)
#pragma unroll 1
      for (int step = 0; step < steps; step++) {
        u32 s = step % STAGES, round = step / STAGES;
        wait(free + 8 * s, (round & 1) ^ 1);
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                     ::"r"(full + 8 * s), "n"(STAGE) : "memory");
        bring(base + s * STAGE, &a, step * 64, top, full + 8 * s);
        bring(base + s * STAGE + TILE, &b, step * 64, left, full + 8 * s);
      }
    return;
  }
  float sum[32];
#pragma unroll
  for (int i = 0; i < 32; i++) sum[i] = 0;
#pragma unroll 1
  for (int step = 0; step < steps; step++) {
    u32 s = step % STAGES, x = base + s * STAGE, y = x + TILE;
    wait(full + 8 * s, step / STAGES & 1);
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int k = 0; k < 4; k++)
      multiply(sum, descriptor(x + 32 * k), descriptor(y + 32 * k), step > 0 || k > 0);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (threadIdx.x == 0)
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(free + 8 * s) : "memory");
  }
  asm volatile("bar.sync 1, 128;" ::: "memory");
#pragma unroll
  for (int i = 0; i < 32; i += 2) {
    u32 row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + i / 2 % 2 * 8, pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(sum[i + 1]), "f"(sum[i]));
    asm volatile("st.shared.b32 [%0], %1;"
                 ::"r"(base + row * 128 + i / 4 * 16 + threadIdx.x % 4 * 4), "r"(pair) : "memory");
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  asm volatile("bar.sync 1, 128;" ::: "memory");
  if (threadIdx.x == 0) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];"
                 ::"l"(&c), "r"(left), "r"(top), "r"(base) : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
  }
}
