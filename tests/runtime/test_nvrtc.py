"""CUDA C++ compiled without a GPU: products, what ptxas says, and errors at their lines."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from tilec.ir.errors import TileError
from tilec.runtime import nvrtc as module
from tilec.runtime.host_compiler import find_host_compiler
from tilec.runtime.nvrtc import Toolchain, compile_cuda, nvcc, nvrtc, toolchain
from tilec.sass import disassembled

COMPILERS = [tools for tools in (nvrtc(), nvcc()) if tools is not None]
TWINS = len(COMPILERS) == 2 and COMPILERS[0].version == COMPILERS[1].version
SCALED = """#include "factor.h"
extern "C" __global__ void __launch_bounds__(64) scaled(float* y) { y[threadIdx.x] *= factor(); }
"""
FACTOR = {"factor.h": "__device__ inline float factor() { return FACTOR; }\n"}
# An accumulator is touched while a multiplication that writes it may still run.
TOUCHED = """
extern "C" __global__ void __launch_bounds__(128)
touched(unsigned long long a, unsigned long long b, float* y) {
  float c[4] = {};
  asm volatile("wgmma.fence.sync.aligned;");
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%0,%1,%2,%3}, %4, %5, "
      "1, 1, 1, 0, 0;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "l"(a + i), "l"(b + i));
    c[0] *= 2.0f;
  }
  asm volatile("wgmma.commit_group.sync.aligned;");
  asm volatile("wgmma.wait_group.sync.aligned 0;");
  for (int i = 0; i < 4; ++i) y[4 * threadIdx.x + i] = c[i];
}
"""
SPILLED = """
__device__ __noinline__ float far(float x) { return __sinf(x) * x; }
extern "C" __global__ void __launch_bounds__(1024) spilled(const float4* x, float4* y) {
  __shared__ float s[1024];
  float4 v[40];
#pragma unroll
  for (int i = 0; i < 40; ++i) v[i] = x[1024 * i + threadIdx.x];
  s[threadIdx.x] = far(v[0].x);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 40; ++i) {
    v[i].x *= s[i] * v[(7 * i + 3) % 40].y;
    y[1024 * i + threadIdx.x] = v[i];
  }
}
extern "C" __global__ void small(float* y) { y[threadIdx.x] += 1.0f; }
"""
KERNEL = '#line 7 "linear.tile"\nextern "C" __global__ void k(float* y) {{\n  {}\n}}\n'
OVERLOADED = """__device__ int twice(int a, int b);
__device__ int twice(float);
extern "C" __global__ void k(float* y) { y[0] = twice("a"); }
"""


@pytest.fixture(params=COMPILERS, ids=lambda tools: tools.name)
def tools(request: pytest.FixtureRequest) -> Toolchain:
    return request.param


def refused(tools: Toolchain, source: str, target: str = "sm_90a", **headers: str) -> TileError:
    named = {f"{name}.h": text for name, text in headers.items()}
    with pytest.raises(TileError) as e:
        compile_cuda(source, target, headers=named, tools=tools)
    return e.value


def test_nvrtc_comes_first():
    found = nvrtc()
    assert found is not None
    assert toolchain() == found == COMPILERS[0]
    assert found.path.exists()


@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_120a"])
def test_products(tools: Toolchain, target: str):
    made = compile_cuda(SCALED, target, headers=FACTOR, options=["-DFACTOR=3.0f"], tools=tools)
    assert made.cubin[:4] == b"\x7fELF"
    assert f".target {target}" in made.ptx
    assert "0f40400000" in made.ptx  # three
    assert ".loc" in made.ptx
    (usage,) = made.usage
    assert usage.kernel == "scaled"
    assert 4 <= usage.registers <= 16
    assert (usage.stack, usage.spill_stores, usage.spill_loads, usage.shared) == (0, 0, 0, 0)
    assert made.notes == ()


def test_without_lines():
    made = compile_cuda(SCALED, "sm_90a", headers=FACTOR, options=["-DFACTOR=2"], line_info=False)
    lined = compile_cuda(SCALED, "sm_90a", headers=FACTOR, options=["-DFACTOR=2"])
    assert ".loc" not in made.ptx
    assert len(made.cubin) < len(lined.cubin)


@pytest.mark.skipif(not TWINS, reason="needs nvcc of NVRTC's version")
def test_both_compilers_make_the_same_code():
    """Of one version they are the same compiler."""
    a, b = (compile_cuda(SPILLED, "sm_90a", line_info=False, tools=t).cubin for t in COMPILERS)
    assert disassembled(a, "-c") == disassembled(b, "-c")


def test_what_ptxas_says(tools: Toolchain):
    made = compile_cuda(SPILLED, "sm_90a", tools=tools)
    usage = {u.kernel: u for u in made.usage}
    assert usage.keys() == {"spilled", "small"}
    assert usage["spilled"].registers == 64
    assert usage["spilled"].spill_stores > 100
    assert usage["spilled"].spill_loads > 100
    assert usage["spilled"].stack > 100
    assert usage["spilled"].shared == 4096
    assert usage["small"].spill_stores == usage["small"].stack == usage["small"].shared == 0


def test_multiplications_that_run_one_after_the_other(tools: Toolchain):
    made = compile_cuda(TOUCHED, "sm_90a", tools=tools)
    assert "C7511" in {note.code for note in made.notes}
    (serialised,) = [note for note in made.notes if note.code == "C7511"]
    assert "serialized" in serialised.message
    assert "'touched'" in serialised.message
    kept = compile_cuda(TOUCHED.replace("c[0] *= 2.0f;", ""), "sm_90a", tools=tools)
    assert "C7511" not in {note.code for note in kept.notes}


@pytest.mark.parametrize("target", ["sm_90a", "sm_100a"])
def test_a_process_of_its_own_makes_the_same(target: str):
    here, apart = (compile_cuda(SCALED, target, headers=FACTOR, options=["-DFACTOR=3.0f"],
                                tools=nvrtc(), apart=apart) for apart in (False, True))  # fmt: skip
    assert (here.ptx, here.cubin, here.usage) == (apart.ptx, apart.cubin, apart.usage)
    with pytest.raises(TileError, match="identifier"):
        compile_cuda("int k() { return absent; }", target, tools=nvrtc(), apart=True)


CRASHING = """#include <signal.h>
extern "C" int nvrtcCreateProgram() { return raise(SIGSEGV); }
"""


def test_a_crash_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A library that ends its process as soon as it is asked for anything."""
    library = tmp_path / "libnvrtc.so.13"
    (tmp_path / "nvrtc.cc").write_text(CRASHING)
    options = ("-shared", "-fPIC", "-o", library.name, "nvrtc.cc")
    find_host_compiler().run(options, tmp_path)
    monkeypatch.setattr(module, "_architectures", lambda _: (100,))
    tools = Toolchain("nvrtc", "13.0", library)
    with pytest.raises(TileError) as e:
        compile_cuda(SCALED, "sm_100a", headers=FACTOR, tools=tools)
    assert str(e.value).startswith("nvrtc 13.0 crashes on the source (signal 11)")
    assert e.value.hint


