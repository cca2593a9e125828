"""Well-known kernels of `examples`: arguments at small odd sizes, and results in float64."""

from __future__ import annotations

import math
import runpy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tilec.compile import Kernel
from tilec.ir.dtype import Array, of_numpy
from tilec.lang.kernel import TensorSpec

EXAMPLES = Path(__file__).parents[1] / "examples"
F16, BF16, F32 = np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32)
E4M3, I8, I32 = np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(np.int8), np.dtype(np.int32)
# The largest relative norm of an error: results that are rounded to 16 bits, and float32 ones of
# sums in float32. Functions such as exp2 are approximate on a GPU.
BOUND = {F16: 5e-4, BF16: 4e-3, F32: 3e-6}
# The same where probabilities are rounded to the dtype of the operands, for a second product.
PRODUCT = {F16: 1e-3, BF16: 8e-3, F32: 3e-6}


@dataclass(frozen=True)
class Case:
    """A kernel's arguments in order, and what it has to write into which of them; `bound` where
    a kernel rounds on the way, as attention does its probabilities."""

    arguments: Mapping[str, Array | np.generic]
    results: Mapping[str, Array]
    bound: float | None = None

    def poisoned(self) -> dict[str, Array]:
        """The arguments, with results that are only written full of what is no result."""
        return {n: np.array(a) for n, a in self.arguments.items()}

    def wrong(self, got: Mapping[str, Array]) -> str:
        """What is wrong with the arguments after a run, or nothing."""
        for name, want in self.results.items():
            found = got[name].astype(np.float64)
            error = np.linalg.norm(found - want) / np.linalg.norm(want)
            if not error <= self.most(got[name].dtype):
                return f"{name}: relative error {error:.1e}"
        return ""

    def most(self, dtype: np.dtype[Any]) -> float:
        """The bound of a result; whole numbers are exact."""
        return BOUND.get(dtype, 0.0) if self.bound is None else self.bound


def kernel(name: str) -> Kernel:
    """`examples/<file>.py:<function>`; a dtype may follow."""
    file, function = name.split()[0].split(":")
    return runpy.run_path(str(EXAMPLES / f"{file}.py"))[function]


def types(k: Kernel, arguments: Mapping[str, Array]) -> dict[str, Any]:
    """The dtype of each tensor whose signature leaves it open."""
    specs = {p.name: p.spec for p in k.definition.signature.params}
    return {n: of_numpy(a.dtype) for n, a in arguments.items()
            if isinstance(s := specs[n], TensorSpec) and s.format is None}  # fmt: skip


def dims(k: Kernel, arguments: Mapping[str, Array]) -> dict[str, int]:
    """The number of each dimension."""
    shapes = [a.shape if a.ndim else None for a in arguments.values()]
    return k.definition.signature.bind(shapes)


RNG = np.random.default_rng
EPS = np.float32(0.1)


def normal(seed: int, shape: tuple[int, ...], dtype: np.dtype[Any] = F32) -> Array:
    """Random values of a dtype."""
    return RNG(seed).standard_normal(shape).astype(dtype)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any] = F32) -> Array:
    """Poison: bytes that are no result of any kernel here."""
    return np.full((*shape[:-1], shape[-1] * dtype.itemsize), 0xA5, np.uint8).view(dtype)


def f64(*arrays: Array) -> list[Array]:
    """Arrays in doubles."""
    return [a.astype(np.float64) for a in arrays]


def normalised(e: Array) -> Array:
    """Rows whose sum is 1."""
    return e / e.sum(-1, keepdims=True)


def softmax(dtype: np.dtype[Any] = F32) -> Case:
    x = normal(0, (5, 77), dtype)
    return Case({"x": x, "y": empty(x.shape, dtype)}, {"y": normalised(np.exp(*f64(x)))})


def layernorm(dtype: np.dtype[Any] = F32) -> Case:
    x, gain, bias = (normal(i, s, dtype) for i, s in enumerate(((5, 77), (77,), (77,))))
    wide, g, b = f64(x, gain, bias)
    d = wide - wide.mean(1, keepdims=True)
    want = d / np.sqrt((d * d).mean(1, keepdims=True) + float(EPS)) * g + b
    y = empty(x.shape, dtype)
    return Case({"x": x, "gain": gain, "bias": bias, "y": y, "eps": EPS},
                {"y": want})  # fmt: skip


