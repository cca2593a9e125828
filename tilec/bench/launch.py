"""What a launch costs on the host: the native launcher with a driver that does nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tilec.compile import engine
from tilec.ir.source import Param
from tilec.runtime.driver import Driver
from tilec.runtime.gpu import Gpu
from tilec.runtime.jit import LoadedModule, compile_object, host_machine, load_object
from tilec.runtime.launch import Dispatcher
from tilec.runtime.program import Given, Kernel, Program, Size

# One GPU of compute capability 9.9. Launches are counted, and so are the blocks of all of them.
NOTHING = """
@launches = global i64 0
@blocks = global i64 0
@name = internal constant [8 x i8] c"nothing\\00"

define i32 @cuInit(i32 %flags) { ret i32 0 }
define i32 @cuDeviceGetCount(ptr %out) { store i32 1, ptr %out
  ret i32 0 }
define i32 @cuDeviceGet(ptr %out, i32 %number) { store i32 %number, ptr %out
  ret i32 0 }
define i32 @cuDeviceGetName(ptr %out, i32 %size, i32 %device) {
  %word = load i64, ptr @name
  store i64 %word, ptr %out
  ret i32 0 }
define i32 @cuDeviceGetAttribute(ptr %out, i32 %attribute, i32 %device) { store i32 9, ptr %out
  ret i32 0 }
define i32 @cuDevicePrimaryCtxRetain(ptr %out, i32 %device) { store i64 7, ptr %out
  ret i32 0 }
define i32 @cuCtxGetCurrent(ptr %out) { store i64 7, ptr %out
  ret i32 0 }
define i32 @cuCtxPushCurrent(ptr %context) { ret i32 0 }
define i32 @cuCtxPopCurrent(ptr %out) { ret i32 0 }
define i32 @cuModuleLoadData(ptr %out, ptr %image) { store i64 8, ptr %out
  ret i32 0 }
define i32 @cuModuleGetFunction(ptr %out, ptr %module, ptr %name) { store i64 9, ptr %out
  ret i32 0 }
define i32 @cuGetErrorName(i32 %code, ptr %out) { ret i32 1 }
define i32 @cuGetErrorString(i32 %code, ptr %out) { ret i32 1 }
define i32 @stream(i32 %kind, i32 %device, ptr %out) { store ptr null, ptr %out
  ret i32 0 }
define i32 @cuLaunchKernel(ptr %function, i32 %x, i32 %y, i32 %z, i32 %threads, i32 %b, i32 %c,
                           i32 %shared, ptr %stream, ptr %parameters, ptr %extra) {
  %wide = zext i32 %x to i64
  %one = atomicrmw add ptr @launches, i64 1 monotonic
  %all = atomicrmw add ptr @blocks, i64 %wide monotonic
  ret i32 0 }
"""
FUNCTIONS = (
    "cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain", "cuCtxGetCurrent", "cuCtxPushCurrent", "cuCtxPopCurrent",
    "cuModuleLoadData", "cuModuleGetFunction", "cuGetErrorName", "cuGetErrorString",
    "cuLaunchKernel",
)  # fmt: skip


@dataclass(frozen=True)
class Nothing:
    """A driver whose launches do nothing, and the code that it is: `launches` and `blocks` are
    addresses of counters."""

    module: LoadedModule
    driver: Driver

    def dispatcher(self, tensors: int, integers: int) -> Dispatcher:
        """A kernel that takes tensors of f32 and integers, and has as many blocks as the first has
        elements."""
        gpu = Gpu(self.driver, engine().machine, engine().object)
        params = [Param(f"t{i}", "f32", (), "tensor", i) for i in range(tensors)]
        params += [Param(f"n{i}", "i32", (), "scalar", tensors + i) for i in range(integers)]
        given = tuple(map(Given, range(len(params))))

        def load(arguments: tuple[Any, ...]) -> Any:
            kernel = Kernel("k", b"", arguments[0].numel(), 128, 0, (*given, Size(0)))
            return gpu.load(Program((kernel,), tuple(params)), 0, {}, arguments)

        return engine().dispatcher("k", load)


def nothing() -> Nothing:
    """The driver, for tensors of the CPU."""
    names = (*FUNCTIONS, "stream", "launches", "blocks")
    module = load_object(compile_object(NOTHING, host_machine()), names)
    return Nothing(module, Driver({n: module[n] for n in FUNCTIONS}, "cpu", module["stream"]))


def measure() -> list[tuple[str, float]]:
    """Nanoseconds of a call, the least of several bursts: of an empty function, and of launches."""
    from torch import zeros

    def empty() -> None:
        return

    driver, rows = nothing(), [("an empty function", _least(empty))]
    for tensors, integers in ((1, 0), (3, 0), (9, 4)):
        arguments = (*(zeros(64) for _ in range(tensors)), *range(integers))
        launch = driver.dispatcher(tensors, integers).launch
        rows.append((f"{tensors} tensors, {integers} integers",
                     _least(lambda f=launch, a=arguments: f(*a))))  # fmt: skip
    return rows


def _least(function: Callable[[], None], bursts: int = 15, calls: int = 20_000) -> float:
    found: list[float] = []
    for _ in range(bursts):
        start = time.perf_counter_ns()
        for _ in range(calls):
            function()
        found.append((time.perf_counter_ns() - start) / calls)
    return min(found)
