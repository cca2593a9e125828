"""A mixture of experts: each row of x times the weights of the experts that it chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import ml_dtypes
import numpy as np

from tilec.bench.case import OURS, Made, Make
from tilec.ir.dtype import Array
from tilec.ir.format import Dense
from tilec.ir.named import named
from tilec.ops import moe
from tilec.ops.plan import Routing, Tasks, route, tasks
from tilec.runtime.tensor import PackedTensor, quantize

WORST = 1e-2  # relative error of a result


@dataclass(frozen=True)
class Routed:
    """x[tokens, K] times w[experts, N, K], each row with `top` experts that are drawn evenly."""

    tokens: int
    experts: int
    top: int
    n: int
    k: int
    weight: str = "int4<group=128, scale=bf16>"

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        return 2.0 * self.tokens * self.top * self.n * self.k

    @property
    def run(self) -> int:
        """Rows of a task."""
        return min(64, max(1, -(-self.tokens * self.top // self.experts)))

    def routings(self) -> list[Routing]:
        """The rows of each expert, for calls to rotate over: few tokens go to others each time, so
        that their weights come from memory."""
        rng = np.random.default_rng(3)
        drawn = np.stack([rng.permutation(self.experts) for _ in range(self.tokens)])
        turns = max(1, self.experts // (self.tokens * self.top))
        chosen = [np.roll(drawn, -i * self.top, 1)[:, : self.top] for i in range(turns)]
        return [route(c, rng.random(c.shape), self.experts) for c in chosen]

    def reached(self, r: Routing) -> int:
        """How many experts have rows."""
        return int((r.counts > 0).sum())

    def rows(self) -> Array:
        """x in bf16."""
        x = np.random.default_rng(1).standard_normal((self.tokens, self.k), np.float32)
        return x.astype(ml_dtypes.bfloat16)

    def stored(self) -> Array | PackedTensor:
        """w as it is stored."""
        w = np.random.default_rng(2).standard_normal((self.experts, self.n, self.k), np.float32)
        if isinstance(named(self.weight), Dense):
            return w.astype(ml_dtypes.bfloat16)
        return quantize(w, self.weight, search=False)

    def want(self, w: Array, r: Routing) -> Array:
        """The products of all places, by expert, in f64."""
        x = self.rows().astype(np.float64)
        runs = enumerate(pairwise(r.start))
        return np.concatenate([x[r.token[a:b]] @ w[e].astype(np.float64).T for e, (a, b) in runs])

    def ours(self) -> Mapping[str, Make]:
        """One kernel over the runs of all experts."""
        return {OURS: partial(_ours, self)}


def _ours(of: Routed) -> Made:
    x, w, routings = of.rows(), of.stored(), of.routings()
    y = np.full((of.tokens * of.top, of.n), np.nan, np.float32)

    def call(token: Array, t: Tasks, offset: Array) -> Array:
        moe.linear(x, token, w, t.owner, t.first, t.end, offset, y)
        return y

    def want() -> Array:
        return of.want(w.dequantize() if isinstance(w, PackedTensor) else w, routings[0])

    planned = [(r.token.astype(np.int32), tasks(r.start, of.run)) for r in routings]
    calls = [partial(call, token, t, t.offset) for token, t in planned]
    nbytes = w.nbytes // of.experts * of.reached(routings[0])
    return Made(calls, want, nbytes=nbytes, operations=of.operations, worst=WORST)
