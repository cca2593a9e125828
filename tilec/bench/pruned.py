"""Linear layers with pruned weights: ours, dense ones and sparse peers', each checked first."""

# torch, scipy and numpy type what is looked up by name loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from tilec.bench import contenders
from tilec.bench.contenders import COLD, WORST, Case, Contender
from tilec.compile import Kernel
from tilec.ir.bits import aligned
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.lang.text import parse
from tilec.runtime.tensor import PackedTensor, quantize

LINEAR = """kernel linear(x: ELEMENT[M, K], w: FORMAT[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros([m, n], f32)
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}"""
SIDE = 16  # of blocks


@dataclass(frozen=True)
class Point(Case):
    """A product with a weight of which so large a part is left: single elements, or blocks."""

    density: float = 1.0
    blocks: bool = False

    def weight(self) -> Array:
        """w[N, K] in f32, of numbers that are bf16s; what is left is drawn evenly."""
        rng = np.random.default_rng(2)
        side = SIDE if self.blocks else 1
        kept = rng.random((self.n // side, self.k // side), np.float32) < self.density
        drawn = rng.standard_normal((self.n, self.k), np.float32)
        drawn = drawn.astype(ml_dtypes.bfloat16).astype(np.float32)
        return drawn * np.kron(kept, np.ones((side, side), bool)) if self.blocks else drawn * kept

    def rotated(self, nbytes: int) -> int:
        """How many copies of a weight calls rotate over, so that it comes from memory."""
        return max(1, -(-COLD // nbytes))


def make(name: str, case: Case) -> Contender:
    """A contender by name. Raises TileError where its result is wrong or it is unknown."""
    if name == "read":
        return contenders.make(name, case)
    if not isinstance(case, Point):
        raise TileError(f"{name}: expected a point of the sparse suite, not {case}")
    kind, _, rest = name.partition(" ")
    if kind == "tilec":
        return _ours(rest, case)
    if name not in PEERS:
        raise TileError(f"no contender is called {name!r}; there are {', '.join(PEERS)}")
    weight, x = case.weight(), _activations(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that CSR is in beta
        weights, size, call = PEERS[name](weight, x, case)
        _check(name, _rows(call(weights[0]), case), weight, x)
    return Contender([partial(call, w) for w in weights], size, case.operations)


def _rows(got: Any, case: Point) -> Array:
    """A result of numpy or torch as [M, N], which some give turned."""
    y = got.float().numpy() if hasattr(got, "float") else np.asarray(got)
    return y if y.shape == (case.m, case.n) else y.T


def _activations(case: Point) -> Array:
    """x[M, K] in f32, of numbers that are bf16s."""
    return case.activations().astype(np.float32)


def _check(name: str, got: Array, weight: Array, x: Array) -> None:
    want = x.astype(np.float64) @ weight.T.astype(np.float64)
    error = float(np.linalg.norm(got - want) / np.linalg.norm(want))
    if not error < WORST:
        raise TileError(f"{name} is wrong: its relative error is {error:.1e}")


def _ours(text: str, case: Point) -> Contender:
    weight, x = case.weight(), _activations(case)
    first = quantize(weight, text, search=False)
    element = "bf16" if "bf16" in text else "f32"
    given = x.astype(ml_dtypes.bfloat16) if element == "bf16" else x
    y = np.full((case.m, case.n), np.nan, np.float32)
    source = LINEAR.replace("FORMAT", str(first.format)).replace("ELEMENT", element)
    linear = Kernel(parse(source)["linear"])
    linear(given, first, y)
    _check(text, y, weight, x)
    weights = [first, *(copied(first) for _ in range(case.rotated(first.nbytes) - 1))]
    return Contender([partial(linear, given, w, y) for w in weights], first.nbytes, case.operations)


def copied(w: PackedTensor) -> PackedTensor:
    """The same tensor in other memory."""
    arrays: list[Array] = []
    for a in w.arrays:
        arrays.append(aligned(a.nbytes))
        arrays[-1][:] = a
    return PackedTensor(w.format, w.shape, w.layout, arrays)


Made = tuple[list[Any], int, Callable[[Any], Any]]


def _torch_dense(dtype: str, weight: Array, x: Array, case: Point) -> Made:
    import torch

    w = torch.from_numpy(weight).to(getattr(torch, dtype))
    given = torch.from_numpy(x).to(w.dtype)

    weights = [w, *(w.clone() for _ in range(case.rotated(w.nbytes) - 1))]
    return weights, w.nbytes, lambda w: torch.nn.functional.linear(given, w)


def _torch_sparse(layout: str, weight: Array, x: Array, case: Point) -> Made:
    import torch

    w = torch.from_numpy(weight)
    made = w.to_sparse_csr() if layout == "csr" else w.to_sparse_bsr((SIDE, SIDE))
    turned = torch.from_numpy(np.ascontiguousarray(x.T))
    size = sum(p.nbytes for p in (made.values(), made.crow_indices(), made.col_indices()))
    weights = [made, *(made.clone() for _ in range(case.rotated(size) - 1))]
    return weights, size, lambda w: w @ turned


def _scipy(layout: str, weight: Array, x: Array, case: Point) -> Made:
    from scipy import sparse  # pyright: ignore[reportMissingTypeStubs]

    made: Any = sparse.csr_array(weight)
    if layout == "bsr":
        made = sparse.bsr_array(made, blocksize=(SIDE, SIDE))
    turned = np.ascontiguousarray(x.T)
    size = made.data.nbytes + made.indices.nbytes + made.indptr.nbytes
    weights = [made, *(made.copy() for _ in range(case.rotated(size) - 1))]
    return weights, size, lambda w: w @ turned


PEERS: dict[str, Callable[[Array, Array, Point], Made]] = {
    "torch bf16": partial(_torch_dense, "bfloat16"),
    "torch f32": partial(_torch_dense, "float32"),
    "torch csr f32": partial(_torch_sparse, "csr"),
    "torch bsr f32": partial(_torch_sparse, "bsr"),
    "scipy csr f32": partial(_scipy, "csr"),
    "scipy bsr f32": partial(_scipy, "bsr"),
}
