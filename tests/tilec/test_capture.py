"""Kernels and programs in CUDA graphs: calls that are launches alone, and what is refused."""

# The names in a program have types of the language.
# pyright: basic, reportInvalidTypeForm=false

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch
from launched import BACKENDS, LINEAR, SOFTMAX, call, definition, fake, gpu_of, product

import tilec as tc
from tilec import cuda, triton
from tilec.compile import Kernel
from tilec.gpu import Choice
from tilec.ir.errors import TileError
from tilec.program import Program

__all__ = ["fake"]
LAUNCH = {"stream", "cuCtxGetCurrent", "cuLaunchKernel"}  # two of them only ask
REFUSED = {"cuModuleLoadData", "cuMemAlloc", "cuMemcpyHtoD", "cuCtxSynchronize"}
SCHEDULES = {"cuda": cuda.Schedule, "triton": triton.Schedule}


@tc.program
def scores(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"]):
    return tc.softmax(x @ w.T)


def kernel_of(fake: Any, backend: str, **schedule: Any) -> Kernel:
    chosen = SCHEDULES[backend](**schedule) if schedule else None
    return Kernel(definition(LINEAR), Choice(backend, chosen, image="ptx"), gpu_of(fake))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("schedule", [{}, {"split": 2}])
def test_a_bound_kernel_is_launches_alone(fake, backend, schedule):
    kernel = kernel_of(fake, backend, **schedule)
    x, w, y, want = product(16, 32, 256)
    fake.hold(x, w, y)
    bound = kernel.bind(x, w, y)
    fake.captured, fake.stream = {5}, 5
    fake.calls.clear()
    bound()
    assert set(fake.calls) == LAUNCH
    assert fake.calls.count("cuLaunchKernel") == (2 if schedule else 1)
    assert {k.stream for k in fake.launched} == {5}
    assert np.array_equal(y, want)


def test_a_bound_program_is_launches_alone(fake):
    x, w, _, _ = product(16, 32, 64)
    out = np.zeros((16, 32), np.float32)
    program = Program(scores.definition, Choice(image="ptx"), gpu_of(fake))
    x, w = x.astype(np.float32), w.astype(np.float32)
    fake.hold(x, w, out)
    bound = program.bind(x, w, out=out)
    program(x, w, out=out)
    fake.captured, fake.stream = {5}, 5
    for run in (bound, lambda: program(x, w, out=out)):
        fake.calls.clear()
        out[:] = np.nan
        run()
        assert set(fake.calls) == LAUNCH, fake.trouble
        assert np.allclose(out.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_first_call_under_capture_is_refused(fake, backend):
    kernel = kernel_of(fake, backend)
    x, w, y, want = product(16, 32, 64)
    fake.captured, fake.stream = {5}, 5
    for first in (lambda: call(kernel, fake, x, w, y), lambda: kernel.bind(x, w, y)):
        with pytest.raises(TileError, match="linear is made ready for such arguments while the "
                           "current stream is captured into a CUDA graph") as e:  # fmt: skip
            first()
        assert "before the capture" in e.value.hint
    assert not REFUSED & set(fake.calls)
    fake.captured = set()
    call(kernel, fake, x, w, y)
    assert np.array_equal(y, want)
    fake.captured = {5}
    y[:] = np.nan
    call(kernel, fake, x, w, y)
    assert np.array_equal(y, want)


def test_memory_for_a_new_stream_under_capture_is_refused(fake):
    kernel = kernel_of(fake, "cuda", split=2)
    x, w, y, want = product(16, 32, 256)
    call(kernel, fake, x, w, y)
    fake.captured, fake.stream = {5}, 5
    with pytest.raises(TileError, match=r"linear.*: memory between launches is needed, for this "
                       "stream, while the current stream is captured"):  # fmt: skip
        call(kernel, fake, x, w, y)
    fake.captured = set()
    call(kernel, fake, x, w, y)
    fake.captured = {5}
    y[:] = np.nan
    call(kernel, fake, x, w, y)
    assert np.array_equal(y, want)


def test_memory_is_freed_under_capture(fake):
    kernel = kernel_of(fake, "cuda", split=2)
    x, w, y, _ = product(16, 32, 256)
    call(kernel, fake, x, w, y)
    assert fake.held() == 1
    fake.captured = {5}
    del kernel
    gc.collect()
    assert fake.held() == 0
    assert fake.mode == 0


def test_a_driver_says_that_a_capture_is_in_the_way(fake):
    kernel = kernel_of(fake, "cuda")
    x, w, y, _ = product(16, 32, 64)
    fake.fails["cuStreamIsCapturing"] = 906  # CUDA_ERROR_STREAM_CAPTURE_IMPLICIT
    with pytest.raises(TileError, match="is captured into a CUDA graph"):
        call(kernel, fake, x, w, y)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", BACKENDS)
def test_graphs_on_a_gpu(backend):
    x, w, y, want = (torch.from_numpy(a).cuda() for a in product(16, 32, 256))
    s = torch.randn(16, 32, device="cuda")
    split = Kernel(definition(LINEAR), Choice(backend, SCHEDULES[backend](split=2)))
    softmax = Kernel(definition(SOFTMAX), Choice(backend))
    p = torch.empty_like(s)
    early = torch.cuda.graph(torch.cuda.CUDAGraph())
    with pytest.raises(TileError, match="softmax is made ready for such arguments"), early:
        softmax(s, p)
    softmax(s, p)
    bound, graph = split.bind(x, w, y), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        bound()
        softmax(s, p)
    for scale in (1, -2):
        x.copy_(torch.from_numpy(product(16, 32, 256)[0]).cuda() * scale)
        s.normal_()
        y.fill_(torch.nan)
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(y, want * scale)
        assert torch.allclose(p, torch.softmax(s, 1), rtol=1e-5, atol=1e-6)
