"""Attention: ours, derived and written by hand, and torch's, each checked before it is timed."""

# torch and numpy type what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from tilec.bench.contenders import COLD, Contender
from tilec.compile import Kernel
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.lang.text import parse
from tilec.ops import attention, dense_attention
from tilec.profile import ceilings

HEADS, GROUPS, WIDTH = 32, 8, 128  # of queries, of keys and values, elements of one
SCALE = WIDTH**-0.5
STORED: dict[str, Any] = {"bf16": ml_dtypes.bfloat16, "f16": np.float16, "f32": np.float32}
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
WORST = {"bf16": 1e-2, "f16": 2e-3, "f32": 1e-5}  # relative errors of results


@dataclass(frozen=True)
class Point:
    """So many queries of each head, the last of the places of `n` keys, in a dtype.

    `causal` queries see no key behind their own place. A single query is one step of decoding.
    """

    m: int
    n: int
    causal: bool
    dtype: str = "bf16"

    @property
    def decodes(self) -> bool:
        """Whether this is one token, whose keys and values come from memory."""
        return self.m == 1

    @property
    def operations(self) -> float:
        """Multiplications and additions of what is seen: of a causal square, half of it."""
        seen = 0.5 if self.causal and not self.decodes else 1.0
        return HEADS * self.m * self.n * WIDTH * 4.0 * seen

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return 2 * GROUPS * self.n * WIDTH * np.dtype(STORED[self.dtype]).itemsize

    def draw(self, heads: int, rows: int, seed: int) -> Array:
        """A tensor [heads, rows, WIDTH]."""
        rng = np.random.default_rng(seed)
        return rng.standard_normal((heads, rows, WIDTH), np.float32).astype(STORED[self.dtype])

    def operands(self) -> tuple[Array, list[tuple[Array, Array]]]:
        """Queries, and keys and values to rotate over: one token reads them from memory."""
        q = self.draw(HEADS, self.m, 1)
        k, v = (self.draw(GROUPS, self.n, seed) for seed in (2, 3))
        copies = -(-COLD // self.nbytes) if self.decodes else 1
        return q, [(k, v), *((k.copy(), v.copy()) for _ in range(copies - 1))]


def make(name: str, case: Any) -> Contender:
    """A contender by name. Raises TileError where its result is wrong or it is unknown."""
    assert isinstance(case, Point)
    if name == "read":
        run, nbytes = ceilings.read(COLD)
        return Contender([run], nbytes, 0.0)
    if name == "arithmetic":
        run, operations = ceilings.arithmetic()
        return Contender([run], 0, operations)
    if name not in MAKERS:
        raise TileError(f"no contender is called {name!r}; there are {', '.join(MAKERS)}")
    q, pairs = case.operands()
    calls = MAKERS[name](case, q, pairs)
    got = np.asarray(calls[0]()).astype(np.float32).reshape(HEADS, case.m, WIDTH)
    want = _wanted(case, q, *pairs[0])
    error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    if not error < WORST[case.dtype]:
        raise TileError(f"{name} is wrong: its relative error is {error:.1e}")
    return Contender(calls, case.nbytes, case.operations)


def _wanted(case: Point, q: Array, k: Array, v: Array) -> Array:
    """The result in f64, head after head."""
    place = np.arange(case.m)[:, None] + (case.n - case.m)
    out = np.empty((HEADS, case.m, WIDTH), np.float32)
    for h in range(HEADS):
        own, keys, values = (x.astype(np.float64) for x in (q[h], *(
            x[h // (HEADS // GROUPS)] for x in (k, v))))  # fmt: skip
        s = own @ keys.T * SCALE
        if case.causal:
            s = np.where(np.arange(case.n) <= place, s, -np.inf)
        e = np.exp(s - s.max(1, keepdims=True))
        out[h] = e / e.sum(1, keepdims=True) @ values
    return out


Pairs = list[tuple[Array, Array]]
Calls = list[Callable[[], Any]]


def _grouped(x: Array) -> Array:
    """Heads [H, ...] as [1, groups, heads of a group, ...]."""
    return x.reshape(1, GROUPS, HEADS // GROUPS, *x.shape[1:])


def _derived(case: Point, q: Array, pairs: Pairs) -> Calls:
    if case.decodes:
        given, length = _grouped(q)[:, :, :, 0], np.array([case.n], np.int32)
        return [partial(dense_attention.decode, given, k[None], v[None], length, SCALE)
                for k, v in pairs]  # fmt: skip
    if case.causal:
        given = _grouped(q)
        return [partial(dense_attention.causal, given, k[None], v[None], SCALE) for k, v in pairs]
    return [partial(dense_attention.full, q[None], *_repeated(k, v), SCALE) for k, v in pairs]


def _repeated(k: Array, v: Array) -> tuple[Array, Array]:
    """Keys and values once for every head of queries."""
    return np.repeat(k, HEADS // GROUPS, 0)[None], np.repeat(v, HEADS // GROUPS, 0)[None]


def _kernel(case: Point, q: Array, pairs: Pairs) -> Calls:
    y = np.full(q.shape, np.nan, q.dtype)
    if case.decodes:
        given, length = _grouped(q)[:, :, :, 0], np.array([case.n], np.int32)
        out = y.reshape(given.shape)

        def decode(k: Array, v: Array) -> Array:
            attention.decode(given, k[None], v[None], length, out, SCALE)
            return y

        return [partial(decode, k, v) for k, v in pairs]
    if not case.causal:
        raise TileError("the kernel that is written by hand is causal")

    written = Kernel(parse(WRITTEN.replace("T[", f"{case.dtype}["))["written"])

    def prefill(k: Array, v: Array) -> Array:
        written(_grouped(q)[0], k, v, _grouped(y)[0], SCALE)
        return y

    return [partial(prefill, k, v) for k, v in pairs]


def _torch(grouped: bool, case: Point, q: Array, pairs: Pairs) -> Calls:
    import torch

    kind = {"bf16": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[case.dtype]

    def tensor(x: Array) -> Any:
        t = torch.from_numpy(x.astype(np.float32)).to(kind)[None]
        return t if grouped or len(x) == HEADS else t.repeat_interleave(HEADS // GROUPS, 1)

    given = tensor(q)

    def call(k: Any, v: Any) -> Any:
        y = torch.nn.functional.scaled_dot_product_attention(
            given, k, v, is_causal=case.causal and not case.decodes, scale=SCALE,
            enable_gqa=grouped)  # fmt: skip
        return _Result(y)

    return [partial(call, tensor(k), tensor(v)) for k, v in pairs[: None if grouped else 3]]


class _Result:
    """A tensor of torch that numpy reads when asked, as f32: it has no bf16."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        del dtype, copy
        return self.tensor.float().numpy()


MAKERS: dict[str, Callable[[Point, Array, Pairs], Calls]] = {
    "tilec": _derived,
    "tilec kernel": _kernel,
    "torch sdpa": partial(_torch, False),
    "torch sdpa gqa": partial(_torch, True),
}
