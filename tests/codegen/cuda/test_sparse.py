"""Sparse operands through the CUDA back end under emulation: no check may find anything."""

from __future__ import annotations

import numpy as np
import pytest
from lang import kernels
from launches import Case, on_cuda
from sparse_formats import FEW, TEXTS, weight
from sparse_kernels import CASES, QUICK, normal

SLOW = pytest.mark.slow


@pytest.mark.parametrize("rows", [16, pytest.param(1, marks=SLOW), pytest.param(70, marks=SLOW)])
@pytest.mark.parametrize("text", [t if t in FEW else pytest.param(t, marks=SLOW) for t in TEXTS])
def test_linear(text, rows):
    w = weight(text, 67)
    x = normal(rows, w.shape[1]).astype(np.float16)
    want = x.astype(float) @ w.dequantize().T.astype(float)
    on_cuda(Case(text, kernels.linear, {"x": x, "w": w}, {"y": want}, 1e-6))


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=SLOW) for n in CASES])
def test_rows_by_tables_and_masks(name):
    on_cuda(CASES[name])
