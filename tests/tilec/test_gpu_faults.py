"""What goes wrong with launches on GPUs, and bound kernels: by a driver that runs PTX."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from fake_driver import FakeDriver
from launched import (
    LINEAR,
    SCALE,
    call,
    called,
    definition,
    fake,
    gpu_of,
    product,
)

import tilec as tc
from tilec import cuda
from tilec.compile import Kernel
from tilec.gpu import Choice
from tilec.ir.errors import TileError
from tilec.runtime.driver import LIBRARY, Driver, open_driver
from tilec.runtime.placed import DeviceTensor

__all__ = ["fake"]


def test_a_bound_kernel_has_memory_of_its_own_and_allocates_nothing(fake):
    """As a CUDA graph asks for, whatever the stream that is captured."""
    x, w, y, want = product(16, 32, 256)
    kernel = Kernel(definition(LINEAR), Choice(schedule=cuda.Schedule(split=2), image="ptx"),
                    gpu_of(fake))  # fmt: skip
    fake.hold(x, w, y)
    bound, other = kernel.bind(x, w, y), kernel.bind(x, w, y)
    before = len(fake.calls), fake.held()
    for stream in (0, 5, 7, 5):
        fake.stream = stream
        y[:] = np.nan
        bound()
        assert np.array_equal(y, want)
        assert fake.launched[-1].stream == stream
    z = np.zeros_like(y)
    fake.hold(z)
    bound(x, w, z)
    assert np.array_equal(z, want)
    assert set(fake.calls[before[0] :]) == {"stream", "cuCtxGetCurrent", "cuLaunchKernel"}
    assert fake.held() == before[1]
    own = {k.parameters[-1] for k in fake.launched}
    other()
    assert fake.launched[-1].parameters[-1] not in own
    with pytest.raises(TileError, match="linear is bound to numpy f16"):
        bound(x[:8].copy(), w, y)


def test_a_bound_kernel_on_a_device_that_fails(fake):
    x, w, y, want = product(16, 16, 64)
    kernel = Kernel(definition(LINEAR), Choice(image="ptx"), gpu_of(fake))
    fake.hold(x, w, y)
    bound = kernel.bind(x, w, y)
    fake.fails["cuLaunchKernel"] = 2
    for _ in range(2):
        with pytest.raises(TileError, match=r"launching linear_0 .*: CUDA_ERROR_OUT_OF"):
            bound()
    fake.fails.clear()
    bound()
    assert np.array_equal(y, want)


def test_tensors_on_several_devices(fake):
    x, w, y, _ = product(16, 16, 64)
    packed = tc.quantize(w, tc.int4(group=64))
    other = DeviceTensor(packed.format, packed.shape, packed.parts, fake.driver, 1)
    text = LINEAR.replace("w: f16", "w: int4<group=64>")
    with pytest.raises(TileError, match="linear: `x` is on cpu, but `w` is on cpu:1"):
        called(text, fake, "cuda", x, other, y)
    with pytest.raises(TileError, match="no GPU has the number 2: there are 2"):
        DeviceTensor(packed.format, packed.shape, packed.parts, fake.driver, 2)


def test_a_packed_tensor_that_is_not_on_the_gpu_with_a_driver_of_cuda(fake):
    class Cuda(Kernel):
        """As with CUDA's tensors, of which there are none here."""

    kernel = Cuda(definition(LINEAR))
    with pytest.raises(TileError, match="`x` is on cuda:0, but `w` is on cpu") as caught:
        kernel._device({"x": "cuda:0", "w": "cpu"})
    assert caught.value.hint == 'w.to("cuda:0")'
    assert kernel._device({"x": "cuda:1", "w": "cuda:1"}) == 1
    assert kernel._device({"x": "cpu", "w": "cpu"}) is None


def test_an_address_that_is_not_aligned_is_refused_whenever_it_comes(fake):
    x, w, y, want = product(16, 16, 64)
    room = np.zeros(16 * 64 + 1, np.float16)
    odd = room[1:].reshape(16, 64)
    odd[:] = x
    linear = called(LINEAR, fake, "cuda", x, w, y)
    for _ in range(2):
        with pytest.raises(TileError, match="`x` begins at an address that is no multiple of 16"):
            call(linear, fake, odd, w, y)
    assert np.array_equal(y, want)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("cuLaunchKernel", r"launching linear_0 with \d+ blocks of 128 threads and \d+ bytes "
         r"of shared memory: CUDA_ERROR_OUT_OF_MEMORY \(out of memory\)"),
        ("cuModuleLoadData", "cuModuleLoadData: CUDA_ERROR_OUT_OF_MEMORY"),
        ("cuModuleGetFunction", "cuModuleGetFunction: CUDA_ERROR_OUT_OF_MEMORY"),
        ("cuCtxGetCurrent", "making the context current: CUDA_ERROR_OUT_OF_MEMORY"),
        ("stream", "asking for the current stream: CUDA_ERROR_OUT_OF_MEMORY"),
    ],
)  # fmt: skip
def test_what_the_driver_says_is_passed_on(fake, function, message):
    x, w, y, _ = product(16, 16, 64)
    fake.fails[function] = 2
    with pytest.raises(TileError, match=message):
        called(LINEAR, fake, "cuda", x, w, y)


