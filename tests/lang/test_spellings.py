"""Both spellings give one IR, and compiled code equals numpy in float64."""

import math
from pathlib import Path

import numpy as np
import pytest

import tilec as tc
from tilec.compile import Kernel
from tilec.ir.dtype import f16, f32
from tilec.ir.text import show
from tilec.lang.text import parse

EXAMPLES = Path(__file__).parents[2] / "examples"


@tc.fn
def gelu(v):
    return 0.5 * v * (1.0 + tc.erf(v * 0.7071067811865476))


@tc.kernel
def linear(
    x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], b: tc.Tensor["N"], y: tc.Tensor["M", "N"]
):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = gelu(acc + b[n])


@tc.kernel
def softmax(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m in tc.tiles("M"):
        row = x[m, :]
        e = tc.exp(row - tc.max(row, axis=1, keepdims=True))
        y[m, :] = e / tc.sum(e, axis=1, keepdims=True)


@tc.kernel
def causal(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N", block=(5, 24)):
        keep = m.index[:, None] >= n.index
        y[m, n] = tc.where(keep, x[m, n], -1.0)


@tc.kernel
def powers(x: tc.Tensor["M"], y: tc.Tensor["M"]):
    for m in tc.tiles("M"):
        total = x[m]
        for i in range(1, 4):
            total = total * 2.0 + i
        n = 0
        while n < 3:
            total = total + 1.0
            n = n + 1
        if n == 3:
            total = total - 0.5
        else:
            total = total + 100.0
        y[m] = total


SPELLED = {
    "softmax": (
        softmax,
        """kernel softmax(x: f32[M, N], y: f32[M, N]) {
          for m in tiles(M) {
            row = x[m, :]
            e = exp(row - max(row, axis=1, keepdims=1))
            y[m, :] = e / sum(e, axis=1, keepdims=1)
          }
        }""",
    ),
    "causal": (
        causal,
        """kernel causal(x: f32[M, N], y: f32[M, N]) {
          for m, n in tiles(M, N, block=[5, 24]) {
            keep = m.index[:, None] >= n.index
            y[m, n] = where(keep, x[m, n], -1.0)
          }
        }""".replace("m.index[:, None]", "reshape(m.index, [m, 1])"),
    ),
    "powers": (
        powers,
        """kernel powers(x: f32[M], y: f32[M]) {
          for m in tiles(M) {
            total = x[m]
            for i in range(1, 4) { total = total * 2.0 + i }
            n = 0
            while n < 3 { total = total + 1.0; n = n + 1 }
            if n == 3 { total = total - 0.5 } else { total = total + 100.0 }
            y[m] = total
          }
        }""",
    ),
}


def in_python(kernel: Kernel) -> str:
    """The IR of a decorated function whose tensors are all f32."""
    return show(kernel.ir(**{p.name: f32 for p in kernel.definition.signature.params}))


@pytest.mark.parametrize("name", SPELLED)
def test_both_spellings_give_one_ir(name: str) -> None:
    kernel, text = SPELLED[name]
    assert show(parse(text)[name].ir()) == in_python(kernel)


def test_the_example_is_the_kernel_above() -> None:
    text = (EXAMPLES / "linear.tile").read_text()
    assert show(parse(text)["linear"].ir()) == show(linear.ir(x=f16, w=f16, b=f32, y=f32))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dims", [(1, 64, 64), (3, 70, 33), (65, 130, 257)])
def test_linear_runs(dims: tuple[int, int, int]) -> None:
    m, n, k = dims
    x, w, b = normal(1, m, k), normal(2, n, k), normal(3, n)
    y = np.full((m, n), np.nan, np.float32)
    linear(x, w, b, y)
    z = x.astype(float) @ w.T.astype(float) + b
    want = 0.5 * z * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    assert np.linalg.norm(y - want) <= 1e-6 * np.linalg.norm(want)


def test_softmax_runs() -> None:
    x = normal(4, 33, 77)
    y = np.full_like(x, np.nan)
    softmax(x, y)
    e = np.exp(x.astype(float) - x.max(1, keepdims=True))
    assert np.abs(y - e / e.sum(1, keepdims=True)).max() < 1e-7


def test_coordinates_and_control_run() -> None:
    x = normal(5, 31, 50)
    y = np.full_like(x, np.nan)
    causal(x, y)
    row, column = np.indices(x.shape)
    np.testing.assert_array_equal(y, np.where(row >= column, x, -1.0))
    v = normal(6, 41)
    out = np.full_like(v, np.nan)
    powers(v, out)
    t = v
    for i in (1, 2, 3):
        t = (t * np.float32(2)).astype(np.float32) + np.float32(i)
    for _ in range(3):
        t = t + np.float32(1)
    np.testing.assert_array_equal(out, t - np.float32(0.5))


def test_a_transposed_weight_is_refused_at_launch() -> None:
    x, w, b = normal(1, 4, 8), normal(2, 8, 6), normal(3, 6)
    with pytest.raises(tc.TileError, match=r"dimension K of `w` is 6, but `x` has K = 8") as e:
        linear(x, w, b, np.empty((4, 6), np.float32))
    assert "transposed" in e.value.hint
