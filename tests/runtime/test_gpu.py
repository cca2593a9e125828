"""Plans launched by native code: counts, threads, memory, and what a plan has no room for."""

from __future__ import annotations

import ctypes
import sys
import threading

import numpy as np
import pytest
import torch
from fake_driver import FakeDriver

from tilec.bench.launch import Nothing, nothing
from tilec.compile import engine
from tilec.ir.bits import aligned
from tilec.ir.errors import TileError
from tilec.ir.source import Param, TensorBoxes
from tilec.runtime.arguments import read
from tilec.runtime.driver import Driver
from tilec.runtime.gpu import Gpu
from tilec.runtime.program import Boxes, Given, Kernel, Made, Program, Size


@pytest.fixture(scope="module")
def driver() -> Nothing:
    return nothing()


def count(driver: Nothing, what: str) -> int:
    return ctypes.c_int64.from_address(driver.module[what]).value


def test_every_call_is_one_launch(driver):
    before = count(driver, "launches"), count(driver, "blocks")
    launch = driver.dispatcher(3, 1).launch
    tensors = [torch.zeros(5) for _ in range(3)]
    for i in range(100):
        launch(*tensors, i)
    assert (count(driver, "launches"), count(driver, "blocks")) == (
        before[0] + 100,
        before[1] + 500,
    )


def test_threads_launch_at_once(driver):
    before = count(driver, "blocks")
    launch = driver.dispatcher(2, 0).launch
    tensors = [torch.zeros(n) for n in (3, 4, 5, 6)]
    threads = [threading.Thread(target=lambda t=t: [launch(t, t) for _ in range(500)])
               for t in tensors]  # fmt: skip
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert count(driver, "blocks") == before + 500 * (3 + 4 + 5 + 6)


def test_launches_leave_nothing_behind(driver):
    launch = driver.dispatcher(9, 4).launch
    tensors = [torch.zeros(64) for _ in range(9)]
    launch(*tensors, 1, 2, 3, 4)
    before = sys.getallocatedblocks()
    for _ in range(20_000):
        launch(*tensors, 1, 2, 3, 4)
    assert sys.getallocatedblocks() - before < 100


def test_the_key_of_a_call_knows_which_addresses_are_multiples_of_16():
    room = np.zeros(64, np.float32)
    tensor = torch.from_numpy(room)
    start = -room.ctypes.data % 16 // 4
    for place, odd in ((start, 0), (start + 1, 1), (start + 2, 1), (start + 4, 0)):
        for argument in (room[place : place + 8], tensor[place : place + 8]):
            reading = read(argument)
            assert reading is not None
            assert reading.words[0] >> 16 & 1 == odd


def plan_of(fake: FakeDriver, *kernels: Kernel, own: dict[str, int] | None = None) -> None:
    fake.driver.context(0)
    gpu = Gpu(fake.driver, engine().machine, engine().object)
    x = np.zeros(64, np.float32)
    gpu.load(Program(kernels, (Param("x", "f32", (64,), "tensor", 0),), own or {}), 0, {}, (x,))


PTX = b""".version 8.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 x) { ret; }
\0"""
BOXES = TensorBoxes("b", "x", (8, 8), (32,), (8, 4), 0, 4)


def test_what_a_plan_has_no_room_for():
    fake = FakeDriver()
    for parameters in ((Size(0),) * 161, (Boxes(BOXES, Given(0)),) * 17):
        with pytest.raises(
            TileError, match=r"k has .* parameters, .*: expected at most 160 and 16"
        ):
            plan_of(fake, Kernel("k", PTX, 1, 32, 0, parameters))


def test_a_tensor_map_of_memory_between_kernels():
    fake = FakeDriver()
    kernel = Kernel("k", PTX, 1, 32, 0, (Boxes(BOXES, Made("m")), Made("m")))
    plan_of(fake, kernel, own={"first": 24, "m": 256})
    assert fake.calls.count("cuTensorMapEncodeTiled") == 1
    assert not fake.trouble


def test_a_kernel_that_an_image_has_not():
    with pytest.raises(TileError, match="cuModuleGetFunction: CUDA_ERROR_NOT_FOUND"):
        plan_of(FakeDriver(), Kernel("other", PTX, 1, 32, 0, ()))


def test_a_driver_that_lacks_a_function():
    fake = FakeDriver()
    table = {n: a for n, a in fake.driver.addresses.items() if n != "cuTensorMapEncodeTiled"}
    gpu = Gpu(Driver(table, "cpu"), engine().machine, engine().object)
    program = Program((Kernel("k", PTX, 1, 32, 0, (Boxes(BOXES, Given(0)),)),),
                      (Param("x", "f32", (64,), "tensor", 0),))  # fmt: skip
    with pytest.raises(TileError, match="the NVIDIA driver has no cuTensorMapEncodeTiled"):
        gpu.load(program, 0, {}, (np.zeros(64, np.float32),))


def test_devices_are_described():
    first, second = FakeDriver((8, 9)).driver.devices
    assert (first.number, first.name, first.capability) == (0, "fake 0", (8, 9))
    assert (second.name, second.processors, second.shared) == ("fake 1", 4, 227 << 10)


def test_memory_takes_as_many_bytes_as_it_has():
    memory = FakeDriver().driver.memory(1, 64)
    memory.write(np.arange(16, dtype=np.float32))
    assert (ctypes.c_float * 16).from_address(memory.address)[:] == [*range(16)]
    with pytest.raises(TileError, match="60 bytes for a memory of 64"):
        memory.write(np.zeros(15, np.float32))


MAPS = PTX.replace(b".param .u64 x", b", ".join([
    b".param .u64 x", b".param .u64 y",
    *(b".param .align 64 .b8 m%d[128]" % i for i in range(3)),
]))  # fmt: skip


def test_parameters_that_are_made_at_a_launch_have_room_of_their_own():
    """Parts of the workspace, and maps of tensors that are not where they were."""
    fake = FakeDriver(execute=False)
    gpu = Gpu(fake.driver, engine().machine, engine().object)
    params = tuple(Param(n, "f32", (8, 8), "tensor", i) for i, n in enumerate("xy"))
    parts = (Made("first"), Made("second"))
    maps = (Boxes(BOXES, Given(0)), Boxes(BOXES, Given(1)), Boxes(BOXES, Made("second")))
    program = Program((Kernel("k", MAPS, 1, 32, 0, (*parts, *maps)),), params,
                      {"first": 24, "second": 256})  # fmt: skip
    launch = engine().dispatcher("k", lambda given: gpu.load(program, 0, {}, given)).launch
    for _ in range(2):
        x, y = aligned(256).view(np.float32), aligned(256).view(np.float32)
        launch(x.reshape(8, 8), y.reshape(8, 8))
        first, second, *made = (p[8:16] if len(p) == 128 else p
                                for p in fake.launched[-1].parameters)  # fmt: skip
        assert int.from_bytes(second, "little") == int.from_bytes(first, "little") + 32
        wanted = [x.ctypes.data, y.ctypes.data, int.from_bytes(second, "little")]
        assert [int.from_bytes(m, "little") for m in made] == wanted
    assert fake.calls.count("cuTensorMapReplaceAddress") == 2
