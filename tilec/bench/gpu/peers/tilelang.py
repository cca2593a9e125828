"""A dense product in TileLang, as its README has it. Not run so far."""

# The library is typed loosely.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportUnknownLambdaType=false, reportInvalidTypeForm=false

from __future__ import annotations

import importlib
from typing import Any

from tilec.bench.gpu.contender import Contender, theirs
from tilec.bench.gpu.held import Operands


def dense(o: Operands) -> Contender:
    """128 x 256 x 64, two warp groups."""
    library: Any = importlib.import_module("tilelang")
    language: Any = importlib.import_module("tilelang.language")
    x, w = o.dense("x", "bfloat16"), o.dense("w", "bfloat16")
    run = library.compile(_kernel(language, len(x), len(w), x.shape[1]), out_idx=[-1])
    return theirs(o, "tilelang", "y", [lambda: run(x, w)])


def _kernel(T: Any, m: int, n: int, k: int) -> Any:
    """The kernel, which TileLang reads from its source."""
    rows, columns, depth = 128, 256, 64

    @T.prim_func
    def main(
        x: T.Tensor((m, k), "bfloat16"), w: T.Tensor((n, k), "bfloat16"),
        y: T.Tensor((m, n), "bfloat16"),
    ):  # fmt: skip
        with T.Kernel(T.ceildiv(n, columns), T.ceildiv(m, rows), threads=256) as (i, j):
            left = T.alloc_shared((rows, depth), "bfloat16")
            right = T.alloc_shared((columns, depth), "bfloat16")
            total = T.alloc_fragment((rows, columns), "float32")
            T.clear(total)
            for step in T.Pipelined(T.ceildiv(k, depth), num_stages=3):
                T.copy(x[j * rows, step * depth], left)
                T.copy(w[i * columns, step * depth], right)
                T.gemm(left, right, total, transpose_B=True)
            T.copy(total, y[j * rows, i * columns])

    return main
