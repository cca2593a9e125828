"""llama.cpp's layer of a decoder: the graph that it makes of a Llama, run by its library ggml.

The ops, the types and the order are those of llama.cpp: weights in q4_0 or q4_k, repacked, rows in
f32, keys and values in f16 and attended by `flash_attn_ext`, which reads each group of heads once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tilec.bench.case import Made, Make, Peer, Problem
from tilec.bench.peers.ggml import (
    F32,
    REPACKED,
    WORST,
    Library,
    Weights,
    absent,
    allocated,
    coded,
    graph_,
    library,
)
from tilec.bench.problems.decoder import Decoder
from tilec.bench.problems.layers import EPS
from tilec.bench.problems.models import Model
from tilec.ir.dtype import Array

F16, I32 = 1, 26  # of ggml's enumeration of types
HALVES = 2  # rotary turns the halves of a row: GGML_ROPE_TYPE_NEOX
BASE, LONGEST = 5e5, 8192  # of rotary's frequencies


@dataclass(frozen=True)
class _Meant:
    """A weight as its codes say, in the place of the one that they were made of."""

    dense: Array

    def times(self, x: Array) -> Array:
        """x @ w.T in double."""
        return x @ self.dense.T.astype(np.float64)


@dataclass
class _Tensors:
    """The tensors of a layer in ggml's memory."""

    lib: Library
    of: Decoder
    weights: list[Weights]

    def __post_init__(self) -> None:
        lib, of, d = self.lib, self.of, 2 * self.of.half
        stored, around = lib.context(len(self.weights)), lib.context(6)
        self.matrices = [lib("ggml_new_tensor_2d", stored, w.number, w.dense.shape[1], len(w.codes))
                         for w in self.weights]  # fmt: skip
        allocated(lib, stored, lib.repacking())
        for t, w in zip(self.matrices, self.weights, strict=True):
            lib("ggml_backend_tensor_set", t, w.codes.ctypes.data, 0, w.codes.nbytes)
        self.gains = [self.new(around, F32, of.wide) for _ in of.gains]
        self.caches = [self.new(around, F16, d, of.places, of.groups, of.batch) for _ in of.caches]
        self.x, self.place = (
            self.new(around, F32, of.wide, of.batch),
            self.new(around, I32, of.batch),
        )
        allocated(lib, around, lib("ggml_backend_cpu_buffer_type"))
        for t, x in zip(self.gains, of.gains, strict=True):
            self.set(t, x.astype(np.float32))
        for t, x in zip(self.caches, of.caches, strict=True):
            self.set(t, x.astype(np.float16))
        self.set(self.x, of.x.astype(np.float32))
        self.set(self.place, of.place)

    def new(self, context: Any, number: int, *shape: int) -> Any:
        """A tensor: ggml's axes are from the innermost to the outermost."""
        return self.lib("ggml_new_tensor_4d", context, number, *shape, *(1,) * (4 - len(shape)))

    def set(self, tensor: Any, x: Array) -> None:
        """Give a tensor its elements."""
        x = np.ascontiguousarray(x)
        self.lib("ggml_backend_tensor_set", tensor, x.ctypes.data, 0, x.nbytes)

    @property
    def nbytes(self) -> int:
        """Of weights, keys and values."""
        return sum(w.codes.nbytes for w in self.weights) + sum(2 * c.size for c in self.of.caches)


@dataclass
class _Graph:
    """The layer as ggml's ops."""

    of: _Tensors
    context: Any

    def op(self, name: str, *args: Any) -> Any:
        """The result of an op."""
        return self.of.lib(f"ggml_{name}", self.context, *args)

    def normed(self, x: Any, gain: Any) -> Any:
        return self.op("mul", self.op("rms_norm", x, EPS), gain)

    def heads(self, x: Any, count: int) -> Any:
        return self.op("reshape_4d", x, 2 * self.of.of.half, count, self.of.of.batch, 1)

    def turned(self, x: Any, count: int) -> Any:
        place, d = self.of.place, 2 * self.of.of.half
        return self.op("rope_ext", self.heads(x, count), place, None, d, HALVES, LONGEST, BASE, 1.0,
                       0.0, 1.0, 32.0, 1.0)  # fmt: skip

    def written(self, x: Any, cache: Any) -> Any:
        """Rows of the last place in a cache."""
        of = self.of.of
        d = 2 * of.half
        row, group, each = 2 * d, 2 * d * of.places, 2 * d * of.places * of.groups
        there = self.op("view_4d", cache, d, 1, of.groups, of.batch, row, group, each,
                        row * (of.places - 1))  # fmt: skip
        return self.op("cpy", self.op("reshape_4d", x, d, 1, of.groups, of.batch), there)

    def results(self) -> list[Any]:
        """What is written to the caches, and what the layer makes of x."""
        t, of = self.of, self.of.of
        q, k, v, o, gate, up, down = (partial(self.op, "mul_mat", w) for w in t.matrices)
        heads = of.groups * of.heads
        h = self.normed(t.x, t.gains[0])
        query = self.op("reshape_4d", self.turned(q(h), heads), 2 * of.half, 1, heads, of.batch)
        stored = [self.written(self.turned(k(h), of.groups), t.caches[0]),
                  self.written(self.heads(v(h), of.groups), t.caches[1])]  # fmt: skip
        mixed = self.op("flash_attn_ext", query, *t.caches, None, of.scale, 0.0, 0.0)
        flat = self.op("reshape_4d", mixed, of.wide, of.batch, 1, 1)
        y = self.op("add", t.x, o(flat))
        h = self.normed(y, t.gains[1])
        return [*stored, self.op("add", y, down(self.op("swiglu_split", gate(h), up(h))))]


def _contenders(problem: Problem) -> Mapping[str, Make]:
    if not isinstance(problem, Model) or problem.layer != "decoder" or problem.weight != "int4":
        return {}
    return {f"llama.cpp {kind}": partial(_layer, problem, kind) for kind in REPACKED}


def _layer(problem: Model, kind: str) -> Made:
    lib, of = library(), Decoder(problem)
    weights = [coded(lib, w.dense, kind) for w in of.weights]
    tensors = _Tensors(lib, of, weights)
    context = lib.context(64, 1)
    results = _Graph(tensors, context).results()
    graph = graph_(lib, context, *results)
    allocated(lib, context, lib("ggml_backend_cpu_buffer_type"))

    def got(_: object) -> Array:
        y = np.full((of.batch, of.wide), np.nan, np.float32)
        lib("ggml_backend_tensor_get", results[-1], y.ctypes.data, 0, y.nbytes)
        return y

    def want() -> Array:
        return of.want([_Meant(w.dense) for w in weights])

    return Made([partial(lib.compute, graph)], want, got, nbytes=tensors.nbytes,
                operations=problem.operations, worst=WORST, about=problem.about)  # fmt: skip


PEER = Peer("llama.cpp", absent, _contenders)
