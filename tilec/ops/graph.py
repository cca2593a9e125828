"""Graphs as rows of neighbours (CSR): steps over frontiers, and products of two of them.

The edges of node n are start[n] to start[n + 1], each with a `column` and a `value`.
"""

# The names in a kernel have types of the language; a dtype annotates a number.
# pyright: basic, reportInvalidTypeForm=false

import math
from typing import Any

import numpy as np

import tilec as tc
from tilec.ir.dtype import Array
from tilec.ir.sparse import Csr
from tilec.runtime.sparse import of_csr


@tc.kernel
def relax(
    start: tc.Tensor["R", tc.i32], column: tc.Tensor["L", tc.i32], value: tc.Tensor["L"],
    x: tc.Tensor["N"], y: tc.Tensor["M"],
):  # fmt: skip
    """y[m] = min(value[i] + x[column[i]]) over the edges i of m: (min, +), a step of Bellman-Ford.

    A node without edges gives infinity.
    """
    for m in tc.tiles("M", block=1):
        stop = start[m.start + 1]
        best = tc.full((), math.inf)
        for first in range(start[m.start], stop, 64):
            at = first + tc.arange(64)
            there = at < stop
            at = tc.where(there, at, -1)
            sums = value[at].to(tc.f32) + x[column[at]].to(tc.f32)
            best = tc.minimum(best, tc.min(tc.where(there, sums, math.inf), axis=0))
        y[m] = best


@tc.kernel
def reach(
    start: tc.Tensor["R", tc.i32], column: tc.Tensor["L", tc.i32], frontier: tc.Tensor["N", tc.i32],
    seen: tc.Tensor["M", tc.i32], y: tc.Tensor["M", tc.i32],
):  # fmt: skip
    """y[m] = 1 where m is not `seen` and has an edge into the frontier: (or, and), a step of a
    breadth-first search."""
    for m in tc.tiles("M", block=1):
        stop = start[m.start + 1]
        found = tc.full((), 0, tc.i32)
        for first in range(start[m.start], stop, 64):
            at = first + tc.arange(64)
            there = at < stop
            node = column[tc.where(there, at, -1)]
            found = tc.maximum(found, tc.max(tc.where(there, frontier[node], 0), axis=0))
        y[m] = tc.where(seen[m] == 0, found, 0)


@tc.kernel
def rows_of_product(
    start_a: tc.Tensor["R", tc.i32], column_a: tc.Tensor["L", tc.i32], value_a: tc.Tensor["L"],
    start_b: tc.Tensor["Q", tc.i32], column_b: tc.Tensor["P", tc.i32], value_b: tc.Tensor["P"],
    first: tc.i32, y: tc.Tensor["M", "N"],
):  # fmt: skip
    """y[m] += sum(value_a[i] * b[column_a[i]]) over row first + m of a: row by row (Gustavson)."""
    for m in tc.tiles("M", block=1):
        row = first + m.start
        for i in range(start_a[row], start_a[row + 1]):
            scale = value_a[i]
            stop = start_b[column_a[i] + 1]
            for left in range(start_b[column_a[i]], stop, 64):
                at = left + tc.arange(64)
                at = tc.where(at < stop, at, -1)
                node = tc.where(at >= 0, column_b[at], -1)
                y[m.start, node] += scale * value_b[at]


def spgemm(a: tc.PackedTensor, b: tc.PackedTensor, *, rows: int = 256) -> tc.PackedTensor:
    """a[M, K] @ b[K, N] of two matrices in CSR, in CSR with values in f32.

    `rows` of the result are summed at a time, in a buffer [rows, N]; sums that are 0 are not
    stored. Raises TileError for other formats and shapes.
    """
    left, right = (_arrays(x) for x in (a, b))
    if a.shape[1] != b.shape[0]:
        raise tc.TileError(f"spgemm: the columns of {list(a.shape)} are not the rows of "
                           f"{list(b.shape)}")  # fmt: skip
    counts, columns, values = list[Array](), list[Array](), list[Array]()
    for first in range(0, a.shape[0], rows):
        buffer = np.zeros((min(rows, a.shape[0] - first), b.shape[1]), np.float32)
        rows_of_product(*left, *right, first, buffer)
        row, column = np.nonzero(buffer)
        counts.append(np.bincount(row, minlength=len(buffer)))
        columns.append(column.astype(np.int32))
        values.append(buffer[row, column])
    start = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int32)
    shape = (a.shape[0], b.shape[1])
    return of_csr(start, np.concatenate(columns), np.concatenate(values), shape)


def _arrays(x: Any) -> tuple[Array, Array, Array]:
    """The starts, columns and values of a matrix in CSR."""
    if not isinstance(x, tc.PackedTensor) or not isinstance(x.format, Csr):
        raise tc.TileError(f"spgemm: expected matrices in csr, not {x!r}")
    parts = x.parts()
    values = x.format.inner_values(parts, x.shape).reshape(-1).astype(np.float32)
    return parts["start"].astype(np.int32), parts["column"].astype(np.int32), values
