"""Programs with tensors of torch whose gradients are checked: all that models are made of."""

# The names in a program have types of the language.
# pyright: basic, reportInvalidTypeForm=false

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

import tilec as tc
from tilec.ops import dense_attention, linear, losses, mlp, norm, rotary


@tc.program
def acted(x: tc.Tensor["M", "N"]):
    return (tc.silu(x), tc.gelu(x), tc.gelu_tanh(x), tc.relu(x), tc.sigmoid(x), tc.tanh(x),
            tc.softplus(x))  # fmt: skip


@tc.program
def gated(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"]):
    return tc.swiglu(x, y) + tc.soft_cap(x, 2.0)


@tc.program
def embedded(w: tc.Tensor["V", "D"], ids: tc.Tensor["B", "T", tc.i32], gain: tc.Tensor["D"]):
    return tc.rms_norm(w[ids], gain)


@tc.program
def ragged(
    q: tc.Tensor["T", "H", "D"], k: tc.Tensor["T", "H", "D"], v: tc.Tensor["T", "H", "E"],
    sequence: tc.Tensor["T", tc.i32],
):  # fmt: skip
    """Sequences of different lengths one after the other: each token attends to its own before."""
    scores = tc.einsum("thd,shd->hts", q, k) * 0.3
    same = sequence[:, None] == sequence
    seen = same & (tc.index("T") <= tc.index("T")[:, None])
    p = tc.softmax(tc.where(seen, scores, -math.inf)).to(q.dtype)
    return tc.einsum("hts,she->the", p, v).to(q.dtype)


@tc.program
def block(
    x: tc.Tensor["T", "C"], first: tc.Tensor["C"], qkv: tc.Tensor[3, "C", "C"],
    out: tc.Tensor["C", "C"], second: tc.Tensor["C"], up: tc.Tensor["F", "C"],
    down: tc.Tensor["C", "F"],
):  # fmt: skip
    """A layer of a transformer with one head."""
    h = tc.rms_norm(x, first)
    q, k, v = (h @ qkv[0].T, h @ qkv[1].T, h @ qkv[2].T)
    seen = tc.index("T") <= tc.index("T")[:, None]
    p = tc.softmax(tc.where(seen, q @ k.T * 0.25, -math.inf))
    y = x + p @ v @ out.T
    return y + tc.gelu(tc.rms_norm(y, second) @ up.T) @ down.T


@dataclass(frozen=True)
class Trained:
    """A program, and arguments in doubles: a shape is of random numbers that have a gradient."""

    program: Any
    given: tuple[Any, ...]

    def arguments(self, dtype: torch.dtype = torch.float64) -> list[Any]:
        """The arguments, with floats of a dtype."""
        torch.manual_seed(4)
        return [torch.randn(x, dtype=torch.float64).to(dtype).requires_grad_()
                if isinstance(x, tuple) else x for x in self.given]  # fmt: skip


def integers(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


GROUPS = ((2, 2, 3, 4, 5), (2, 2, 6, 5), (2, 2, 6, 3))
HEADS = ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 2))
CASES = {
    "acted": Trained(acted, ((3, 4),)),
    "gated": Trained(gated, ((3, 4), (3, 4))),
    "embedded": Trained(embedded, ((5, 6), integers([0, 3, 3], [4, 0, 0]), (6,))),
    "ragged": Trained(ragged, ((7, 2, 4), (7, 2, 4), (7, 2, 3), integers(0, 0, 0, 1, 2, 2, 2))),
    "block": Trained(block, ((5, 6), (6,), (3, 6, 6), (6, 6), (6,), (8, 6), (6, 8))),
    "full": Trained(dense_attention.full, (*HEADS, 0.5)),
    "causal": Trained(dense_attention.causal, (*GROUPS, 0.5)),
    "windowed": Trained(dense_attention.windowed, (*GROUPS, 0.5, 2, 3.0)),
    "biased": Trained(dense_attention.biased, (*HEADS, (3, 4, 6), 0.5)),
    "decode": Trained(dense_attention.decode,
                      ((2, 2, 3, 5), (2, 2, 6, 5), (2, 2, 6, 3), integers(4, 1), 0.5)),
    "latent": Trained(dense_attention.latent,
                      ((2, 3, 4), (2, 3, 2), (2, 6, 4), (2, 6, 2), integers(6, 2), 0.5)),
    "rms": Trained(norm.rms, ((3, 5), (5,), 2.0**-7)),
    "layer": Trained(norm.layer, ((3, 5), (5,), (5,), 2.0**-7)),
    "added_rms": Trained(norm.added_rms, ((3, 5), (3, 5), (5,), 2.0**-7)),
    "rms_linear": Trained(norm.rms_linear, ((3, 5), (5,), (4, 5), 2.0**-7)),
    "softmax": Trained(norm.softmax, ((3, 5),)),
    "swiglu": Trained(mlp.swiglu, ((3, 4), (6, 4), (6, 4), (5, 6))),
    "gelu": Trained(mlp.gelu, ((3, 4), (6, 4), (6,), (5, 6), (5,))),
    "cross_entropy": Trained(losses.cross_entropy, ((3, 7), integers(0, 6, 3))),
    "linear_cross_entropy": Trained(losses.linear_cross_entropy,
                                    ((3, 4), (7, 4), integers(0, 6, 3))),
    "rotary": Trained(rotary.rotary, ((2, 3, 8), (3, 4), (3, 4))),
    "affine": Trained(linear.affine, ((3, 4), (5, 4), (5,))),
    "affine_silu": Trained(linear.affine_silu, ((3, 4), (5, 4), (5,))),
    "low_rank": Trained(linear.low_rank, ((3, 4), (5, 4), (2, 4), (5, 2), 0.5)),
    "low_ranks": Trained(linear.low_ranks,
                         ((4, 4), (5, 4), (3, 2, 4), (3, 5, 2), integers(0, 2, -1, 2), 0.5)),
}  # fmt: skip