def rms_norm(dtype: np.dtype[Any] = F16) -> Case:
    x, gain = normal(0, (5, 77), dtype), normal(1, (77,), dtype)
    wide, g = f64(x, gain)
    want = wide / np.sqrt((wide * wide).mean(1, keepdims=True) + float(EPS)) * g
    return Case({"x": x, "gain": gain, "y": empty(x.shape, dtype), "eps": EPS},
                {"y": want})  # fmt: skip


def quantise_rows() -> Case:
    x = normal(0, (9, 77), F16)
    x[3] = 0
    step = np.maximum(np.abs(x.astype(F32)).max(1), np.float32(1e-30)) / np.float32(127)
    q = np.rint(x.astype(F32) / step[:, None])
    given = {"x": x, "q": empty(x.shape, I8), "scale": empty((9,))}
    return Case(given, {"q": q, "scale": step.astype(float)})


def running_sum() -> Case:
    x = normal(0, (5, 333), F16)
    return Case({"x": x, "y": empty(x.shape)}, {"y": np.cumsum(*f64(x), axis=1)})


def top_gate() -> Case:
    x = RNG(0).permuted(np.tile(np.linspace(-2, 2, 13, dtype=np.float32), (7, 1)), axis=1)
    expert = np.argsort(-x, axis=1)[:, :3]
    chosen = np.exp(np.take_along_axis(x, expert, 1).astype(float))
    given = {"logits": x, "expert": empty((7, 3), I32), "weight": empty((7, 3))}
    return Case(given, {"expert": expert, "weight": normalised(chosen)})


def cross_entropy(dtype: np.dtype[Any] = F32) -> Case:
    x, target = normal(0, (5, 333), dtype), RNG(1).integers(0, 333, 5).astype(I32)
    (wide,) = f64(x)
    rows = np.arange(5)
    grad = normalised(np.exp(wide))
    loss = -np.log(grad[rows, target])
    grad[rows, target] -= 1
    given = {"x": x, "target": target, "loss": empty((5,)), "grad": empty(x.shape, dtype)}
    return Case(given, {"loss": loss, "grad": grad})


def kl_divergence() -> Case:
    logits, p = normal(0, (5, 333)), normalised(np.exp(normal(1, (5, 333))))
    x = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    p[:, 7] = 0
    wide, q = f64(x, p)
    want = (np.where(q > 0, q * np.log(np.where(q > 0, q, 1)), 0) - q * wide).sum(1)
    return Case({"x": x, "target": p, "loss": empty((5,))}, {"loss": want})


def dropout() -> Case:
    x, p, seed = normal(0, (777,)), np.float32(0.25), np.uint32(0x9E3779B9)
    word = philox(int(seed), np.arange(777))
    want = np.where(word * 2.0**-32 >= 0.25, x.astype(float) / 0.75, 0)
    return Case({"x": x, "y": empty(x.shape), "p": p, "seed": seed}, {"y": want})


def philox(key: int, counter: Array) -> Array:
    """Word 0 of Philox4x32-10 (Salmon et al. 2011), in whole numbers of Python."""
    words: list[int] = []
    for first in counter.tolist():
        c, k = [first, 0, 0, 0], [key, 0]
        for _ in range(10):
            low, high = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
            c = [high >> 32 ^ c[1] ^ k[0], high & 0xFFFFFFFF, low >> 32 ^ c[3] ^ k[1],
                 low & 0xFFFFFFFF]  # fmt: skip
            k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
        words.append(c[0])
    return np.array(words)


def swiglu(dtype: np.dtype[Any] = BF16) -> Case:
    a, b = normal(0, (7, 99), dtype), normal(1, (7, 99), dtype)
    wide, other = f64(a, b)
    want = wide / (1 + np.exp(-wide)) * other
    return Case({"a": a, "b": b, "y": empty(a.shape, dtype)}, {"y": want})


def rotary() -> Case:
    x = normal(0, (5, 3, 2, 20), F16)
    angle = np.arange(5)[:, None] * 100.0 ** (-np.arange(20) / 20)
    cos, sin = np.cos(angle).astype(F32), np.sin(angle).astype(F32)
    turned = (x[:, :, 0] + 1j * x[:, :, 1]) * (cos + 1j * sin.astype(float))[:, None]
    want = np.stack([turned.real, turned.imag], axis=2)
    return Case({"x": x, "cos": cos, "sin": sin, "y": empty(x.shape, F16)}, {"y": want})


