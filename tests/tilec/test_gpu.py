"""Kernels called on a GPU through the native launcher: by a driver that runs PTX, or a real one."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch
from fake_driver import FakeDriver

import tilec as tc
from tilec import cuda, triton
from tilec.compile import Kernel, engine
from tilec.gpu import Choice
from tilec.ir.errors import TileError
from tilec.lang.kernel import Definition
from tilec.lang.text import parse
from tilec.runtime.driver import LIBRARY, open_driver
from tilec.runtime.gpu import Gpu
from tilec.runtime.placed import DeviceTensor

LINEAR = """
kernel linear(x: f16[M, K], w: f16[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros(f32, [m, n])
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}
"""
SOFTMAX = """
kernel softmax(x: f32[M, N], y: f32[M, N]) {
  for m in tiles(M) {
    e = exp(x[m, :] - max(x[m, :], axis=1, keepdims=true))
    y[m, :] = e / sum(e, axis=1, keepdims=true)
  }
}
"""
SCALE = """
kernel scale(x: f32[M, N], s: f32, t: i32, y: f32[M, N]) {
  for m, n in tiles(M, N) { y[m, n] = x[m, n] * s + f32(t) }
}
"""
BACKENDS = ("cuda", "triton")


def definition(text: str) -> Definition:
    (found,) = parse(text).values()
    return found


@pytest.fixture
def fake() -> FakeDriver:
    return FakeDriver()


def gpu_of(fake: FakeDriver) -> Gpu:
    return Gpu(fake.driver, engine().machine, engine().object)


def called(text: str, fake: FakeDriver, backend: str, *arguments: Any, **choices: Any) -> Kernel:
    """A kernel that has been called on arguments in the driver's memory."""
    kernel = Kernel(definition(text), Choice(backend, image="ptx", **choices), gpu_of(fake))
    call(kernel, fake, *arguments)
    return kernel


def call(kernel: Kernel, fake: FakeDriver, *arguments: Any) -> None:
    fake.hold(*(a for a in arguments if isinstance(a, np.ndarray | torch.Tensor)))
    try:
        kernel(*arguments)
    except TileError:
        assert not fake.trouble, fake.trouble[0]
        raise


def whole(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float16)


def product(m: int, n: int, k: int) -> tuple[Any, Any, Any, Any]:
    """Operands whose product is exact, room for it, and it."""
    x, w = whole((m, k)), whole((n, k), 1)
    return x, w, np.full((m, n), np.nan, np.float32), x.astype(np.float32) @ w.astype(np.float32).T


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_product_of_tensors(fake, backend):
    x, w, y, want = product(70, 40, 64)
    linear = called(LINEAR, fake, backend, x, w, y)
    assert np.array_equal(y, want)
    torch_y = torch.full((70, 40), torch.nan)
    call(linear, fake, torch.from_numpy(x), torch.from_numpy(w), torch_y)
    assert np.array_equal(torch_y.numpy(), want)
    assert [k.blocks for k in fake.launched] == [2, 2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_product_with_packed_weights(fake, backend):
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((16, 256)).astype(np.float16), np.zeros((16, 64), np.float32)
    packed = tc.quantize(rng.standard_normal((64, 256)), tc.int4(group=128))
    text = LINEAR.replace("w: f16", "w: int4<group=128>")
    w = DeviceTensor(packed.format, packed.shape, packed.parts, fake.driver, 0)
    assert w.nbytes == 0
    linear = called(text, fake, backend, x, w, y)
    want = x.astype(np.float32) @ packed.dequantize().T
    assert np.abs(y - want).max() < 1e-5 * np.abs(want).max()
    assert w.nbytes == 64 * 256 // 2 + 64 * 2 * 2
    y[:] = 0
    call(linear, fake, x, w, y)
    assert np.abs(y - want).max() < 1e-5 * np.abs(want).max()
    assert fake.held() == 2
    del w, linear
    assert fake.held() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_softmax(fake, backend):
    x = np.random.default_rng(3).standard_normal((5, 100)).astype(np.float32)
    y = np.full_like(x, np.nan)
    called(SOFTMAX, fake, backend, x, y)
    e = np.exp(x - x.max(1, keepdims=True))
    assert np.allclose(y, e / e.sum(1, keepdims=True), rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_launches_with_a_workspace_of_each_stream(fake, backend):
    x, w, y, want = product(16, 32, 256)
    kind = cuda.Schedule if backend == "cuda" else triton.Schedule
    linear = called(LINEAR, fake, backend, x, w, y, schedule=kind(split=2))
    assert np.array_equal(y, want)
    assert len(fake.launched) == 2
    assert fake.held() == 1
    fake.stream = 77
    for _ in range(2):
        y[:] = np.nan
        call(linear, fake, x, w, y)
        assert np.array_equal(y, want)
    assert fake.held() == 2
    assert [k.stream for k in fake.launched] == [0, 0, 77, 77, 77, 77]
    workspaces = {k.stream: {p for p in k.parameters if len(p) == 8} for k in fake.launched[::2]}
    assert len(workspaces[0] ^ workspaces[77]) == 2
    assert fake.calls.count("cuModuleLoadData") == (1 if backend == "cuda" else 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dimensions_left_open_need_no_other_code(fake, backend):
    """One build serves them; Triton makes another one where it may count on multiples of 16."""
    linear = None
    for m in (48, 32, 21, 5):
        x, w, y, want = product(m, 32, 64)
        if linear is None:
            linear = called(LINEAR, fake, backend, x, w, y, open=("M",))
        else:
            call(linear, fake, x, w, y)
        assert np.array_equal(y, want)
    assert linear is not None
    assert len(linear._programs) == (2 if backend == "triton" else 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tensor_maps_follow_their_tensors(fake, backend):
    tiles = {"m": 32, "n": 32, "k": 64}
    schedule = (cuda.Schedule(copies="bulk", tiles=tiles) if backend == "cuda"
                else triton.Schedule(descriptors=1, tiles=tiles))  # fmt: skip
    x, w, y, want = product(40, 48, 128)
    linear = called(LINEAR, fake, backend, x, w, y, schedule=schedule)
    assert np.array_equal(y, want)
    assert fake.calls.count("cuTensorMapReplaceAddress") == 0
    other, _, y, _ = product(40, 48, 128)
    other = np.ascontiguousarray(-2 * other)
    call(linear, fake, other, w, y)
    assert np.array_equal(y, -2 * want)
    assert fake.calls.count("cuTensorMapReplaceAddress") == 1
    assert fake.calls.count("cuTensorMapEncodeTiled") == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_code_is_not_taken_for_that_of_other_types(fake, backend):
    """What is kept is found by all that decides it: Triton's text does not say the types."""
    copy = "kernel copy(x: f32[M], y: f32[M]) { for m in tiles(M) { y[m] = x[m] } }"
    for t, dtype in (("f32", np.float32), ("f16", np.float16), ("i32", np.int32)):
        x = np.arange(100).astype(dtype)
        y = np.zeros_like(x)
        called(copy.replace("f32", t), fake, backend, x, y)
        assert np.array_equal(x, y)


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers(fake, backend):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    y = np.zeros_like(x)
    scale = called(SCALE, fake, backend, x, 0.5, -7, y)
    assert np.array_equal(y, x * 0.5 - 7)
    call(scale, fake, x, 3, 2, y)
    assert np.array_equal(y, x * 3 + 2)
    with pytest.raises(TileError, match="argument 3 is 2147483648"):
        call(scale, fake, x, 3, 2**31, y)


def test_a_number_of_16_bits_is_refused_by_triton(fake):
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(TileError, match="`s`: the triton back end takes no number of f16"):
        called(SCALE.replace("s: f32", "s: f16").replace("* s", "* f32(s)"), fake, "triton",
               x, 0.5, 1, x.copy())  # fmt: skip


def test_another_context_is_left_as_it_was(fake):
    x, w, y, want = product(16, 16, 64)
    fake.contexts = [2]  # of the other GPU
    called(LINEAR, fake, "cuda", x, w, y)
    assert np.array_equal(y, want)
    assert [k.device for k in fake.launched] == [0]
    assert fake.contexts == [2]


def test_without_elements_nothing_is_launched(fake):
    x, w, y, _ = product(0, 16, 64)
    called(LINEAR, fake, "cuda", x, w, y)
    assert fake.launched == []


def test_the_python_launcher_does_the_same(fake):
    x, w, y, want = product(16, 32, 256)
    kernel = Kernel(definition(LINEAR), Choice(schedule=cuda.Schedule(split=2), image="ptx"),
                    gpu_of(fake))  # fmt: skip
    from tilec.runtime.launch import PythonLauncher

    launch = PythonLauncher().dispatcher("linear", kernel._compile).launch
    fake.hold(x, w, y)
    for stream in (0, 5, 5):
        fake.stream = stream
        y[:] = np.nan
        launch(x, w, y)
        assert np.array_equal(y, want)
    assert fake.held() == 2


# Everything below is an error.


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
        ("cuLaunchKernel", "launching linear_0 with 1 blocks of 128 threads and .* bytes of shared "
         r"memory: CUDA_ERROR_OUT_OF_MEMORY \(out of memory\)"),
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


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_on_a_gpu(backend):
    rng = np.random.default_rng(4)
    x, w, y, want = (torch.from_numpy(a).cuda() for a in product(70, 40, 64))
    Kernel(definition(LINEAR), Choice(backend))(x, w, y)
    assert torch.equal(y, want)
    packed = tc.quantize(rng.standard_normal((48, 256)), tc.int4(group=128))
    x = torch.randn(16, 256, device="cuda", dtype=torch.float16)
    y = torch.zeros(16, 48, device="cuda")
    quantised = Kernel(definition(LINEAR.replace("w: f16", "w: int4<group=128>")), Choice(backend))
    quantised(x, packed.to("cuda"), y)
    assert torch.allclose(y.cpu(), x.cpu().float() @ torch.from_numpy(packed.dequantize()).T,
                          rtol=1e-3, atol=1e-3)  # fmt: skip
    with torch.cuda.stream(torch.cuda.Stream()):
        split = (cuda if backend == "cuda" else triton).Schedule(split=2)
        x, w, y, want = (torch.from_numpy(a).cuda() for a in product(16, 32, 256))
        Kernel(definition(LINEAR), Choice(backend, schedule=split))(x, w, y)
        assert torch.equal(y, want)


@pytest.mark.gpu
def test_on_a_gpu_tensors_of_the_host_are_refused():
    x, w, y, _ = product(16, 16, 64)
    on = [torch.from_numpy(a).cuda() for a in (x, y)]
    with pytest.raises(TileError, match="`x` is on cuda:0, but `w` is on cpu"):
        Kernel(definition(LINEAR))(on[0], w, on[1])