def test_errors_at_the_line_that_the_source_gives(tools: Toolchain):
    error = refused(tools, KERNEL.format('y[0] *= foo; int q = "a";'))
    assert error.message == (
        f'{tools.identity} does not compile for sm_90a: identifier "foo" is undefined'
    )
    assert error.loc is not None
    assert (error.loc.file, error.loc.line, error.loc.column) == ("linear.tile", 8, 10)
    assert error.loc.text == '  y[0] *= foo; int q = "a";'
    assert error.loc.carets() == " " * 10 + "^"
    assert "cannot be used to initialize" in error.__notes__[0]  # the second error


def test_errors_of_more_than_a_line(tools: Toolchain):
    error = refused(tools, OVERLOADED)
    assert "matches the argument list argument types are: (const char [2])" in error.message
    assert error.loc is not None
    assert (error.loc.file, error.loc.line) == ("kernel.cu", 3)
    assert error.loc.text[error.loc.column :].startswith("twice(")


def test_errors_in_headers(tools: Toolchain):
    error = refused(tools, '#include "a.h"\n', a="\nint x = ;\n")
    assert error.loc is not None
    assert (error.loc.file, error.loc.line) == ("a.h", 2)
    assert "missing.h" in refused(tools, '#include "missing.h"\n').message


def test_errors_in_assembly(tools: Toolchain):
    """At the line of the statement, and that of the call where it was inlined."""
    error = refused(tools, KERNEL.format('y[0] = 1; asm volatile("bar.foo 1;");'))
    assert error.message.endswith("Unknown modifier '.foo'")
    assert error.loc is not None
    assert (error.loc.file, error.loc.line) == ("linear.tile", 8)
    wrong = '\n__device__ inline void wrong() {\n  asm volatile("bar.foo 1;"); }\n'
    source = '#include "a.h"\n' + KERNEL.format("y[0] = 1; wrong();")
    error = refused(tools, source, a=wrong)
    assert error.loc is not None
    assert (error.loc.file, error.loc.line) == ("a.h", 3)
    assert error.loc.caller is not None
    assert (error.loc.caller.file, error.loc.caller.line) == ("linear.tile", 8)
    head = '#include "a.h"\n__device__ inline void around(float* y) {'
    around = f"{head}\n  y[1] = 2;\n  wrong(); }}\n"
    source = '#include "b.h"\n' + KERNEL.format("y[0] = 1; around(y);")
    error = refused(tools, source, a=wrong, b=around)
    places: list[tuple[str, int]] = []
    at = error.loc
    while at is not None:
        places.append((at.file, at.line))
        at = at.caller
    assert places == [("a.h", 3), ("b.h", 4), ("linear.tile", 8)]


