"""The thread pool: every chunk runs exactly once, whatever else happens."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tilec.ir.errors import TileError
from tilec.runtime.jit import Machine, compile_object, load_object
from tilec.runtime.pool import Pool, available_threads

from .conftest import Count

NESTED = """
declare void @tilec_parallel(ptr, ptr, i64)
define void @inner(ptr %args, i64 %chunk, i32 %tid) {
  %base = load ptr, ptr %args
  %at = getelementptr i32, ptr %base, i64 %chunk
  %old = atomicrmw add ptr %at, i32 1 monotonic
  ret void
}
define void @outer(ptr %args, i64 %chunk, i32 %tid) {
  call void @tilec_parallel(ptr @inner, ptr %args, i64 5)
  ret void
}
define void @nested(ptr %args) {
  call void @tilec_parallel(ptr @outer, ptr %args, i64 40)
  ret void
}
"""
# Each chunk writes its tid.
TIDS = """
declare void @tilec_parallel(ptr, ptr, i64)
declare i32 @tilec_threads()
define void @chunk(ptr %args, i64 %chunk, i32 %tid) {
  %at = getelementptr i32, ptr %args, i64 %chunk
  store i32 %tid, ptr %at
  ret void
}
define i32 @tids(ptr %args) {
  call void @tilec_parallel(ptr @chunk, ptr %args, i64 4000)
  %threads = call i32 @tilec_threads()
  ret i32 %threads
}
"""


def check(count: Count, chunks: int, repeats: int = 1) -> None:
    """Run `count` and compare; one counter too many stands guard behind the last."""
    counters = np.full(max(chunks, 0) + 1, 1000, np.int32)
    for _ in range(repeats):
        count(counters.ctypes.data, chunks)
    assert counters[-1] == 1000
    assert (counters[:-1] == 1000 + repeats).all()


@pytest.mark.parametrize("chunks", [0, 1, 2, 3, 4, 7, 64, 1001])
def test_every_chunk_runs_once(count: Count, chunks: int) -> None:
    check(count, chunks, 500)


def test_a_negative_count_runs_nothing(count: Count) -> None:
    check(count, -3)


def test_more_chunks_than_24_bits_count(count: Count) -> None:
    check(count, (1 << 24) + 5)


def test_threads_of_python_launch_together(count: Count) -> None:
    failures: list[BaseException] = []

    def launch(chunks: int) -> None:
        try:
            check(count, chunks, 1000)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=launch, args=(chunks,)) for chunks in (1, 2, 17, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_launch_inside_a_chunk_runs_inline(machine: Machine, pool: Pool) -> None:
    module = load_object(compile_object(NESTED, machine), ["nested"], pool.symbols)
    counters = np.full(6, 7, np.int32)
    slots = (ctypes.c_int64 * 1)(counters.ctypes.data)
    for _ in range(50):
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(module["nested"])(slots)
    assert counters.tolist() == [7 + 2000] * 5 + [7]


def test_thread_numbers_are_below_the_thread_count(machine: Machine, pool: Pool) -> None:
    module = load_object(compile_object(TIDS, machine), ["tids"], pool.symbols)
    tids = np.full(4001, -1, np.int32)
    run = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(module["tids"])
    assert run(tids.ctypes.data) == 3
    assert tids[-1] == -1
    assert set(tids[:-1].tolist()) <= {0, 1, 2}


def in_child(work: object) -> int:
    """Fork, run, and return the child's exit status; 77 when it raised."""
    child = os.fork()
    if child == 0:
        try:
            assert callable(work)
            work()
            os._exit(0)
        except BaseException:
            os._exit(77)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_has_threads_of_its_own(count: Count) -> None:
    check(count, 100)

    def work() -> None:
        check(count, 100, 200)
        assert len(os.listdir("/proc/self/task")) == 3

    for _ in range(5):
        assert in_child(work) == 0
    check(count, 100, 200)


def test_a_fork_during_a_launch_leaves_the_child_free(count: Count) -> None:
    stop = threading.Event()

    def launch() -> None:
        while not stop.is_set():
            check(count, 2000, 20)

    thread = threading.Thread(target=launch)
    thread.start()
    try:
        results = [in_child(lambda: check(count, 50, 20)) for _ in range(10)]
    finally:
        stop.set()
        thread.join()
    assert results == [0] * 10


def test_sleeping_workers_wake_up(machine: Machine) -> None:
    eager = Pool(machine, 2, spins=0)
    module = load_object(compile_object(TIDS, machine), ["tids"], eager.symbols)
    run = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(module["tids"])
    tids = np.full(4000, -1, np.int32)
    seen: set[int] = set()
    for _ in range(20_000):
        run(tids.ctypes.data)
        seen |= set(tids[::100].tolist())
        if seen == {0, 1}:
            break
    assert seen == {0, 1}


def test_the_process_ends_while_workers_spin() -> None:
    script = (
        "from tilec.runtime.jit import host_machine, compile_object, load_object\n"
        "from tilec.runtime.pool import Pool\nimport ctypes\n"
        "p = Pool(host_machine(), 4, spins=10_000_000)\n"
        f"m = load_object(compile_object({TIDS!r}, host_machine()), ['tids'], p.symbols)\n"
        "b = (ctypes.c_int32 * 4000)()\n"
        "assert ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(m['tids'])(b) == 4\n"
        "del p, m\n"
    )
    root = Path(__file__).parents[2]
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", script], cwd=root, timeout=60)
        assert ended.returncode == 0


def test_the_default_is_a_thread_per_processor(machine: Machine) -> None:
    assert Pool(machine).threads == available_threads() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("threads", [-1, 257])
def test_an_impossible_thread_count_is_refused(machine: Machine, threads: int) -> None:
    with pytest.raises(TileError, match="expected 1 to 256"):
        Pool(machine, threads)
