"""Kernels and a driver that do nothing, and the first call of a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tilec.compile import engine
from tilec.ir.source import Param
from tilec.runtime.driver import Driver
from tilec.runtime.gpu import Gpu
from tilec.runtime.jit import LoadedModule, compile_object, host_machine, load_object
from tilec.runtime.launch import Compiled, Dispatcher, Form, Out
from tilec.runtime.program import Given, Kernel, Program, Size
from tilec.settings import tool_environment

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
    module.keep_forever()  # what calls it knows addresses only
    return Nothing(module, Driver({n: module[n] for n in FUNCTIONS}, "cpu", module["stream"]))


def idle() -> Callable[[int, int, int], Dispatcher]:
    """Kernels of the CPU that do nothing, by the numbers of tensors, integers and results."""
    from torch import empty, float32

    text = "define void @nothing(ptr %args) { ret void }"
    module = load_object(compile_object(text, host_machine()), ["nothing"])

    def dispatcher(tensors: int, integers: int, results: int) -> Dispatcher:
        count = tensors + integers
        params = [Param(f"t{i}", "f32", (), "tensor", i) for i in range(tensors)]
        params += [Param(f"n{i}", "i32", (), "scalar", i) for i in range(tensors, count)]
        params += [Param(f"r{i}", "f32", (), "tensor", count + i) for i in range(results)]
        makers = (partial(empty, (64,), dtype=float32),) * results

        def load(given: tuple[Any, ...]) -> Compiled:
            made = () if isinstance(given[-1], Out) else makers
            return Compiled(module["nothing"], tuple(params), keep=module, results=made)

        return engine().dispatcher("nothing", load, Form(results=bool(results)))

    return dispatcher


FIRST = """
import time
import numpy as np
import tilec as tc

@tc.kernel
def linear(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc

x, y = np.ones((16, 256), np.float32), np.zeros((16, 64), np.float32)
w = np.ones((64, 256), np.float32)
if {packed}:
    w = tc.quantize(w, "int4<group=64>")
wall, own = time.perf_counter(), time.process_time()
linear(x, w, y)
print(1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - own))
"""


def first_calls(rounds: int = 5) -> list[dict[str, Any]]:
    """Milliseconds of the first call of a kernel whose code is in the cache, each in a process of
    its own, after `import tilec`: by the clock and of the processor, the least of several."""
    found: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        script = Path(folder, "first.py")  # a kernel is read from its file
        env = tool_environment() | {"TILEC_CACHE_DIR": str(Path(folder, "cache"))}
        for packed, what in ((False, "f32"), (True, "int4")):
            script.write_text(FIRST.format(packed=packed), "utf-8")
            runs: list[tuple[float, ...]] = []
            for _ in range(1 + rounds):  # the first one compiles
                done = subprocess.run([sys.executable, str(script)], env=env, check=True,
                                      capture_output=True, text=True)  # fmt: skip
                runs.append(tuple(map(float, done.stdout.split())))
            wall, own = (round(min(x), 1) for x in zip(*runs[1:], strict=True))
            found.append({"weights": what, "wall_ms": wall, "processor_ms": own})
    return found