def adam() -> Case:
    w, grad, m = (normal(i, (333,)) for i in range(3))
    v = np.abs(normal(3, (333,)))
    given = {"rate": 0.1, "beta1": 0.9, "beta2": 0.999, "bias1": 1 - 0.9**3, "bias2": 1 - 0.999**3,
             "eps": 0.01, "decay": 0.01}  # fmt: skip
    scalars = {n: np.float32(x) for n, x in given.items()}
    rate, beta1, beta2, bias1, bias2, eps, decay = map(float, scalars.values())
    old, g, first, second = f64(w, grad, m, v)
    first = beta1 * first + (1 - beta1) * g
    second = beta2 * second + (1 - beta2) * g * g
    change = first / bias1 / (np.sqrt(second / bias2) + eps)
    want = {"w": old * (1 - rate * decay) - rate * change, "m": first, "v": second}
    return Case({"w": w, "grad": grad, "m": m, "v": v, **scalars}, want)


def gelu_linear() -> Case:
    x, w, b = normal(0, (17, 70), F16), normal(1, (33, 70), F16), normal(2, (33,))
    a, c, d = f64(x, w, b)
    z = a @ c.T + d
    want = 0.5 * z * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
    return Case({"x": x, "w": w, "b": b, "y": empty((17, 33))}, {"y": want})


def int8_matmul() -> Case:
    x, w = (RNG(i).integers(-127, 128, (n, 90)).astype(I8) for i, n in enumerate((17, 33)))
    row, column = (np.abs(normal(i, (n,))) / 127 for i, n in enumerate((17, 33)))
    a, c, r, s = f64(x, w, row, column)
    given = {"x": x, "w": w, "row": row, "column": column, "y": empty((17, 33), BF16)}
    return Case(given, {"y": a @ c.T * r[:, None] * s})


