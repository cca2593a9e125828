"""Launches of `tilec.ops.ranking`, small enough for emulation."""

from __future__ import annotations

import numpy as np
from launches import Case
from op_launches import f32

import tilec as tc
from tilec.ir.dtype import Array, of_numpy
from tilec.ops import ranking
from tilec.program import Program


def best(name: str, program: Program, x: Array, of: Array, count: int, near: float = 2e-6) -> Case:
    """The largest of rows of `of`; of equal ones in x the first."""
    order = np.argsort(-x.astype(np.float64), axis=1, kind="stable")[:, :count]
    places, values = order.astype(np.int32), np.take_along_axis(of, order, 1)
    t = of_numpy(x.dtype)
    kernel = program.kernel(x=t, values=t, places=tc.i32)
    values = values if t == tc.f32 else t.to_storage(t.round(values))
    return Case(name, kernel, {"x": x}, {"values": values, "places": places}, near)


def softmax(x: Array) -> Array:
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def ranked(name: str, x: Array, count: int, near: float = 2e-6) -> Case:
    """The largest of softmax(x)."""
    return best(name, ranking.softmax_top, x, softmax(x), count, near)


def shared(name: str, x: Array, count: int) -> Case:
    """As shares of their sum."""
    p = softmax(x)
    total = -np.sort(-p, axis=1)[:, :count].sum(1, keepdims=True)
    return best(name, ranking.shares, x, p / total, count)


WHOLE = np.random.default_rng(5).integers(-4, 5, (3, 300))

CASES = {
    c.name: c
    for c in (
        ranked("any order", f32(5, 600), 7),
        ranked("few numbers", np.rint(f32(5, 300) * 2), 6),
        ranked("rising", np.sort(f32(3, 290), axis=1), 4),
        ranked("all equal", np.ones((3, 270), np.float32), 5),
        ranked("one", f32(5, 70, seed=1), 1),
        ranked("some are -inf", np.where(f32(4, 70) > 1, f32(4, 70), -np.inf), 9),
        ranked("f16", f32(3, 70).astype(np.float16), 6, 1e-3),
        shared("shares", f32(4, 280), 8),
        best("whole numbers", ranking.largest, WHOLE.astype(np.int32), WHOLE, 9, 0.0),
        best("bytes", ranking.largest, WHOLE.astype(np.int8), WHOLE, 3, 0.0),
        best("no softmax", ranking.largest, f32(3, 270), f32(3, 270).astype(np.float64), 33, 1e-9),
    )
}  # fmt: skip
