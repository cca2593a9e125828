"""Triton's launcher without a GPU: its own C code, over a CUDA driver that does nothing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tilec.ir.errors import TileError
from tilec.runtime.host_compiler import find_host_compiler
from tilec.settings import tell

# What Triton's driver.c asks for. Functions that write to memory are spelled out.
_NOTHING = (
    "cuCtxGetDevice", "cuCtxGetLimit", "cuCtxSetCurrent", "cuCtxSetLimit", "cuDeviceGet",
    "cuDevicePrimaryCtxRetain", "cuDriverGetVersion", "cuFuncSetAttribute",
    "cuFuncSetCacheConfig", "cuInit", "cuLaunchKernelEx", "cuModuleUnload",
    "cuOccupancyMaxActiveClusters", "cuPointerGetAttributes", "cuStreamIsCapturing",
    "cuTensorMapEncodeIm2col", "cuTensorMapEncodeTiled",
)  # fmt: skip
_DRIVER = """
extern "C" {
int cuCtxGetCurrent(void** out) { *out = (void*)1; return 0; }
int cuDeviceGetAttribute(int* out, int, int) { *out = 1 << 17; return 0; }
int cuFuncGetAttribute(int* out, int what, void*) { *out = what ? 0 : 1024; return 0; }
int cuGetErrorString(int, const char** out) { *out = "an error"; return 0; }
int cuModuleLoadData(void** out, const void*) { *out = (void*)2; return 0; }
int cuModuleGetFunction(void** out, void*, const char*) { *out = (void*)3; return 0; }
int cuPointerGetAttribute(void** out, int, unsigned long long at) { *out = (void*)at; return 0; }
"""
# Functions of Triton's language, by the numbers of tensors and of integers.
_KERNEL = """import triton
import triton.language as tl

@triton.jit
def kernel({arguments}):
    tl.store(t0, tl.load(t0))
"""


def launcher(shapes: list[tuple[int, int]], folder: Path) -> list[Callable[..., None]]:
    """For each number of tensors and integers, what launches a compiled kernel of Triton on them.

    As users write it, `kernel[grid](...)`. The device and the stream are numbers, where torch would
    be asked: that is to Triton's advantage. `folder` is for its files. Raises TileError where there
    is no Triton or no C compiler.
    """
    _library(folder)
    tell(TRITON_LIBCUDA_PATH=str(folder), TRITON_CACHE_DIR=str(folder / "cache"))
    try:
        import triton  # pyright: ignore[reportMissingTypeStubs]
        from triton.backends.nvidia import driver  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as e:
        raise TileError(f"no Triton to measure: {e}") from None
    whole: Any = triton
    nvidia: Any = driver

    class Idle(nvidia.CudaDriver):
        """One GPU, number 0, that asks nobody."""

        def __init__(self) -> None:
            self.utils = nvidia.CudaUtils()
            self.launcher_cls = nvidia.CudaLauncher
            self.get_current_device = _first
            self.get_current_stream = _first
            self.get_device_capability = _hopper

    whole.runtime.driver.set_active(Idle())
    return [_kernel(folder, *shape)[(1,)] for shape in shapes]


def _first(*_: Any) -> int:
    return 0


def _hopper(*_: Any) -> tuple[int, int]:
    return 9, 0


def _kernel(folder: Path, tensors: int, integers: int) -> Any:
    """A kernel of Triton, which reads its own source from a file."""
    names = [f"t{i}" for i in range(tensors)] + [f"n{i}" for i in range(integers)]
    path = folder / f"kernel_{tensors}_{integers}.py"
    path.write_text(_KERNEL.format(arguments=", ".join(names)), "utf-8")
    space: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    exec(compile(path.read_text("utf-8"), str(path), "exec"), space)
    return space["kernel"]


def _library(folder: Path) -> None:
    """The driver, loaded under the name that Triton's code asks for."""
    text = _DRIVER + "".join(f"int {n}(...) {{ return 0; }}\n" for n in _NOTHING) + "}\n"
    (folder / "driver.cpp").write_text(text, "utf-8")
    find_host_compiler().run(
        ["-shared", "-fPIC", "-O2", "-Wl,-soname,libcuda.so.1", "driver.cpp", "-o", "libcuda.so.1"],
        folder,
    )
    ctypes.CDLL(str(folder / "libcuda.so.1"), ctypes.RTLD_GLOBAL)