def fp8_matmul() -> Case:
    x, w = normal(0, (17, 272), E4M3), normal(1, (140, 272), E4M3)
    row, block = np.abs(normal(2, (17, 3))), np.abs(normal(3, (2, 3)))
    a, c, r, s = f64(x, w, row, block)
    groups = np.arange(272) // 128
    want = (a * r[:, groups]) @ (c * s[np.arange(140) // 128][:, groups]).T
    given = {"x": x, "w": w, "row": row, "block": block, "y": empty((17, 140))}
    return Case(given, {"y": want})


def grouped_matmul() -> Case:
    return grouped(normal(0, (90, 40), F16), normal(1, (4, 33, 40), F16))


def grouped(x: Array, w: Array) -> Case:
    """90 rows of four experts: one has none, one has more than a tile."""
    end = np.array([3, 3, 73, 90], I32)
    expert = np.searchsorted(end, np.arange(90), side="right")
    want = np.einsum("tk,tnk->tn", *f64(x, w[expert]))
    return Case({"x": x, "w": w, "end": end, "y": empty((90, w.shape[1]))}, {"y": want})


@dataclass(frozen=True)
class Softmax:
    """Causal attention in doubles, with the Jacobian of the softmax written out."""

    q: Array
    k: Array
    v: Array
    do: Array
    scale: np.float32

    def scores(self) -> Array:
        s = np.einsum("hmd,hnd->hmn", *f64(self.q, self.k)) * float(self.scale)
        return np.where(np.tri(s.shape[1], dtype=bool), s, -np.inf)

    def gradients(self) -> dict[str, Array]:
        """Of sum(o * do), for q, k and v."""
        q, k, v, do = f64(self.q, self.k, self.v, self.do)
        p = normalised(np.exp(self.scores()))
        dp = np.einsum("hmd,hnd->hmn", do, v)
        jacobian = np.eye(p.shape[2]) * p[..., None] - p[..., None] * p[..., None, :]
        ds = np.einsum("hmij,hmj->hmi", jacobian, dp) * float(self.scale)
        return {"dq": ds @ k, "dk": ds.swapaxes(1, 2) @ q, "dv": p.swapaxes(1, 2) @ do}


def heads(dtype: np.dtype[Any] = F16) -> Softmax:
    q, k, v, do = (normal(i, (2, 71, 24), dtype) for i in range(4))
    return Softmax(q, k, v, do, np.float32(24**-0.5))


def attention(dtype: np.dtype[Any] = F16) -> Case:
    t = heads(dtype)
    s = t.scores()
    o = normalised(np.exp(s)) @ t.v.astype(float)
    given = {"q": t.q, "k": t.k, "v": t.v, "o": empty(t.q.shape), "lse": empty((2, 71)),
             "scale": t.scale}  # fmt: skip
    return Case(given, {"o": o, "lse": np.log(np.exp(s).sum(2))}, PRODUCT[dtype])


def forward(t: Softmax) -> tuple[Array, Array, Array]:
    """o and log(sum(exp(scores))) as a forward pass has left them, and delta."""
    s = t.scores()
    o, lse = normalised(np.exp(s)) @ t.v.astype(float), np.log(np.exp(s).sum(2))
    return o.astype(F32), lse.astype(F32), (o * t.do.astype(float)).sum(2).astype(F32)


def attention_dq(dtype: np.dtype[Any] = F16) -> Case:
    t = heads(dtype)
    o, lse, delta = forward(t)
    given = {"q": t.q, "k": t.k, "v": t.v, "o": o, "lse": lse, "do": t.do,
             "delta": empty(delta.shape), "dq": empty(t.q.shape), "scale": t.scale}  # fmt: skip
    return Case(given, {"delta": delta, "dq": t.gradients()["dq"]}, PRODUCT[dtype])


def attention_dkv(dtype: np.dtype[Any] = F16) -> Case:
    t = heads(dtype)
    _, lse, delta = forward(t)
    given = {"q": t.q, "k": t.k, "v": t.v, "lse": lse, "do": t.do, "delta": delta,
             "dk": empty(t.q.shape), "dv": empty(t.q.shape), "scale": t.scale}  # fmt: skip
    found = t.gradients()
    return Case(given, {"dk": found["dk"], "dv": found["dv"]}, PRODUCT[dtype])


def embedding() -> Case:
    ids, table = RNG(0).integers(0, 11, 9).astype(I32), normal(1, (11, 70), F16)
    return Case({"ids": ids, "table": table, "y": empty((9, 70), F16)},
                {"y": table[ids].astype(float)}, 0.0)  # fmt: skip


def combine() -> Case:
    x, row, weight = normal(0, (11, 70), F16), RNG(1).integers(0, 11, (9, 3)), normal(2, (9, 3))
    want = np.einsum("tkd,tk->td", *f64(x[row], weight))
    given = {"x": x, "row": row.astype(I32), "weight": weight, "y": empty((9, 70))}
    return Case(given, {"y": want})


def scatter_rows() -> Case:
    x, row, weight = normal(0, (90, 70), F16), RNG(1).integers(0, 11, 90), normal(2, (90,))
    y = normal(3, (11, 70))
    a, c, want = f64(x, weight, y)
    np.add.at(want, row, c[:, None] * a)
    return Case({"x": x, "row": row.astype(I32), "weight": weight, "y": y}, {"y": want})


def causal_conv1d() -> Case:
    x, w, bias = normal(0, (2, 9, 37), F16), normal(1, (37, 4)), normal(2, (37,))
    a, c, d = f64(x, w, bias)
    early = np.concatenate([np.zeros((2, 3, 37)), a], axis=1)
    want = d + sum(early[:, j : j + 9] * c[:, j] for j in range(4))
    return Case({"x": x, "w": w, "bias": bias, "y": empty(x.shape)}, {"y": want})


CASES: dict[str, Callable[[], Case]] = {
    "softmax:softmax": softmax,
    "layernorm:layernorm": layernorm,
    "linear:linear": gelu_linear,
    "kernels/rows:rms_norm": rms_norm,
    "kernels/rows:rms_norm f32": partial(rms_norm, F32),
    "kernels/rows:running_sum": running_sum,
    "kernels/rows:quantise_rows": quantise_rows,
    "kernels/rows:top_gate": top_gate,
    "kernels/losses:cross_entropy": cross_entropy,
    "kernels/losses:cross_entropy bf16": partial(cross_entropy, BF16),
    "kernels/losses:kl_divergence": kl_divergence,
    "kernels/elements:dropout": dropout,
    "kernels/elements:swiglu": swiglu,
    "kernels/elements:swiglu f16": partial(swiglu, F16),
    "kernels/elements:rotary": rotary,
    "kernels/elements:adam": adam,
    "kernels/products:int8_matmul": int8_matmul,
    "kernels/products:fp8_matmul": fp8_matmul,
    "kernels/products:grouped_matmul": grouped_matmul,
    "kernels/attention:attention": attention,
    "kernels/attention:attention f32": partial(attention, F32),
    "kernels/attention:attention_dq": attention_dq,
    "kernels/attention:attention_dq bf16": partial(attention_dq, BF16),
    "kernels/attention:attention_dkv": attention_dkv,
    "kernels/attention:attention_dkv bf16": partial(attention_dkv, BF16),
    "kernels/gathers:embedding": embedding,
    "kernels/gathers:combine": combine,
    "kernels/gathers:scatter_rows": scatter_rows,
    "kernels/gathers:causal_conv1d": causal_conv1d,
}
