"""Products of 2:4 operands of whole numbers, and what they must give."""

# A dtype is an object, and annotates a number here.
# pyright: reportInvalidTypeForm=false

from __future__ import annotations

import numpy as np
from emulated import poisoned, program_of, run
from lang import kernels

import tilec as tc
from tilec.cuda import Program, Schedule
from tilec.ir.dtype import Array
from tilec.runtime.tensor import PackedTensor


@tc.kernel
def counting(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.i32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


def counted(t: str, *shape: int) -> Array:
    """Small whole numbers, in a dtype."""
    rng = np.random.default_rng(list(shape))
    return rng.integers(-4, 5, shape).astype(getattr(tc, t).numpy)


def pruned(text: str, *shape: int) -> PackedTensor:
    """Small whole numbers in a format: of every four the largest two, which lie anywhere."""
    return tc.quantize(counted("f32", *shape).astype(float), text, search=False)


def product(text: str, x: str, dims: tuple[int, int, int], schedule: Schedule | None = None,
            **tiles: int) -> Program:  # fmt: skip
    """x[m, k] w[n, k] for dims m, n and k."""
    kernel, out = (counting, tc.i32) if x in ("i8", "u8") else (kernels.linear, tc.f32)
    types = {"x": getattr(tc, x), "w": pruned(text, 1, 4).format, "y": out}
    return program_of(kernel, types, dict(zip("MNK", dims, strict=True)), schedule, **tiles)


def exact(text: str, x: str, dims: tuple[int, int, int], schedule: Schedule | None = None,
          native: bool = True, **tiles: int) -> Program:  # fmt: skip
    """The same, run with every check on, and equal to the bit."""
    program = product(text, x, dims, schedule, **tiles)
    assert ("mma_sp<" in program.source.text) == native
    (m, n, k), w = dims, pruned(text, *dims[1:])
    a, y = counted(x, m, k), poisoned((m, n), tc.i32 if x in ("i8", "u8") else tc.f32)
    run(program, {"x": a, "w": w, "y": y})
    assert np.array_equal(y, a.astype(float) @ w.dequantize().astype(float).T)
    return program
