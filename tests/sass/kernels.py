"""Small kernels of known machine code, and the tools to compile and look at them."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tilec.runtime.nvrtc import CudaBuild, compile_cuda
from tilec.sass.listing import Function, parse
from tilec.sass.stats import Stats, judged
from tilec.sass.tools import disassembled

# One multiplication of a warp: `%a` and `%b` are registers, `%m` the metadata of a sparse one.
WARP = """extern "C" __global__ void __launch_bounds__(32)
{kernel}(const unsigned* x, {type}* y) {{
  const unsigned* p = x + 16 * threadIdx.x;
  {type} c[4] = {{}};
  asm volatile("{name} {{%0,%1,%2,%3}}, {{{a}}}, {{{b}}}, {{%0,%1,%2,%3}}{rest};"
    : "+{c}"(c[0]), "+{c}"(c[1]), "+{c}"(c[2]), "+{c}"(c[3])
    : "r"(p[0]), "r"(p[1]), "r"(p[2]), "r"(p[3]), "r"(p[4]), "r"(p[5]), "r"(p[6]), "r"(p[7]),
      "r"(p[8]));
  for (int i = 0; i < 4; ++i) y[4 * threadIdx.x + i] = c[i];
}}
"""
# One of a warp group, with both operands in shared memory, or the left one in registers.
GROUP = """extern "C" __global__ void __launch_bounds__(128)
{kernel}(const unsigned* x, unsigned long long a, unsigned long long b, {type}* y) {{
  const unsigned* p = x + 4 * threadIdx.x;
  unsigned r[4] = {{p[0], p[1], p[2], p[3]}};
  {type} c[4] = {{}};
  asm volatile("wgmma.fence.sync.aligned;");
  asm volatile("{name} {{%0,%1,%2,%3}}, {a}, %5{rest};"
    : "+{c}"(c[0]), "+{c}"(c[1]), "+{c}"(c[2]), "+{c}"(c[3])
    : "l"(a), "l"(b), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]));
  asm volatile("wgmma.commit_group.sync.aligned;");
  asm volatile("wgmma.wait_group.sync.aligned 0;");
  for (int i = 0; i < 4; ++i) y[4 * threadIdx.x + i] = c[i];
}}
"""
RESOURCES = """
extern "C" __global__ void __launch_bounds__(128) reversed(float* y) {
  __shared__ float t[300];
  t[threadIdx.x] = y[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = t[127 - threadIdx.x];
}
extern "C" __global__ void scaled(float* y) { y[threadIdx.x] *= 3.0f; }
extern "C" __global__ void __launch_bounds__(1024) spilled(const float4* x, float4* y) {
  float4 v[40];
#pragma unroll
  for (int i = 0; i < 40; ++i) v[i] = x[1024 * i + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 40; ++i) {
    float4 a = v[(7 * i + 3) % 40];
    a.x *= v[i].y;
    y[1024 * i + threadIdx.x] = a;
  }
}
"""
# A loop of two multiplications, its next tiles copied ahead, in a loop over tiles of the result.
PIPELINE = """
__device__ inline unsigned at(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
#line 1 "pipeline.tile"
extern "C" __global__ void __launch_bounds__(128) k(const char* x, float* y, int tiles, int steps) {
  __shared__ char s[2][128 * 16];
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    float c[4] = {};
#pragma unroll 1
    for (int i = 0; i < steps; ++i) {
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::
        "r"(at(s[i & 1] + 16 * threadIdx.x)),
        "l"(x + 2048 * (tile * steps + i) + 16 * threadIdx.x));
      asm volatile("cp.async.commit_group;");
      asm volatile("cp.async.wait_group 1;");
      __syncthreads();
      unsigned a[4];
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
        : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
        : "r"(at(s[~i & 1] + 16 * (threadIdx.x & 31))));
      for (int j = 0; j < 2; ++j)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
          "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
          : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[2 * j]), "r"(a[2 * j + 1]));
      __syncthreads();
    }
    for (int i = 0; i < 4; ++i) y[128 * (4 * tile + i) + threadIdx.x] = c[i];
  }
}
"""

# 128 threads, and a loop of eight instructions: two copies of 16 bytes, a load of four.
WEIGHTED = """	.target	sm_90a
	.section	.nv.info,"",@"SHT_CUDA_INFO"
	//----- nvinfo : EIATTR_REGCOUNT
        /*0004*/ 	.word	index@(weighted)
        /*0008*/ 	.word	0x00000080
	.section	.nv.info.weighted,"",@"SHT_CUDA_INFO"
	//----- nvinfo : EIATTR_REQNTID
        /*006c*/ 	.word	0x00000080
        /*0070*/ 	.word	0x00000001
        /*0074*/ 	.word	0x00000001
	.section	.text.weighted,"ax",@progbits
	//## File "kernels/w.tile", line 2
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/                   STL [R1], R4 ;
.L_x_1:
	//## File "kernels/w.tile", line 4
        /*0020*/                   LDGSTS.E.BYPASS.128 [R6], [R2.64] ;
        /*0030*/                   LDGSTS.E.BYPASS.128 [R6+0x800], [R2.64+0x800] ;
        /*0040*/                   LDG.E.CONSTANT R9, [R4.64] ;
	//## File "kernels/w.tile", line 5
        /*0050*/                   LOP3.LUT R10, R9, 0xf000f, R11, 0xea, !PT ;
        /*0060*/                   HFMA2 R10, R10, R12, R13 ;
        /*0070*/                   HMMA.16816.F32 R24, R4, R10, R24 ;
        /*0080*/                   HMMA.16816.F32 R28, R4, R10, R28 ;
        /*0090*/               @P0 BRA `(.L_x_1) ;
	//## File "kernels/w.tile", line 7
        /*00a0*/                   STG.E.64 [R2.64], R24 ;
        /*00b0*/                   EXIT ;
"""


def of_warp(
    kernel: str, name: str, a: int, b: int, integers: bool = False, sparse: bool = False
) -> str:
    """A kernel of one `mma` whose operands take so many registers."""
    type, c = ("int", "r") if integers else ("float", "f")
    left, right = (",".join(f"%{i}" for i in r) for r in (range(4, 4 + a), range(8, 8 + b)))
    rest = ", %12, 0" if sparse else ""
    return WARP.format(kernel=kernel, name=name, type=type, c=c, a=left, b=right, rest=rest)


def of_group(
    kernel: str, name: str, rest: str, integers: bool = False, registers: bool = False
) -> str:
    """A kernel of one `wgmma`, with the operands after the second of its inputs."""
    type, c = ("int", "r") if integers else ("float", "f")
    left = "{%6,%7,%8,%9}" if registers else "%4"
    return GROUP.format(kernel=kernel, name=name, type=type, c=c, a=left, rest=rest)


@cache
def built(source: str, target: str) -> CudaBuild:
    """A source compiled once."""
    return compile_cuda(source, target)


@cache
def listed(source: str, target: str) -> tuple[Function, ...]:
    """Its functions, read once: a run of the disassembler takes a sixth of a second."""
    return parse(disassembled(built(source, target).cubin, "-gi"))


def tool_of_triton(name: str, *options: str, cubin: bytes, folder: Path) -> str:
    """What a tool in triton's package prints of a cubin."""
    spec = find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    tool = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / name
    done = subprocess.run([tool, *options, file], capture_output=True, text=True, check=True)
    return done.stdout


def weighted() -> Stats:
    """The stats of WEIGHTED, launched with 48 KiB of dynamic shared memory."""
    (function,) = parse(WEIGHTED)
    return judged(function, dynamic_shared=49152)
