"""Layers that fuse: of each its arguments, tilec's program, torch's functions, and the result
in double."""

# torch and numpy type what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from tilec.ir.dtype import Array
from tilec.ir.named import named
from tilec.ops import losses, mlp, norm, rotary
from tilec.program import Program
from tilec.runtime.tensor import PackedTensor, packed

EPS = 1e-6
GROUP = 128  # weights that share a scale
TOKENS = 16  # of which a loss is compared
STORED: dict[str, Any] = {"f32": np.float32, "bf16": ml_dtypes.bfloat16}


@dataclass(frozen=True)
class Sized:
    """A layer and its sizes: what they are is the layer's to say."""

    layer: str
    sizes: tuple[int, ...]
    dtype: str = "bf16"
    weight: str = ""  # "bf16", "f32", "int8" or "int4"

    def __str__(self) -> str:
        weight = f", {self.weight} weights" if self.weight else ""
        return f"{self.layer} {'x'.join(map(str, self.sizes))} {self.dtype}{weight}"

    def draw(self, *shape: int, scale: float = 1.0, dtype: str = "") -> Array:
        """Normal numbers, the same for every contender."""
        rng = np.random.default_rng([len(shape), *shape])
        drawn = rng.standard_normal(shape, np.float32) * np.float32(scale)
        return drawn.astype(STORED[dtype or self.dtype])

    def weights(self, *shapes: tuple[int, int]) -> list[Weight]:
        """Matrices whose products with normal numbers are of common size."""
        return [Weight(self.weight, n, k, i) for i, (n, k) in enumerate(shapes)]


