"""What the tests of launches on a GPU share: kernels, operands, a driver that runs PTX."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fake_driver import FakeDriver

from tilec.compile import Kernel, engine
from tilec.gpu import Choice
from tilec.ir.errors import TileError
from tilec.lang.kernel import Definition
from tilec.lang.text import parse
from tilec.runtime.gpu import Gpu

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
