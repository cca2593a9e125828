"""Attention with heads that share keys: of many queries, or of one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tilec.bench.case import OURS, Made, Make, copies
from tilec.bench.problems.linear import STORED, WORST
from tilec.bench.problems.pruned import Stored
from tilec.compile import Kernel
from tilec.ir.dtype import Array
from tilec.lang.text import parse
from tilec.ops import attention, dense_attention
from tilec.runtime.sparse import paged
from tilec.runtime.tensor import quantize

HEADS, GROUPS, WIDTH = 32, 8, 128  # of queries, of keys and values, elements of one
PAGE = 64  # keys
SCALE = WIDTH**-0.5
WRITTEN = """kernel written(q: T[G, R, M, D], k: T[G, N, D], v: T[G, N, D], y: T[G, R, M, D],
                         scale: f32) {
  for group, head, m in tiles(G, R, M, block=[1, 1, none]) {
    g = group.start
    h = head.start
    rows = q[g, h, m, :]
    most = full([m], -inf)
    total = zeros([m])
    acc = zeros([m, D])
    for n in tiles(N, to=m.stop) {
      s = dot(rows, k[g, n, :].T) * scale
      s = where(n.index <= m.index[:, none], s, -inf)
      new = maximum(most, max(s, axis=1))
      p = exp(s - new[:, none])
      old = exp(most - new)
      total = total * old + sum(p, axis=1)
      acc = acc * old[:, none] + dot(p.to(v.dtype), v[g, n, :])
      most = new
    }
    y[g, h, m, :] = acc / total[:, none]
  }
}"""  # causal, of as many queries as keys


@dataclass(frozen=True)
class Attention:
    """So many queries of each head, the last of the places of `n` keys, in a dtype.

    `causal` queries see no key behind their own place. A single query is one step of decoding: its
    keys and values come from memory, dense, in pages, or in codes of a format (`cache`).
    """

    m: int
    n: int
    causal: bool
    dtype: str = "bf16"
    cache: str = "dense"

    @property
    def decodes(self) -> bool:
        """Whether this is one token."""
        return self.m == 1

    @property
    def operations(self) -> float:
        """Multiplications and additions of what is seen: of a causal square, half of it."""
        seen = 0.5 if self.causal and not self.decodes else 1.0
        return HEADS * self.m * self.n * WIDTH * 4.0 * seen

    def draw(self, heads: int, rows: int, seed: int) -> Array:
        """A tensor [heads, rows, WIDTH]."""
        rng = np.random.default_rng(seed)
        return rng.standard_normal((heads, rows, WIDTH), np.float32).astype(STORED[self.dtype])

    def operands(self) -> tuple[Array, Array, Array]:
        """Queries, keys and values."""
        k, v = (self.draw(GROUPS, self.n, seed) for seed in (2, 3))
        return self.draw(HEADS, self.m, 1), k, v

    def copies(self, nbytes: int) -> int:
        """How many copies of keys and values calls rotate over."""
        return copies(nbytes, self.decodes)

    def want(self, q: Array, k: Array, v: Array) -> Array:
        """The result [HEADS, m, WIDTH] in f64, head after head."""
        place = np.arange(self.m)[:, None] + (self.n - self.m)
        out = np.empty((HEADS, self.m, WIDTH), np.float32)
        for h in range(HEADS):
            own, keys, values = (x.astype(np.float64) for x in (q[h], *(
                x[h // (HEADS // GROUPS)] for x in (k, v))))  # fmt: skip
            s = own @ keys.T * SCALE
            if self.causal:
                s = np.where(np.arange(self.n) <= place, s, -np.inf)
            e = np.exp(s - s.max(1, keepdims=True))
            out[h] = e / e.sum(1, keepdims=True) @ values
        return out

    def ours(self) -> Mapping[str, Make]:
        """What the compiler derives from softmax(q k') v; for decoding and causal squares also a
        kernel that has the loop over keys written out."""
        if self.cache != "dense":
            return {OURS: partial(_ours, self, _kernel)}
        found: dict[str, Make] = {OURS: partial(_ours, self, _derived)}
        if self.causal:
            found["tilec kernel"] = partial(_ours, self, _kernel)
        return found


Solve = Callable[[Attention, Array], Callable[[Stored, Stored], Any]]


def _ours(of: Attention, solve: Solve) -> Made:
    q, *dense = of.operands()
    (k, keys), (v, values) = (_stored(of, x) for x in dense)
    nbytes = k.nbytes + v.nbytes
    pairs = [(k, v), *((k.copy(), v.copy()) for _ in range(of.copies(nbytes) - 1))]
    call = solve(of, q)

    def got(result: Any) -> Array:
        return np.asarray(result).astype(np.float64).reshape(HEADS, of.m, WIDTH)

    return Made([partial(call, *p) for p in pairs], lambda: of.want(q, keys, values), got,
                nbytes=nbytes, operations=of.operations, worst=WORST[of.dtype])  # fmt: skip


def _stored(of: Attention, x: Array) -> tuple[Stored, Array]:
    """Keys or values [1, GROUPS, n, WIDTH] as they lie in the cache, and what they mean."""
    if of.cache == "dense":
        return x[None], x
    if of.cache != "paged":
        coded = quantize(x.astype(np.float32)[None], of.cache, search=False)
        return coded, coded.dequantize()[0]
    pages = of.n // PAGE
    order = np.random.default_rng(4).permutation(pages).astype(np.int32)
    pool = np.empty((pages, GROUPS, PAGE, WIDTH), x.dtype)
    pool[order] = x.reshape(GROUPS, pages, PAGE, WIDTH).swapaxes(0, 1)
    return paged(pool, order[None]), x


def _grouped(x: Array) -> Array:
    """Heads [H, ...] as [1, groups, heads of a group, ...]."""
    return x.reshape(1, GROUPS, HEADS // GROUPS, *x.shape[1:])


def _derived(of: Attention, q: Array) -> Callable[[Any, Any], Any]:
    if of.decodes:
        given, length = _grouped(q)[:, :, :, 0], np.array([of.n], np.int32)
        return lambda k, v: dense_attention.decode(given, k, v, length, SCALE)
    if of.causal:
        return lambda k, v: dense_attention.causal(_grouped(q), k, v, SCALE)
    kept: dict[int, Array] = {}  # keys and values once for every head of queries

    def full(k: Array, v: Array) -> Any:
        for x in (k, v):
            if id(x) not in kept:
                kept[id(x)] = np.repeat(x, HEADS // GROUPS, 1)
        return dense_attention.full(q[None], kept[id(k)], kept[id(v)], SCALE)

    return full


def _kernel(of: Attention, q: Array) -> Callable[[Any, Any], Any]:
    y = np.full(q.shape, np.nan, q.dtype)
    if of.decodes:
        given, length = _grouped(q)[:, :, :, 0], np.array([of.n], np.int32)
        out = y.reshape(given.shape)

        def decode(k: Stored, v: Stored) -> Array:
            attention.decode(given, k, v, length, out, SCALE)
            return y

        return decode
    written = Kernel(parse(WRITTEN.replace("T[", f"{of.dtype}["))["written"])

    def prefill(k: Array, v: Array) -> Array:
        written(_grouped(q)[0], k[0], v[0], _grouped(y)[0], SCALE)
        return y

    return prefill