def test_an_error_of_a_later_launch_is_passed_on_and_does_not_stay(fake):
    x, w, y, want = product(16, 16, 64)
    linear = called(LINEAR, fake, "cuda", x, w, y)
    fake.fails["cuLaunchKernel"] = 12345
    for _ in range(2):
        with pytest.raises(TileError, match=r"launching linear_0 .*: error 12345"):
            call(linear, fake, x, w, y)
    fake.fails.clear()
    y[:] = 0
    call(linear, fake, x, w, y)
    assert np.array_equal(y, want)


def test_more_shared_memory_than_there_is(fake):
    x, w, y, _ = product(256, 256, 512)
    schedule = cuda.Schedule(stages=6, tiles={"m": 128, "n": 128, "k": 128})
    with pytest.raises(TileError, match="bytes of shared memory, and fake 0 has 232448"):
        called(LINEAR, fake, "cuda", x, w, y, schedule=schedule)


def test_choices_that_there_are_not():
    with pytest.raises(TileError, match="no back end for GPUs is called 'cpu'"):
        Choice("cpu")
    with pytest.raises(TileError, match=r"the triton back end takes a tilec\.triton\.Schedule"):
        Choice("triton", schedule=cuda.Schedule())


def test_an_open_dimension_that_there_is_not(fake):
    x, w, y, _ = product(16, 16, 64)
    with pytest.raises(TileError, match="linear has no dimension `Q`; it has M, K, N"):
        called(LINEAR, fake, "cuda", x, w, y, open=("Q",))


def test_choices_of_a_decorated_kernel():
    @tc.kernel(backend="triton", open=("M",))
    def double(x: tc.Tensor["M"], y: tc.Tensor["M"]):
        for m in tc.tiles("M"):
            y[m] = x[m] * 2.0

    assert double.choice == Choice("triton", open=("M",))
    x = np.arange(5, dtype=np.float32)
    y = np.zeros_like(x)
    double(x, y)  # on the CPU, as the arrays are
    assert np.array_equal(y, 2 * x)


def test_a_machine_without_a_driver():
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        with pytest.raises(TileError, match="no NVIDIA driver is installed") as caught:
            open_driver()
        assert "arrays on the CPU" in caught.value.hint
        packed = tc.quantize(np.ones((4, 32)), tc.int4(group=32))
        with pytest.raises(TileError, match="no NVIDIA driver is installed"):
            packed.to("cuda")


def test_devices_that_are_no_gpu():
    packed = tc.quantize(np.ones((4, 32)), tc.int4(group=32))
    for name in ("cpu", "cuda:x", "rocm:0"):
        with pytest.raises(TileError, match=f"to: '{name}' is no GPU"):
            packed.to(name)
    with pytest.raises(TileError, match="to: a dynamic tensor is rounded at each launch"):
        tc.dynamic(np.ones((4, 32), np.float32), tc.int8(group=32)).to("cuda")


# On a GPU.


def test_a_device_that_is_lost_says_so_and_what_to_do(fake):
    """Sticky errors: a kernel of anyone in the process broke the context."""
    x, w, y, _ = product(16, 16, 64)
    linear = called(LINEAR, fake, "cuda", x, w, y)
    bound = linear.bind(x, w, y)
    fake.lose(700)
    del fake.fails["cuCtxGetCurrent"]
    for run in (lambda: linear(x, w, y), bound, lambda: bound(x, w, y)):
        for _ in range(2):
            with pytest.raises(TileError, match=r"launching linear_0 .*ILLEGAL_A") as caught:
                run()
            assert "start a new process" in (caught.value.hint or "")
    other = Kernel(definition(SCALE), Choice(image="ptx"), gpu_of(fake))
    z = np.zeros((4, 4), np.float32)
    with pytest.raises(TileError, match="CUDA_ERROR_ILLEGAL_ADDRESS") as caught:
        other(z, 1.0, 2, z)
    assert "start a new process" in (caught.value.hint or "")


def test_no_memory_for_a_workspace(fake):
    x, w, y, want = product(16, 32, 256)
    kernel = Kernel(definition(LINEAR), Choice(schedule=cuda.Schedule(split=2), image="ptx"),
                    gpu_of(fake))  # fmt: skip
    fake.hold(x, w, y)
    fake.fails["cuMemAlloc"] = 2
    for run in (lambda: kernel(x, w, y), lambda: kernel.bind(x, w, y)):
        with pytest.raises(TileError, match=r"cuMemAlloc of \d+ bytes: CUDA_ERROR_OUT_OF_MEMORY"
                           ) as caught:  # fmt: skip
            run()
        assert "free tensors on the GPU" in (caught.value.hint or "")
    fake.fails.clear()
    kernel(x, w, y)
    assert np.array_equal(y, want)
    fake.stream = 9  # which has none yet
    fake.fails["cuMemAlloc"] = 2
    with pytest.raises(TileError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        kernel(x, w, y)
    fake.fails.clear()
    y[:] = 0
    kernel(x, w, y)
    assert np.array_equal(y, want)


def test_code_for_another_gpu(fake):
    x, w, y, _ = product(16, 16, 64)
    for code, hint in ((209, "compile for the GPU that is there"), (222, "a newer driver")):
        fake.fails["cuModuleLoadData"] = code
        with pytest.raises(TileError, match=f"cuModuleLoadData: error {code}") as caught:
            called(LINEAR, fake, "cuda", x, w, y)
        assert hint in (caught.value.hint or "")


def test_a_driver_that_does_not_start(fake):
    for code in (100, 803):
        broken = FakeDriver()
        broken.fails["cuInit"] = code
        with pytest.raises(TileError, match=f"cuInit: error {code}"):
            Driver(broken.driver.addresses)
