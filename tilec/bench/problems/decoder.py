"""One step of a decoder layer of Llama-3-8B."""

# torch types what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tilec.bench.problems.layers import (
    EPS,
    Layer,
    Sized,
    angles,
    rms,
    rotated,
    silu,
    softmax,
    tensor,
    turned,
)
from tilec.ir.dtype import Array
from tilec.ops.decoder import step


def decoder(case: Sized) -> Layer:
    """Sizes: sequences, places of the cache. The rest is as in Llama-3-8B."""
    return Decoder(case).layer()


class Decoder:
    """The layer's tensors, and what torch and doubles make of them."""

    wide, groups, heads, half, inner = 4096, 8, 4, 64, 14336

    def __init__(self, case: Sized) -> None:
        self.batch, self.places = case.sizes
        c, kv = self.wide, self.groups * 2 * self.half
        self.x = case.draw(self.batch, c)
        self.gains = [1 + case.draw(i, c, scale=0.1)[0] for i in (1, 2)]
        shapes = ((c, c), (kv, c), (kv, c), (c, c), (self.inner, c), (self.inner, c),
                  (c, self.inner))  # fmt: skip
        self.weights = case.weights(*shapes)
        size = (self.batch, self.groups, self.places, 2 * self.half)
        self.caches = [case.draw(*size), case.draw(1, *size)[0]]
        self.place = np.full(self.batch, self.places - 1, np.int32)
        self.angles = angles(self.place, self.half)
        self.scale = 1 / math.sqrt(2 * self.half)

    def layer(self) -> Layer:
        """What is measured."""
        q, k, v, o, gate, up, down = (w.ours() for w in self.weights)
        ours = (self.x, self.gains[0], q, k, v, o, self.gains[1], gate, up, down, *self.angles,
                *(c.copy() for c in self.caches), self.place, self.scale)  # fmt: skip
        return Layer(step, ours, self.theirs, self.want)

    def theirs(self, torch: Any) -> Callable[[], Any]:
        """torch's function without arguments."""
        norm, g, d = torch.nn.functional.rms_norm, self.groups, 2 * self.half
        x, first, second, cos, sin, keys, values = (
            tensor(torch, v.copy()) for v in (self.x, *self.gains, *self.angles, *self.caches)
        )
        q, k, v, o, gate, up, down = (w.theirs(torch) for w in self.weights)
        each, place = torch.arange(self.batch), torch.from_numpy(self.place.astype(np.int64))
        unseen = torch.arange(self.places) > place[:, None, None, None]

        def step() -> Any:
            h = norm(x, first.shape, first, EPS)
            turn = cos[:, None, None], sin[:, None, None]
            query = turned(torch, q(h).view(self.batch, g, self.heads, d), *turn)
            keys[each, :, place] = turned(torch, k(h).view(self.batch, g, d), cos[:, None],
                                          sin[:, None])  # fmt: skip
            values[each, :, place] = v(h).view(self.batch, g, d)
            scores = (query @ keys.transpose(2, 3)).float() * self.scale
            p = torch.softmax(scores.masked_fill(unseen, -math.inf), -1).to(x.dtype)
            y = x + o((p @ values).view(self.batch, self.wide))
            h = norm(y, second.shape, second, EPS)
            return y + down(torch.nn.functional.silu(gate(h)) * up(h))

        return step

    def want(self, weights: Sequence[Any] = ()) -> Array:
        """The result in double, of other weights if there are any."""
        q, k, v, o, gate, up, down = weights or self.weights
        keys, values = (c.astype(np.float64) for c in self.caches)
        g, d = self.groups, 2 * self.half
        turn = tuple(a[:, None] for a in self.angles)
        h = rms(self.x, self.gains[0])
        query = rotated(q.times(h).reshape(self.batch, g * self.heads, d), *turn)
        keys[:, :, -1] = rotated(k.times(h).reshape(self.batch, g, d), *turn)
        values[:, :, -1] = v.times(h).reshape(self.batch, g, d)
        query = query.reshape(self.batch, g, self.heads, d)
        p = softmax(query @ keys.swapaxes(2, 3) * self.scale)
        y = self.x.astype(np.float64) + o.times((p @ values).reshape(self.batch, self.wide))
        h = rms(y, self.gains[1])
        return y + down.times(silu(gate.times(h)) * up.times(h))
