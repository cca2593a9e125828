"""Kernels of products that read their operands in several ways, with data of whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from lang.kernels import linear

import tilec as tc
from tilec.compile import Kernel
from tilec.ir.dtype import Array, DType


@tc.kernel
def row_by_row(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    """A task makes all tiles of its rows, one after the other."""
    for m in tc.tiles("M"):
        for n in tc.tiles("N"):
            acc = tc.zeros((m, n), tc.f32)
            for k in tc.tiles("K"):
                acc += tc.dot(x[m, k], w[n, k].T)
            y[m, n] = acc


@tc.kernel
def upright(x: tc.Tensor["M", "K"], w: tc.Tensor["K", "N"], y: tc.Tensor["M", "N"]):
    """The second operand lies the other way."""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[k, n])
        y[m, n] = acc


@tc.kernel
def ragged(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], ends: tc.Tensor["B", tc.i32],
           y: tc.Tensor["M", "N"]):  # fmt: skip
    """Only the first of the columns take part."""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K", to=ends[0]):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@tc.kernel
def picked(x: tc.Tensor["M", "K"], w: tc.Tensor["E", "N", "K"], which: tc.Tensor["B", tc.i32],
           y: tc.Tensor["M", "N"]):  # fmt: skip
    """A number says which of several second operands takes part."""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[which[0], n, k].T)
        y[m, n] = acc


@tc.kernel
def twice(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    """Two loops, one after the other."""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        less = tc.zeros((m, n), tc.f32)
        for j in tc.tiles("K"):
            less += tc.dot(x[m, j], w[n, j].T)
        y[m, n] = acc * 3.0 - less


@tc.kernel
def attention(q: tc.Tensor["M", "D"], k: tc.Tensor["N", "D"], v: tc.Tensor["N", "D"],
              y: tc.Tensor["M", "D"]):  # fmt: skip
    """One pass over k and v (Dao et al., arXiv 2205.14135)."""
    for m in tc.tiles("M"):
        best = tc.full((m,), -1e30, tc.f32)
        total = tc.zeros((m,), tc.f32)
        acc = tc.zeros((m, "D"), tc.f32)
        for n in tc.tiles("N"):
            s = tc.dot(q[m, :], k[n, :].T) * 0.125
            new = tc.maximum(best, tc.max(s, axis=1))
            p = tc.exp(s - new[:, None])
            keep = tc.exp(best - new)
            total = total * keep + tc.sum(p, axis=1)
            acc = tc.dot(tc.cast(p, tc.bf16), v[n, :], acc * keep[:, None])
            best = new
        y[m, :] = acc / total[:, None]


@tc.kernel
def gathered(x: tc.Tensor["M", "K"], at: tc.Tensor["R", tc.i32], w: tc.Tensor["N", "K"],
             y: tc.Tensor["R", "N"]):  # fmt: skip
    """Row r of the result is of row at[r] of x."""
    for r, n in tc.tiles("R", "N"):
        rows = at[r]
        acc = tc.zeros((r, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[rows, k], w[n, k].T)
        y[r, n] = acc


@dataclass(frozen=True)
class Product:
    """A kernel, and its result on operands and where their columns end."""

    kernel: Kernel
    result: Callable[[Array, Array, int], Array]
    upright: bool = False  # the second operand is [K, N]
    ends: bool = False
    picked: bool = False  # it is one of three [N, K]

    def arguments(self, m: int, n: int, k: int, t: DType, seed: int = 0
                  ) -> tuple[dict[str, Array], Array]:  # fmt: skip
        """Arrays as they lie in memory, and the result: exact, so whatever the order of sums."""
        rng = np.random.default_rng(seed)
        x, w = (rng.integers(-4, 5, s).astype(t.numpy) for s in ((m, k), (n, k)))
        end = int(rng.integers(1, k + 1))
        given: dict[str, Array] = {"x": x, "w": np.ascontiguousarray(w.T) if self.upright else w}
        if self.ends:
            given["ends"] = np.array([end], np.int32)
        if self.picked:
            given |= {"w": np.stack([w + w, w, -w]), "which": np.array([1], np.int32)}
        return given, self.result(x.astype(np.float64), w.astype(np.float64), end)

    def dims(self, m: int, n: int, k: int) -> dict[str, int]:
        """The dimensions of the kernel's parameters."""
        beside = {"B": 1} if self.ends or self.picked else {}
        return {"M": m, "N": n, "K": k} | beside | ({"E": 3} if self.picked else {})

    def types(self, t: DType) -> dict[str, DType]:
        """The types of its parameters."""
        return {"x": t, "w": t, "y": tc.f32}


PRODUCTS = {
    "linear": Product(linear, lambda x, w, _: x @ w.T),
    "row_by_row": Product(row_by_row, lambda x, w, _: x @ w.T),
    "upright": Product(upright, lambda x, w, _: x @ w.T, upright=True),
    "ragged": Product(ragged, lambda x, w, end: x[:, :end] @ w[:, :end].T, ends=True),
    "picked": Product(picked, lambda x, w, _: x @ w.T, picked=True),
    "twice": Product(twice, lambda x, w, _: 2 * (x @ w.T)),
}
