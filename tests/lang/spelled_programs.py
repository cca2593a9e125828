"""Programs in both spellings, what they are given and what numpy in float64 says."""

# The names in a program have types of the language.
# pyright: basic, reportInvalidTypeForm=false

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

import tilec as tc
from tilec.ir.core import Func
from tilec.ir.dtype import Array, f32, i32
from tilec.ir.extent import number
from tilec.ir.interpret import interpret
from tilec.ir.types import Memory
from tilec.program import Program


@dataclass(frozen=True, eq=False)
class Spelled:
    """A program, its text, and its results for arguments by name."""

    program: Program
    text: str
    given: Mapping[str, Array]
    want: Callable[..., Array | tuple[Array, ...]]
    dims: Mapping[str, int]
    into: tuple[str, ...] = ()  # the parameters that it writes, if it returns nothing
    numbers: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def types(self) -> dict[str, tc.DType]:
        """The dtypes of the tensors."""
        found = {n: i32 if x.dtype.kind == "i" else f32 for n, x in self.given.items()}
        return found | dict.fromkeys(self.into, f32)


def rng(seed: int, *shape: int) -> Array:
    """Normal numbers in f32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def meaning(func: Func, given: Mapping[str, Array | float], dims: Mapping[str, int]
            ) -> dict[str, Array]:  # fmt: skip
    """What the interpreter leaves in every parameter, those of which nothing is given poisoned."""
    arrays: dict[str, Array] = {}
    for p in func.params:
        x = given.get(p.hint)
        if x is None:
            assert isinstance(p.type, Memory)
            shape = tuple(number(d, dims) for d in p.type.shape)
            whole = p.type.dtype.is_float
            arrays[p.hint] = np.full(shape, math.nan) if whole else np.full(shape, -77)
        else:
            t = np.asarray(x)
            arrays[p.hint] = t.astype(np.float64) if t.dtype.kind == "f" else t.astype(np.int64)
    interpret(func, arrays, dims)
    return arrays


@tc.kernel
def linear(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n))
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


LINEAR = """kernel linear(x: f32[M, K], w: f32[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros(f32, [m, n])
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}
"""


@tc.program
def attention(
    q: tc.Tensor["B", "H", "M", "D"], k: tc.Tensor["B", "H", "N", "D"],
    v: tc.Tensor["B", "H", "N", "D"], y: tc.Tensor["B", "H", "M", "D"],
):  # fmt: skip
    s = q @ k.T * 0.5
    s = tc.where(tc.index("M")[:, None] >= tc.index("N"), s, -math.inf)
    y = tc.softmax(s) @ v  # noqa: F841 (a tensor is written)


@tc.program
def grouped(q: tc.Tensor["B", "G", "H", "D"], k: tc.Tensor["B", "G", "N", "D"],
            length: tc.Tensor["B", tc.i32]):  # fmt: skip
    s = tc.soft_cap(tc.einsum("bghd,bgnd->bghn", q, k), 30.0)
    inside = tc.index("N") < length[:, None, None, None]
    return tc.log_sum_exp(tc.where(inside, s, -math.inf))


@tc.program
def mlp(x: tc.Tensor["T", "C"], gate: tc.Tensor["F", "C"], up: tc.Tensor["F", "C"],
        down: tc.Tensor["C", "F"], gain: tc.Tensor["C"]):  # fmt: skip
    h = tc.rms_norm(x, gain, 1e-5)
    a = tc.empty("T", "F", tc.f32)
    linear(h, gate, a)
    return x + (tc.swiglu(a, h @ up.T)) @ down.T


@tc.program
def twice(x: tc.Tensor["M", "K"], w: tc.Tensor["K", "K"], y: tc.Tensor["M", "K"],
          total: tc.Tensor["M"]):  # fmt: skip
    h = tc.empty("M", "K")
    h = x
    for _ in range(2):
        g = tc.empty("M", "K")
        linear(h, w, g)
        h = tc.relu(g)
    y = h  # noqa: F841
    total[...] = tc.sum(h, axis=(1,))
    total += 1.0


@tc.program
def loss(x: tc.Tensor["T", "C"], w: tc.Tensor["V", "C"], target: tc.Tensor["T", tc.i32]):
    return tc.cross_entropy(x @ w.T, target)


@tc.program
def turned(x: tc.Tensor["B", "T", "2*H"], cos: tc.Tensor["T", "H"], sin: tc.Tensor["T", "H"]):
    a = tc.rotary(x, cos, sin)
    return a, a[..., 1:, : tc.extent("H")], tc.sum(a, axis=(0, 2))


@tc.program
def rows(table: tc.Tensor["V", "D"], ids: tc.Tensor["T", tc.i32], w: tc.Tensor["D"],
         b: tc.Tensor["D"]):  # fmt: skip
    e = table[ids]
    return tc.layer_norm(e, w, b) @ w, tc.gelu(e[0]) + table[ids[2]]


@tc.program
def products(a: tc.Tensor["B", "M", "K"], c: tc.Tensor["K", "B", "N"], d: tc.Tensor["N", "E"]):
    one = tc.einsum("bmk,kbn,ne->me", a, c, d)
    two = tc.einsum("bmk,bmk->b", a, a)
    three = tc.einsum("bmk,ne->bnm", a, d)
    return one, two, three, tc.einsum("bmk,kn->nbm", a, c[:, 0])


@tc.program
def pair(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"]):
    return x @ w.T, x


@tc.program
def called(x: tc.Tensor["T", "C"], w: tc.Tensor["C", "C"]):
    y, x2 = pair(x, w)
    z = tc.mean(y * 2.0, axis=0)
    if 1 < 2:
        z = z + 1.0
    return pair(z[None, :], w)[0], -x2


@tc.fn
def scaled(v, by=2.0):
    return v * by


@tc.kernel
def shift(x: tc.Tensor["M", "N"], a: tc.f32, y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = scaled(x[m, n], 1.0) + a


@tc.program
def in_place(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    a = scaled(x)
    before = x
    x[...] = a + tc.sum(x + 1.0, axis=0)
    between = x
    shift(x, 3.0, x)
    y[...] = a + x - before * between
    for m in tc.tiles("M"):
        x[m, :] = x[m, :] * 0.5
    y *= x


def _softmax(s: Array) -> Array:
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _attention(q: Array, k: Array, v: Array) -> Array:
    s = q @ k.swapaxes(-1, -2) * 0.5
    keep = np.arange(s.shape[-2])[:, None] >= np.arange(s.shape[-1])
    return _softmax(np.where(keep, s, -math.inf)) @ v


def _grouped(q: Array, k: Array, length: Array) -> Array:
    s = np.einsum("bghd,bgnd->bghn", q, k)
    s = 30 * np.tanh(s / 30)
    inside = np.arange(s.shape[-1]) < length[:, None, None, None]
    return np.log(np.where(inside, np.exp(s), 0).sum(-1))


def _mlp(x: Array, gate: Array, up: Array, down: Array, gain: Array) -> Array:
    h = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gain
    a = h @ gate.T
    return x + (a / (1 + np.exp(-a)) * (h @ up.T)) @ down.T


def _twice(x: Array, w: Array) -> tuple[Array, Array]:
    for _ in range(2):
        x = np.maximum(x @ w.T, 0)
    return x, x.sum(1) + 1


def _loss(x: Array, w: Array, target: Array) -> Array:
    z = x @ w.T
    return np.log(np.exp(z).sum(-1)) - z[np.arange(len(z)), target]


def _turned(x: Array, cos: Array, sin: Array) -> tuple[Array, ...]:
    a, b = np.split(x, 2, -1)
    y = np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
    return y, y[:, 1:, : cos.shape[-1]], y.sum((0, 2))


def _rows(table: Array, ids: Array, w: Array, b: Array) -> tuple[Array, Array]:
    e = table[ids]
    c = e - e.mean(-1, keepdims=True)
    normed = c / np.sqrt((c * c).mean(-1, keepdims=True) + 1e-5) * w + b
    phi = 0.5 * (1 + np.vectorize(math.erf)(e[0] / math.sqrt(2)))
    return normed @ w, e[0] * phi + table[ids[2]]


def _products(a: Array, c: Array, d: Array) -> tuple[Array, ...]:
    return (
        np.einsum("bmk,kbn,ne->me", a, c, d), np.einsum("bmk,bmk->b", a, a),
        np.einsum("bmk,ne->bnm", a, d), np.einsum("bmk,kn->nbm", a, c[:, 0]),
    )  # fmt: skip


def _in_place(x: Array) -> tuple[Array, Array]:
    new = x * 2 + (x + 1).sum(0) + 3
    return new / 2, (x * 2 + new - x * (new - 3)) * new / 2


def _called(x: Array, w: Array) -> tuple[Array, Array]:
    z = (x @ w.T * 2).mean(0) + 1
    return z[None] @ w.T, -x


PROGRAMS = {
    "attention": Spelled(
        attention,
        """program attention(q: f32[B, H, M, D], k: f32[B, H, N, D], v: f32[B, H, N, D],
                             y: f32[B, H, M, D]) {
          s = q @ k.T * 0.5
          s = where(index(M)[:, none] >= index(N), s, -inf)
          y = softmax(s) @ v
        }""",
        {"q": rng(1, 2, 3, 7, 8), "k": rng(2, 2, 3, 9, 8), "v": rng(3, 2, 3, 9, 8)},
        _attention, {"B": 2, "H": 3, "M": 7, "N": 9, "D": 8}, ("y",),
    ),
    "grouped": Spelled(
        grouped,
        """program grouped(q: f32[B, G, H, D], k: f32[B, G, N, D], length: i32[B]) {
          s = soft_cap(einsum("bghd,bgnd->bghn", q, k), 30.0)
          inside = index(N) < length[:, none, none, none]
          return log_sum_exp(where(inside, s, -inf))
        }""",
        {"q": rng(4, 2, 3, 4, 8), "k": rng(5, 2, 3, 9, 8), "length": np.array([5, 9], np.int32)},
        _grouped, {"B": 2, "G": 3, "H": 4, "N": 9, "D": 8},
    ),
    "mlp": Spelled(
        mlp,
        LINEAR + """program mlp(x: f32[T, C], gate: f32[F, C], up: f32[F, C], down: f32[C, F],
                                gain: f32[C]) {
          h = rms_norm(x, gain, 1e-5)
          a = empty(T, F, f32)
          linear(h, gate, a)
          return x + swiglu(a, h @ up.T) @ down.T
        }""",
        {"x": rng(6, 5, 8), "gate": rng(7, 12, 8), "up": rng(8, 12, 8), "down": rng(9, 8, 12),
         "gain": rng(10, 8)},
        _mlp, {"T": 5, "C": 8, "F": 12},
    ),
    "twice": Spelled(
        twice,
        LINEAR + """program twice(x: f32[M, K], w: f32[K, K], y: f32[M, K], total: f32[M]) {
          h = empty(M, K)
          h = x
          for _ in range(2) {
            g = empty(M, K)
            linear(h, w, g)
            h = relu(g)
          }
          y = h
          total[...] = sum(h, axis=(1,))
          total += 1.0
        }""",
        {"x": rng(11, 5, 8), "w": rng(12, 8, 8)}, _twice, {"M": 5, "K": 8}, ("y", "total"),
    ),
    "loss": Spelled(
        loss,
        """program loss(x: f32[T, C], w: f32[V, C], target: i32[T]) {
          return cross_entropy(x @ w.T, target)
        }""",
        {"x": rng(13, 5, 8), "w": rng(14, 11, 8), "target": np.array([0, 10, 3, 3, 7], np.int32)},
        _loss, {"T": 5, "C": 8, "V": 11},
    ),
    "turned": Spelled(
        turned,
        """program turned(x: f32[B, T, 2*H], cos: f32[T, H], sin: f32[T, H]) {
          a = rotary(x, cos, sin)
          return a, a[..., 1:, :extent(H)], sum(a, axis=(0, 2))
        }""",
        {"x": rng(15, 2, 5, 8), "cos": rng(16, 5, 4), "sin": rng(17, 5, 4)},
        _turned, {"B": 2, "T": 5, "H": 4},
    ),
    "rows": Spelled(
        rows,
        """program rows(table: f32[V, D], ids: i32[T], w: f32[D], b: f32[D]) {
          e = table[ids]
          return layer_norm(e, w, b) @ w, gelu(e[0]) + table[ids[2]]
        }""",
        {"table": rng(18, 11, 8), "ids": np.array([3, 0, 10, 3], np.int32), "w": rng(19, 8),
         "b": rng(20, 8)},
        _rows, {"V": 11, "D": 8, "T": 4},
    ),
    "products": Spelled(
        products,
        """program products(a: f32[B, M, K], c: f32[K, B, N], d: f32[N, E]) {
          one = einsum("bmk,kbn,ne->me", a, c, d)
          two = einsum("bmk,bmk->b", a, a)
          three = einsum("bmk,ne->bnm", a, d)
          return one, two, three, einsum("bmk,kn->nbm", a, c[:, 0])
        }""",
        {"a": rng(21, 2, 3, 4), "c": rng(22, 4, 2, 5), "d": rng(23, 5, 6)},
        _products, {"B": 2, "M": 3, "K": 4, "N": 5, "E": 6},
    ),
    "called": Spelled(
        called,
        """program pair(x: f32[M, K], w: f32[N, K]) { return x @ w.T, x }
        program called(x: f32[T, C], w: f32[C, C]) {
          y, x2 = pair(x, w)
          z = mean(y * 2.0, axis=0)
          if 1 < 2 { z = z + 1.0 }
          return pair(z[none, :], w)[0], -x2
        }""",
        {"x": rng(24, 5, 8), "w": rng(25, 8, 8)}, _called, {"T": 5, "C": 8},
    ),
    "in_place": Spelled(
        in_place,
        """fn scaled(v, by=2.0) { return v * by }
        kernel shift(x: any[M, N], a: f32, y: any[M, N]) {
          for m, n in tiles(M, N) { y[m, n] = scaled(x[m, n], 1.0) + a }
        }
        program in_place(x: f32[M, N], y: f32[M, N]) {
          a = scaled(x)
          before = x
          x[...] = a + sum(x + 1.0, axis=0)
          between = x
          shift(x, 3.0, x)
          y[...] = a + x - before * between
          for m in tiles(M) { x[m, :] = x[m, :] * 0.5 }
          y *= x
        }""",
        {"x": rng(26, 5, 8)}, _in_place, {"M": 5, "N": 8}, ("x", "y"),
    ),
}  # fmt: skip
