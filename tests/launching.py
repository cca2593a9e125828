"""What the launcher tests share: recording kernels, both launchers, packed arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from tilec.ir.source import Param
from tilec.runtime.jit import LoadedModule, Machine, compile_object, load_object
from tilec.runtime.launch import Compiled, Launcher, PythonLauncher
from tilec.runtime.native import NativeLauncher
from tilec.runtime.packed import PackedHandle

# Slot 0 is the address of i64 words: copy the first 6 slots there.
RECORD = """
define void @record(ptr %args) {
  %out = load ptr, ptr %args
  %slots = load <6 x i64>, ptr %args, align 8
  store <6 x i64> %slots, ptr %out, align 8
  ret void
}
"""
# Slot 0: two i64. Count up the first, wait until it is the second, store the workspace's address
# behind them, at a place of its own.
MEET = """
define void @meet(ptr %args) {
entry:
  %out = load ptr, ptr %args
  %goal.at = getelementptr i64, ptr %out, i64 1
  %goal = load i64, ptr %goal.at
  %place = atomicrmw add ptr %out, i64 1 seq_cst
  %workspace.at = getelementptr ptr, ptr %args, i64 1
  %workspace = load ptr, ptr %workspace.at
  %to.i = add i64 %place, 2
  %to = getelementptr ptr, ptr %out, i64 %to.i
  store ptr %workspace, ptr %to
  br label %wait
wait:
  %now = load atomic i64, ptr %out seq_cst, align 8
  %all = icmp uge i64 %now, %goal
  br i1 %all, label %end, label %wait
end:
  ret void
}
"""

DTYPES = {
    "f64": np.float64,
    "f32": np.float32,
    "f16": np.float16,
    "bf16": ml_dtypes.bfloat16,
    "e4m3": ml_dtypes.float8_e4m3fn,
    "e5m2": ml_dtypes.float8_e5m2,
    "i8": np.int8,
    "u8": np.uint8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "u16": np.uint16,
    "u32": np.uint32,
    "bool": np.bool_,
}
TORCH = {name: getattr(torch, np.dtype(dtype).name) for name, dtype in DTYPES.items()}


class Packed:
    """A packed tensor of made-up components."""

    def __init__(self, format_id: int, layout_id: int, pointers: Sequence[int]) -> None:
        self.handle = PackedHandle(format_id, layout_id, pointers)
        self.tilec_handle = self.handle.address


@pytest.fixture(scope="session")
def native(machine: Machine) -> NativeLauncher:
    return NativeLauncher(machine)


@pytest.fixture(params=["native", "python"])
def launcher(request: pytest.FixtureRequest, native: NativeLauncher) -> Launcher:
    return native if request.param == "native" else PythonLauncher()


@pytest.fixture(scope="session")
def record(machine: Machine) -> LoadedModule:
    return load_object(compile_object(RECORD, machine), ["record"])


@pytest.fixture(scope="session")
def meet(machine: Machine) -> LoadedModule:
    return load_object(compile_object(MEET, machine), ["meet"])


class Recorder:
    """A dispatcher of the kernel `record`; counts how often it was specialised."""

    def __init__(
        self, launcher: Launcher, module: LoadedModule, *params: Param, **more: Any
    ) -> None:
        self.out = np.full(6, -77, np.int64)
        self.compiled = 0
        own = Param("out", "i64", (6,), "tensor", 0)
        self._answer = Compiled(module["record"], (own, *params), keep=module, **more)
        self.dispatcher = launcher.dispatcher("record", self._slow_path)

    def _slow_path(self, _: tuple[Any, ...]) -> Compiled:
        self.compiled += 1
        return self._answer

    def __call__(self, *arguments: Any) -> list[int]:
        self.out[:] = -77
        assert self.dispatcher.launch(self.out, *arguments) is None
        return self.out.tolist()


def tensor(argument: int) -> Param:
    return Param(f"t{argument}", "f32", (4,), "tensor", argument)


def scalar(dtype: str, argument: int = 1) -> Param:
    return Param("s", dtype, (), "scalar", argument)


def f64_bits(value: float) -> int:
    return int(np.float64(value).view(np.int64))


def f32_bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))
