"""Kernels called on a GPU through the native launcher: by a driver that runs PTX, or a real one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from launched import (
    BACKENDS,
    LINEAR,
    SCALE,
    SOFTMAX,
    call,
    called,
    definition,
    fake,
    gpu_of,
    product,
)

import tilec as tc
from tilec import cuda, triton
from tilec.compile import Kernel
from tilec.gpu import Choice
from tilec.ir.errors import TileError
from tilec.runtime.placed import DeviceTensor

__all__ = ["fake"]


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

    launch = PythonLauncher().dispatcher("linear", kernel.specialised).launch
    fake.hold(x, w, y)
    for stream in (0, 5, 5):
        fake.stream = stream
        y[:] = np.nan
        launch(x, w, y)
        assert np.array_equal(y, want)
    assert fake.held() == 2


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
