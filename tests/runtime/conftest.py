"""What the runtime's tests share: this computer, a thread pool, small kernels."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import pytest
from launching import launcher, meet, native, record

from tilec.runtime.jit import Machine, compile_object, host_machine, load_object
from tilec.runtime.pool import Pool

__all__ = ["launcher", "meet", "native", "record"]

# args: address of i32 counters, number of chunks; adds 1 to the counter of each chunk.
COUNT = """
declare void @tilec_parallel(ptr, ptr, i64)
define void @chunk(ptr %args, i64 %chunk, i32 %tid) {
  %base = load ptr, ptr %args
  %at = getelementptr i32, ptr %base, i64 %chunk
  %old = atomicrmw add ptr %at, i32 1 monotonic
  ret void
}
define void @count(ptr %args) {
  %chunks.at = getelementptr i64, ptr %args, i64 1
  %chunks = load i64, ptr %chunks.at
  call void @tilec_parallel(ptr @chunk, ptr %args, i64 %chunks)
  ret void
}
"""

Count = Callable[[int, int], None]


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that write much, and are not about what survives a stop of the machine."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="session")
def machine() -> Machine:
    return host_machine()


@pytest.fixture(scope="session")
def pool(machine: Machine) -> Pool:
    return Pool(machine, 3)


@pytest.fixture(scope="session")
def count(machine: Machine, pool: Pool) -> Count:
    """count(address, chunks) runs COUNT on the pool."""
    module = load_object(compile_object(COUNT, machine), ["count"], pool.symbols)
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(module["count"])

    def run(address: int, chunks: int) -> None:
        entry((ctypes.c_int64 * 2)(address, chunks))
        assert module["count"]  # and keep it mapped

    return run
