"""Launches of `tilec.ops.ranking`, small enough for emulation."""

from __future__ import annotations

import numpy as np
from launches import Case
from op_launches import f32

from tilec.ir.dtype import Array
from tilec.ops import ranking


def ranked(name: str, x: Array, count: int) -> Case:
    """The largest of rows; of equal ones the first."""
    z = x.astype(np.float64)
    e = np.exp(z - z.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    places = np.argsort(-z, axis=1, kind="stable")[:, :count].astype(np.int32)
    values = np.take_along_axis(p, places, 1)
    want = {"values": values, "places": np.where(values > 0, places, -1).astype(np.int32)}
    return Case(name, ranking.softmax_top, {"x": x}, want, 2e-6)


CASES = {
    c.name: c
    for c in (
        ranked("any order", f32(5, 150), 7),
        ranked("few numbers", np.rint(f32(5, 150) * 2), 6),
        ranked("rising", np.sort(f32(3, 90), axis=1), 4),
        ranked("all equal", np.ones((3, 70), np.float32), 5),
        ranked("one", f32(5, 70, seed=1), 1),
        ranked("some are -inf", np.where(f32(4, 70) > 1, f32(4, 70), -np.inf), 9),
    )
}  # fmt: skip