def test_errors_without_a_place(tools: Toolchain):
    with pytest.raises(TileError, match="--nonsense"):
        compile_cuda(SCALED, "sm_90a", options=["--nonsense"], tools=tools)
    assert refused(tools, 'extern "C" __global__ void k() {').loc is None


@pytest.mark.parametrize("target", ["gfx942", "sm_", "compute_90", "90", "sm_70"])
def test_bad_targets(tools: Toolchain, target: str):
    expected = "makes no code for sm_70; it does for sm_75, sm_80"
    message = expected if target == "sm_70" else f"'{target}' is no target of CUDA"
    with pytest.raises(TileError, match=message):
        compile_cuda(SCALED, target, tools=tools)


def test_many_threads_compile_at_once():
    def made(n: int) -> str:
        return compile_cuda(SCALED, "sm_80", headers=FACTOR, options=[f"-DFACTOR={n}"]).ptx

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(made, range(1, 9)))
    assert together == [made(n) for n in range(1, 9)]
    assert len(set(together)) == 8


def test_identity_is_known_without_the_library():
    code = """
import sys, time
from tilec.runtime.nvrtc import nvrtc
start = time.process_time()
print(nvrtc().identity)
assert "libnvrtc" not in open("/proc/self/maps").read()
assert time.process_time() - start < 0.1
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == COMPILERS[0].identity
    assert Toolchain("nvcc", "13.0.88", Path("a")).identity == "nvcc 13.0.88"


def test_where_no_compiler_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "distribution", absent)
    found = nvcc()
    if found is not None:
        assert toolchain.__wrapped__() == found
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TileError, match="needs NVRTC or nvcc, and this machine has neither") as e:
        toolchain.__wrapped__()
    assert e.value.hint == "pip install tilec[cuda]"
    broken = tmp_path / "libnvrtc.so.99"
    broken.write_bytes(b"no library")
    with pytest.raises(TileError, match="nvrtc 99 can't be loaded"):
        compile_cuda(SCALED, "sm_80", tools=Toolchain("nvrtc", "99", broken))
