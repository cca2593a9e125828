"""Sparse operands through the Triton back end, executed from PTX."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels
from launches import Case, on_triton
from sparse_formats import TEXTS, weight
from sparse_kernels import CASES, normal

pytest.importorskip("triton")

SLOW = pytest.mark.slow
FEW = ("nm<2, 4, f16>", "block<16, 48, f32>")
QUICK = ("decode paged<16, f16>", "block<16, 16, bool> at 0.4")


@pytest.mark.parametrize("rows", [16, pytest.param(1, marks=SLOW)])
@pytest.mark.parametrize("text", [t if t in FEW else pytest.param(t, marks=SLOW) for t in TEXTS])
def test_linear(text, rows):
    w = weight(text, 67)
    x = normal(rows, w.shape[1]).astype(np.float16)
    want = x.astype(float) @ w.dequantize().T.astype(float)
    on_triton(Case(text, kernels.linear, {"x": x, "w": w}, {"y": want}, 1e-6))


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=SLOW) for n in CASES])
def test_rows_by_tables_and_masks(name):
    on_triton(CASES[name])
