"""One `linear` with weights in every format, executed from the PTX that Triton makes of its source.

Equal to a product in float64 with the values that the interpreter gives the elements, but for
where f32 rounds sums.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from emulated import far
from every_format import (
    DYNAMIC,
    EXPERTS,
    MADE,
    NO_ZEROS,
    TEXTS,
    elements,
    every,
    one,
    picked,
    routed,
    weight,
)
from lang import kernels

import tilec as tc
from tilec.ir.dtype import Array
from tilec.triton import triton_source

pytest.importorskip("triton")
from triton_ptx import multiplied

X = {1: np.float32, 16: np.float16, 64: ml_dtypes.bfloat16}  # by rows
FAST = [MADE["plus"][0], MADE["mixed"][1], "gptq", "mxfp4", "q2_k", "df11", "int8<group=60>"]
NEAR = 1e-6


def sample(*sizes: int) -> Array:
    """A normal sample in the dtype of its rows."""
    return np.random.default_rng(sizes).standard_normal(sizes).astype(X.get(sizes[-2], np.float32))


@pytest.mark.parametrize("rows", [pytest.param(m, marks=[] if m == 16 else pytest.mark.slow)
                                  for m in X])  # fmt: skip
@pytest.mark.parametrize("text", [pytest.param(t, marks=[] if t in FAST else pytest.mark.slow)
                                  for t in TEXTS])  # fmt: skip
def test_linear(text, rows):
    w = weight(text, 67)
    n, k = w.shape
    x = sample(rows, k)
    y = multiplied(kernels.linear, {"M": rows, "N": n, "K": k}, (rows, n), x=x, w=w)
    assert far(y, x.astype(float) @ w.dequantize().T.astype(float)) < NEAR


@pytest.mark.slow
@pytest.mark.parametrize("text", FAST[:4])
def test_linear_on_older_processors(text):
    w, x = weight(text, 67), sample(16, 300)
    dims = {"M": 16, "N": 67, "K": 300}
    y = multiplied(kernels.linear, dims, (16, 67), target="sm_80", x=x, w=w)
    assert far(y, x.astype(float) @ w.dequantize().T.astype(float)) < NEAR


@pytest.mark.slow
@pytest.mark.parametrize("text", [MADE["plus"][0], MADE["permuted"][0], "gptq", "nvfp4"])
def test_rows_that_a_launch_gives(text):
    """Memory between kernels has as many."""
    w, x = weight(text, 67), sample(16, 300)
    y = multiplied(kernels.linear, {"N": 67, "K": 300}, (16, 67), x=x, w=w, M=16)
    assert far(y, x.astype(float) @ w.dequantize().T.astype(float)) < NEAR


@pytest.mark.parametrize("text", [
    "plus<lowrank<8>, int4<group=128>>",
    pytest.param("mixed<10, int8<channel>, int4<group=128>>", marks=pytest.mark.slow),
    pytest.param("permuted<uint4<group=128, zero=int>>", marks=pytest.mark.slow),
    pytest.param("plus<outliers<5>, int2<group=128>>", marks=pytest.mark.slow),
])  # fmt: skip
def test_parts_lie_in_words(text):
    """Where rows are whole steps, the codes of a part are decoded as if it were alone."""
    w, x = tc.quantize(sample(67, 512), text, search=False), sample(16, 512)
    dims = {"M": 16, "N": 67, "K": 512}
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    assert triton_source(kernels.linear.definition, dims, types).orders
    y = multiplied(kernels.linear, dims, (16, 67), x=x, w=w)
    assert far(y, x.astype(float) @ w.dequantize().T.astype(float)) < NEAR


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS)
def test_elements(text):
    """Exactly what the interpreter gives them, but for sums of products in another order."""
    w = weight(text, 19)
    y = multiplied(elements, {"N": 19, "K": w.shape[1]}, w.shape, w=w)
    want = w.dequantize()
    assert far(y, want) < NEAR if "lowrank" in text else np.array_equal(y, want)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["gptq", "nvfp4", "q6_k", "fp8_block", *NO_ZEROS])
def test_rows_by_index(text):
    """Rows outside of the weight are zeros."""
    w, i = weight(text, 19), np.array([3, 0, 18, -1, 7, 19, 7], np.int32)
    y = multiplied(picked, {"N": 19, "K": w.shape[1], "P": 7}, (7, w.shape[1]), w=w, i=i)
    inside = (i >= 0) & (i < 19)
    assert np.array_equal(y, np.where(inside[:, None], w.dequantize()[i * inside], 0))


@pytest.mark.parametrize("text", [pytest.param(t, marks=[] if i == 0 else pytest.mark.slow)
                                  for i, t in enumerate(DYNAMIC)])  # fmt: skip
def test_rounded_by_the_kernel(text):
    """The first operand of a product is rounded in a kernel of its own."""
    w, x = weight("int8<channel, scale=f32>", 67), sample(16, 300).astype(np.float32)
    a = tc.dynamic(x, text)
    y = multiplied(kernels.linear, {"M": 16, "N": 67, "K": 300}, (16, 67), x=a, w=w)
    assert far(y, a.dequantize().astype(float) @ w.dequantize().T.astype(float)) < NEAR


@pytest.mark.slow
@pytest.mark.parametrize("text", EXPERTS)
def test_experts(text):
    """Every expert in its own format: all of them, those of each row, and one."""
    e, m, n, k = 5, 16, 67, 300
    rng = np.random.default_rng(e)
    w = tc.quantize(rng.standard_normal((e, n, k)), text, search=False)
    dense, ids = w.dequantize().astype(float), rng.integers(0, e, m).astype(np.int32)
    dims = {"E": e, "M": m, "N": n, "K": k}
    x = sample(e, m, k)
    y = multiplied(every, dims, (e, m, n), x=x, w=w)
    assert far(y, np.einsum("emk,enk->emn", x.astype(float), dense)) < NEAR
    x = sample(m, k)
    y = multiplied(routed, dims, (m, n), x=x, w=w, i=ids)
    assert far(y, np.einsum("mk,mnk->mn", x.astype(float), dense[ids])) < NEAR
    y = multiplied(one, dims, (m, n), x=x, w=w, i=3)
    assert far(y, x.astype(float) @ dense[3].T) < NEAR
