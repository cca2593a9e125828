"""Codes of rows that indices pick, beside codes: multiplied as they are, rows with scales."""

from __future__ import annotations

import numpy as np
import pytest
from products import gathered

import tilec as tc
from tilec.ir.named import named
from tilec.ir.ops import reduce
from tilec.passes import parse_pipeline, run


@pytest.mark.parametrize(("x", "w"), [
    ("int8<channel, scale=f32>", "int8<channel, scale=f32>"),
    ("int8<channel, scale=f32>", "int4<group=32>"),
    ("e4m3<channel, scale=f32>", "e4m3<channel, scale=f32>"),
])  # fmt: skip
def test_gathered_codes(x: str, w: str):
    """An index outside of the memory reads a row of 0."""
    func = gathered.ir(x=named(x), w=named(w), y=tc.f32)
    lowered = run(parse_pipeline("specialise{M=50 R=90 N=40 K=160},tile,lower-formats"), func)
    dots = [op for op in lowered.walk() if isinstance(op, reduce.Dot)]
    assert dots
    assert all(op.scale is not None and op.row_scale is not None for op in dots)
    rng = np.random.default_rng(len(w))
    rows, columns = (
        tc.quantize(rng.standard_normal((n, 160)).astype(np.float32), f, search=False)
        for n, f in ((50, x), (40, w))
    )
    at = rng.integers(-2, 53, 90).astype(np.int32)
    inside = (at >= 0) & (at < 50)
    y = np.full((90, 40), np.nan, np.float32)
    gathered(rows, at, columns, y)
    picked = rows.dequantize().astype(float)[np.clip(at, 0, 49)] * inside[:, None]
    want = picked @ columns.dequantize().astype(float).T
    assert np.linalg.norm(y - want) < 1e-6 * np.linalg.norm(want)
    assert not y[~inside].any()
