"""A sentence encoder of the sizes of all-MiniLM-L6-v2: six layers of BERT, with random weights."""

# torch types what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tilec.bench.problems.layers import Layer, Sized, Weight, softmax, tensor
from tilec.ir.dtype import Array
from tilec.ops.encoder import layer

LAYERS, WIDE, HEADS, INNER = 6, 384, 12, 1536
EPS = 1e-12
CHECKED = 128  # tokens whose result is compared, those of the first sentence if it is as long


def encoder(case: Sized) -> Layer:
    """Sizes: sentences, tokens of each; the last sentence is half padding."""
    return _Encoder(case).layer()


class _Layers:
    """A program for each layer, one behind the other."""

    def __init__(self, program: Any, rest: Sequence[tuple[Any, ...]]) -> None:
        self.program, self.rest = program, rest

    def __call__(self, x: Array, *given: Any) -> Array:
        """What the last layer makes of x [tokens, elements]."""
        del given  # the weights, which `rest` has by layer
        for own in self.rest:
            x = self.program(x, *own)
        return x


class _Encoder:
    def __init__(self, case: Sized) -> None:
        self.batch, self.tokens = case.sizes
        self.x = case.draw(self.batch * self.tokens, WIDE)
        self.hidden = np.zeros((self.batch, HEADS, self.tokens), np.float32)
        self.hidden[-1, :, self.tokens // 2 :] = -1e9
        square, up, down = (WIDE, WIDE), (INNER, WIDE), (WIDE, INNER)
        self.weights = case.weights(*[square] * 4 * LAYERS, *[up] * LAYERS, *[down] * LAYERS)
        self.biases = [case.draw(i, w.n, scale=0.1)[-1] for i, w in enumerate(self.weights, 1)]
        norms = range(1, 2 * LAYERS + 1)
        self.gains = [1 + case.draw(i, WIDE, scale=0.1)[-1] for i in norms]
        self.shifts = [case.draw(WIDE, i, scale=0.1)[:, -1].copy() for i in norms]
        self.scale = 1 / math.sqrt(WIDE // HEADS)

    def of_layer(self, i: int) -> tuple[list[Weight], list[Array], list[tuple[Array, Array]]]:
        """Weights, biases, and the gain and bias of each norm."""
        places = [*range(4 * i, 4 * i + 4), 4 * LAYERS + i, 5 * LAYERS + i]
        norms = list(zip(self.gains, self.shifts, strict=True))[2 * i : 2 * i + 2]
        return [self.weights[p] for p in places], [self.biases[p] for p in places], norms

    def layer(self) -> Layer:
        """What is measured."""
        rest: list[tuple[Any, ...]] = []
        for i in range(LAYERS):
            weights, biases, norms = self.of_layer(i)
            pairs = [a for w, b in zip(weights, biases, strict=True) for a in (w.ours(), b)]
            ends = [a for both in norms for a in both]
            rest.append((self.hidden, *pairs, *ends, self.scale, EPS))
        flat = [a for own in rest for a in own[1:-2]]
        run: Any = _Layers(layer, rest)
        return Layer(run, (self.x, *flat), self.theirs, self.want)

    def theirs(self, torch: Any) -> Callable[[], Any]:
        """torch's function without arguments."""
        functional, split = torch.nn.functional, (self.batch, self.tokens, HEADS, WIDE // HEADS)
        x, mask = (
            tensor(torch, self.x),
            tensor(torch, self.hidden)[:, :, None, :].to(torch.bfloat16),
        )
        each: list[Any] = []
        for i in range(LAYERS):
            weights, biases, norms = self.of_layer(i)
            products = [w.theirs(torch) for w in weights]
            offsets = [tensor(torch, b) for b in biases]
            each.append((products, offsets, [[tensor(torch, a) for a in n] for n in norms]))

        def normed(y: Any, norm: list[Any]) -> Any:
            return functional.layer_norm(y, (WIDE,), norm[0], norm[1], EPS)

        def run() -> Any:
            y = x
            for (q, k, v, o, up, down), (bq, bk, bv, bo, bu, bd), norms in each:
                heads = [(f(y) + b).view(split).transpose(1, 2)
                         for f, b in ((q, bq), (k, bk), (v, bv))]  # fmt: skip
                mixed = functional.scaled_dot_product_attention(*heads, attn_mask=mask)
                y = normed(o(mixed.transpose(1, 2).reshape(y.shape)) + bo + y, norms[0])
                y = normed(down(functional.gelu(up(y) + bu)) + bd + y, norms[1])
            return y

        return run

    def want(self) -> Array:
        """The first tokens of the result in double."""
        many = max(1, CHECKED // self.tokens)
        x = self.x[: many * self.tokens].astype(np.float64)
        hidden, d = self.hidden[:many, :, None, :].astype(np.float64), WIDE // HEADS
        for i in range(LAYERS):
            weights, biases, norms = self.of_layer(i)
            q, k, v, o, up, down = (
                partial(_affine, w, b.astype(np.float64))
                for w, b in zip(weights, biases, strict=True)
            )
            heads = [f(x).reshape(-1, self.tokens, HEADS, d).swapaxes(1, 2) for f in (q, k, v)]
            p = softmax(heads[0] @ heads[1].swapaxes(2, 3) * self.scale + hidden[: len(heads[0])])
            x = _normed(o((p @ heads[2]).swapaxes(1, 2).reshape(x.shape)) + x, norms[0])
            wide = up(x)
            x = _normed(down(wide * 0.5 * (1 + _erf(wide / math.sqrt(2)))) + x, norms[1])
        return x


def _affine(w: Weight, b: Array, x: Array) -> Array:
    return w.times(x) + b


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x)


def _normed(x: Array, norm: tuple[Array, Array]) -> Array:
    gain, bias = (a.astype(np.float64) for a in norm)
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS) * gain + bias