@dataclass(frozen=True)
class Weight:
    """A matrix [N, K], drawn when it is asked for: dense, or codes of 4 bits and scales of groups,
    or of 8 bits and a scale for each row."""

    kind: str
    n: int
    k: int
    seed: int

    @property
    def codes(self) -> Array:
        """From -8 to 7, or -128 to 127."""
        rng, most = np.random.default_rng([self.seed, self.n, self.k]), 16 * self.spread
        return rng.integers(-most // 2, most // 2, (self.n, self.k), np.int8)

    @property
    def spread(self) -> int:
        """How many times as far codes reach as those of 4 bits."""
        return 16 if self.kind == "int8" else 1

    @property
    def group(self) -> int:
        """How many elements of a row share a scale."""
        return self.k if self.kind == "int8" else GROUP

    @property
    def scale(self) -> Array:
        """[N, K / group], numbers of bf16 that are numbers of f16 too."""
        rng = np.random.default_rng([self.seed, self.n])
        drawn = rng.uniform(0.5, 1.5, (self.n, self.k // self.group)) / (4.6 * math.sqrt(self.k))
        return (drawn / self.spread).astype(ml_dtypes.bfloat16)

    @property
    def dense(self) -> Array:
        """As f32."""
        if self.kind in ("int4", "int8"):
            return self.codes * np.repeat(self.scale.astype(np.float32), self.group, 1)
        rng = np.random.default_rng([self.seed, self.n, self.k])
        drawn = rng.standard_normal((self.n, self.k), np.float32) / np.float32(math.sqrt(self.k))
        return drawn.astype(STORED[self.kind]).astype(np.float32)

    def ours(self) -> Array | PackedTensor:
        """What tilec takes."""
        if self.kind in STORED:
            return self.dense.astype(STORED[self.kind])
        parts = {"codes": self.codes.astype(np.int64), "scale": self.scale.astype(np.float64)}
        format = "int8<channel, scale=bf16>" if self.kind == "int8" else f"int4<group={GROUP}>"
        return packed(named(format), parts, (self.n, self.k))

    def theirs(self, torch: Any) -> Callable[[Any], Any]:
        """torch's product with it."""
        if self.kind in STORED:
            w = tensor(torch, self.dense.astype(STORED[self.kind]))
            return lambda x: torch.nn.functional.linear(x, w)
        if self.kind == "int8":
            codes, column = torch.from_numpy(self.codes), tensor(torch, self.scale[:, 0].copy())
            return lambda x: torch.ops.aten._weight_int8pack_mm(x, codes, column)
        codes = torch.from_numpy(self.codes.astype(np.int32) + 8)
        w = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        scale = tensor(torch, np.ascontiguousarray(self.scale.T))
        both = torch.stack([scale, torch.zeros_like(scale)], 2)
        return lambda x: torch.ops.aten._weight_int4pack_mm_for_cpu(x, w, GROUP, both)

    def times(self, x: Array) -> Array:
        """x @ w.T in double."""
        return x @ self.dense.T.astype(np.float64)


@dataclass(frozen=True)
class Layer:
    """What is measured. `theirs` makes a function without arguments from torch; `want` is part of
    the result, its first rows."""

    program: Program
    ours: tuple[Any, ...]
    theirs: Callable[[Any], Callable[[], Any]]
    want: Callable[[], Array]


def tensor(torch: Any, x: Array) -> Any:
    """A copy of an array as torch's, which begins where its kernels expect: its product with
    bytes crashes where rows do not begin at 32 bytes, as those of numpy may not."""
    if x.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16).clone()
    return torch.from_numpy(x).clone()


def rms(x: Array, gain: Array) -> Array:
    """The norm of each row, in double."""
    x = x.astype(np.float64)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * gain.astype(np.float64)


def softmax(x: Array) -> Array:
    """Of each row."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def silu(x: Array) -> Array:
    """x times its logistic function."""
    return x / (1 + np.exp(-x))


def _of_softmax(case: Sized) -> Layer:
    x = case.draw(*case.sizes, scale=3)

    def theirs(torch: Any) -> Callable[[], Any]:
        a = tensor(torch, x)
        return lambda: torch.softmax(a, -1)

    return Layer(norm.softmax, (x,), theirs, lambda: softmax(x.astype(np.float64)))


def _of_rms(case: Sized) -> Layer:
    x, gain = case.draw(*case.sizes), case.draw(case.sizes[1])

    def theirs(torch: Any) -> Callable[[], Any]:
        a, g = tensor(torch, x), tensor(torch, gain)
        return lambda: torch.nn.functional.rms_norm(a, g.shape, g, EPS)

    return Layer(norm.rms, (x, gain, EPS), theirs, lambda: rms(x, gain))


def _of_layer_norm(case: Sized) -> Layer:
    x, gain, bias = case.draw(*case.sizes), case.draw(case.sizes[1]), case.draw(1, case.sizes[1])

    def theirs(torch: Any) -> Callable[[], Any]:
        a, g, b = (tensor(torch, v) for v in (x, gain, bias[0]))
        return lambda: torch.nn.functional.layer_norm(a, g.shape, g, b, EPS)

    def want() -> Array:
        v, g = x.astype(np.float64), gain.astype(np.float64)
        centred = v - v.mean(-1, keepdims=True)
        scale = np.sqrt((centred * centred).mean(-1, keepdims=True) + EPS)
        return centred / scale * g + bias[0].astype(np.float64)

    return Layer(norm.layer, (x, gain, bias[0], EPS), theirs, want)


def _of_swiglu(case: Sized) -> Layer:
    gate, up = case.draw(*case.sizes), case.draw(1, *case.sizes)[0]

    def theirs(torch: Any) -> Callable[[], Any]:
        g, u = tensor(torch, gate), tensor(torch, up)
        return lambda: torch.nn.functional.silu(g) * u

    def want() -> Array:
        return silu(gate.astype(np.float64)) * up.astype(np.float64)

    return Layer(mlp.activation, (gate, up), theirs, want)


def _of_rotary(case: Sized) -> Layer:
    b, t, half = case.sizes
    x, cos, sin = case.draw(b, t, 2 * half), *angles(np.arange(t), half)

    def theirs(torch: Any) -> Callable[[], Any]:
        v, c, s = (tensor(torch, a) for a in (x, cos, sin))
        return lambda: turned(torch, v, c, s)

    return Layer(rotary.rotary, (x, cos, sin), theirs, lambda: rotated(x, cos, sin))


def angles(places: Array, half: int) -> tuple[Array, Array]:
    """Cosines and sines [places, half] of rotary, in f32."""
    turns = places[:, None] * 5e5 ** (-np.arange(half) / half)
    return np.cos(turns).astype(np.float32), np.sin(turns).astype(np.float32)


def turned(torch: Any, x: Any, cos: Any, sin: Any) -> Any:
    """torch's way of rotary."""
    half = cos.shape[-1]
    a, b = x[..., :half].float(), x[..., half:].float()
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def rotated(x: Array, cos: Array, sin: Array) -> Array:
    """Rotary in double."""
    half = cos.shape[-1]
    a, b = x[..., :half].astype(np.float64), x[..., half:].astype(np.float64)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def _of_rms_linear(case: Sized) -> Layer:
    m, n, k = case.sizes
    x, gain, (w,) = case.draw(m, k), case.draw(k), case.weights((n, k))

    def theirs(torch: Any) -> Callable[[], Any]:
        a, g, linear = tensor(torch, x), tensor(torch, gain), w.theirs(torch)
        return lambda: linear(torch.nn.functional.rms_norm(a, g.shape, g, EPS))

    return Layer(norm.rms_linear, (x, gain, w.ours(), EPS), theirs, lambda: w.times(rms(x, gain)))


def _of_mlp(case: Sized) -> Layer:
    m, n, wide = case.sizes
    x, (gate, up, down) = case.draw(m, n), case.weights((wide, n), (wide, n), (n, wide))

    def theirs(torch: Any) -> Callable[[], Any]:
        a, (g, u, d) = tensor(torch, x), (w.theirs(torch) for w in (gate, up, down))
        return lambda: d(torch.nn.functional.silu(g(a)) * u(a))

    def want() -> Array:
        v = x.astype(np.float64)
        return down.times(silu(gate.times(v)) * up.times(v))

    ours = (x, gate.ours(), up.ours(), down.ours())
    return Layer(mlp.swiglu, ours, theirs, want)


def _of_cross_entropy(case: Sized) -> Layer:
    tokens, words = case.sizes
    logits, target = case.draw(tokens, words, scale=3), _targets(tokens, words)

    def theirs(torch: Any) -> Callable[[], Any]:
        x, t = tensor(torch, logits), torch.from_numpy(target.astype(np.int64))
        return lambda: torch.nn.functional.cross_entropy(x, t, reduction="none")

    def want() -> Array:
        return _loss(logits[:TOKENS].astype(np.float64), target)

    return Layer(losses.cross_entropy, (logits, target), theirs, want)


def _of_linear_cross_entropy(case: Sized) -> Layer:
    tokens, words, k = case.sizes
    x, (w,), target = case.draw(tokens, k), case.weights((words, k)), _targets(tokens, words)

    def theirs(torch: Any) -> Callable[[], Any]:
        a, t, linear = tensor(torch, x), torch.from_numpy(target.astype(np.int64)), w.theirs(torch)

        def loss() -> Any:
            logits = linear(a).float()
            return torch.nn.functional.cross_entropy(logits, t, reduction="none")

        return loss

    def want() -> Array:
        return _loss(w.times(x[:TOKENS].astype(np.float64)), target)

    return Layer(losses.linear_cross_entropy, (x, w.ours(), target), theirs, want)


def _targets(tokens: int, words: int) -> Array:
    return np.random.default_rng(3).integers(0, words, tokens).astype(np.int32)


def _loss(logits: Array, target: Array) -> Array:
    most = logits.max(-1, keepdims=True)
    total = np.log(np.exp(logits - most).sum(-1)) + most[:, 0]
    return total - np.take_along_axis(logits, target[: len(logits), None], 1)[:, 0]


LAYERS: dict[str, Callable[[Sized], Layer]] = {
    "softmax": _of_softmax,
    "rms": _of_rms,
    "layer-norm": _of_layer_norm,
    "swiglu": _of_swiglu,
    "rotary": _of_rotary,
    "rms-linear": _of_rms_linear,
    "mlp": _of_mlp,
    "cross-entropy": _of_cross_entropy,
    "linear-cross-entropy": _of_linear_cross_entropy,
}
