"""Launchers over time: errors, references, threads, imports."""

# The tests look into unions that they have just made.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

# Slot 0 is the address of i64 words: copy the first 6 slots there.
from launching import (
    RECORD,
    Packed,
    Recorder,
    scalar,
    tensor,
)

from tilec.ir.errors import TileError
from tilec.ir.source import Param
from tilec.runtime.jit import LoadedModule
from tilec.runtime.launch import Compiled, Launcher
from tilec.runtime.native import NativeLauncher


def test_an_error_of_the_slow_path_is_the_callers(launcher: Launcher) -> None:
    calls: list[int] = []

    def slow_path(_: tuple[Any, ...]) -> Compiled:
        calls.append(1)
        raise TileError("no such kernel")

    dispatcher = launcher.dispatcher("k", slow_path)
    for count in (1, 2):
        with pytest.raises(TileError, match="no such kernel"):
            dispatcher.launch(np.ones(3))
        assert len(calls) == count


def test_references_are_neither_lost_nor_kept(launcher: Launcher, record: LoadedModule) -> None:
    call = Recorder(launcher, record, tensor(1))
    packed, array, matrix = Packed(1, 1, [8]), np.ones(5, np.float32), torch.ones(5)
    arguments = (array, matrix, packed, 12345678901, 1.25)

    def counts() -> list[int]:
        gc.collect()
        return [sys.getrefcount(a) for a in (*arguments, packed.tilec_handle)]

    call(*arguments)
    before = counts()
    for _ in range(200):
        call(*arguments)
        with pytest.raises(TileError):
            call(array, "text", packed)
    assert counts() == before


def test_a_function_outlives_its_dispatcher(launcher: Launcher, record: LoadedModule) -> None:
    call = Recorder(launcher, record, tensor(1))
    launch, out, array = call.dispatcher.launch, call.out, np.ones(7, np.float32)
    del call
    gc.collect()
    launch(out, array)
    launch(out, array)
    assert out[:2].tolist() == [out.ctypes.data, array.ctypes.data]


def test_dispatchers_are_collected(native: NativeLauncher, record: LoadedModule) -> None:
    dispatchers: list[weakref.ref[Any]] = []
    for n in range(50):
        call = Recorder(native, record, tensor(1))
        array = np.ones(n + 1, np.float32)
        assert call(array)[1] == array.ctypes.data
        dispatchers.append(weakref.ref(call.dispatcher))
    del call
    gc.collect()
    assert [found() for found in dispatchers] == [None] * 50


def run_threads(count: int, work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_calls_at_the_same_time_have_workspaces_of_their_own(
    launcher: Launcher, meet: LoadedModule
) -> None:
    out = np.zeros(8, np.int64)
    own = Param("out", "i64", (8,), "tensor", 0)
    answer = Compiled(meet["meet"], (own,), workspace=1000, keep=meet)
    dispatcher = launcher.dispatcher("meet", lambda _: answer)
    for _ in range(10):
        out[:] = [0, 3, -1, -1, -1, 0x5A, 0x5A, 0x5A]
        # Three calls that wait for each other: this only ends when the GIL is released.
        run_threads(3, lambda: dispatcher.launch(out))
        spaces = sorted(out[2:5].tolist())
        assert out[5:].tolist() == [0x5A] * 3
        assert all(space > 0 and space % 64 == 0 for space in spaces)
        assert spaces[0] + 1000 <= spaces[1]
        assert spaces[1] + 1000 <= spaces[2]


def test_a_kernel_may_hold_the_gil(launcher: Launcher, record: LoadedModule) -> None:
    call = Recorder(launcher, record, scalar("i32"), release_gil=False)
    assert call(17)[1] == 17


def test_a_kernel_without_workspace_gets_none(launcher: Launcher, record: LoadedModule) -> None:
    call = Recorder(launcher, record)
    assert call()[:2] == [call.out.ctypes.data, 0]


def test_threads_that_specialise_at_once(launcher: Launcher, record: LoadedModule) -> None:
    call = Recorder(launcher, record, tensor(1))
    failures: list[BaseException] = []

    def work() -> None:
        out = np.full(6, -5, np.int64)
        try:
            for n in range(1, 60):
                array = np.ones(n, np.float32)
                call.dispatcher.launch(out, array)
                assert out[1] == array.ctypes.data
        except BaseException as failure:
            failures.append(failure)

    run_threads(4, work)
    assert failures == []


WITHOUT_TORCH = """
import sys
import numpy as np
from tilec.runtime.jit import host_machine, compile_object, load_object
from tilec.runtime.launch import Compiled
from tilec.runtime.native import NativeLauncher
from tilec.ir.source import Param
module = load_object(compile_object({record!r}, host_machine()), ["record"])
params = (Param("out", "i64", (6,), "tensor", 0), Param("x", "f32", (3,), "tensor", 1))
call = NativeLauncher(host_machine()).dispatcher("k", lambda a: Compiled(module["record"], params))
out, x = np.full(6, -1), np.ones(3, np.float32)
call.launch(out, x)
assert out[1] == x.ctypes.data
assert "torch" not in sys.modules
import torch
y = torch.ones(3)
call.launch(out, y)
assert out[1] == y.data_ptr()
"""


def test_torch_is_never_imported_and_works_when_it_is() -> None:
    script = WITHOUT_TORCH.format(record=RECORD)
    ended = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    assert ended.returncode == 0


def test_more_slots_than_the_launcher_has_are_refused(
    launcher: Launcher, record: LoadedModule
) -> None:
    call = Recorder(launcher, record, *[scalar("i64") for _ in range(128)])
    with pytest.raises(TileError, match="129 slots: expected at most 128"):
        call(1)
