"""One `linear` with weights in every format, through the CUDA back end under emulation.

Equal to a product in float64 with the values that the interpreter gives the elements, but for
where f32 rounds sums.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from emulated import Given, far, poisoned, program_of, run
from every_format import (
    DYNAMIC,
    EXPERTS,
    MADE,
    NO_ZEROS,
    TEXTS,
    UNEVEN,
    elements,
    every,
    one,
    picked,
    routed,
    weight,
)
from lang import kernels
from sparse_formats import BY_TABLES, DENSE_VALUES

import tilec as tc
from tilec.compile import Kernel
from tilec.cuda import Schedule, cuda_program
from tilec.ir.dtype import Array, of_numpy
from tilec.ir.named import COMPOSED
from tilec.passes import parse_pipeline
from tilec.passes import run as passes
from tilec.runtime.tensor import PackedTensor

X = {1: np.float32, 16: ml_dtypes.bfloat16, 64: np.float16, 200: ml_dtypes.bfloat16}  # by rows
NEAR = 1e-6
ALWAYS = ["uint4", "gptq", "mxfp4", "nvfp4", "q2_k", "qlora", "df11", "fp6_llm", "squeezellm",
          MADE["plus"][0], MADE["mixed"][1], MADE["permuted"][0], MADE["grid"][0], "seedlm<8, 3>",
          "bitstack<3, 2>", "nf4<group=32, scale=f32>", "int8<group=60>"]  # fmt: skip


def sample(*sizes: int) -> Array:
    """A normal sample in the dtype of its rows."""
    return np.random.default_rng(sizes).standard_normal(sizes).astype(X[sizes[-2]])


def multiplied(kernel: Kernel, dims: dict[str, int], size: tuple[int, ...],
               schedule: Schedule | None = None, **given: Given) -> Array:  # fmt: skip
    """What a kernel leaves in `y`."""
    types = {n: x.format if isinstance(x, PackedTensor) else of_numpy(np.asarray(x).dtype)
             for n, x in given.items()}  # fmt: skip
    y = poisoned(size, tc.f32)
    run(program_of(kernel, {**types, "y": tc.f32}, dims, schedule), {**given, "y": y})
    return y


def test_every_kind_of_format_is_here():
    elsewhere = {"experts", "dynamic", *DENSE_VALUES, *BY_TABLES}
    assert set(MADE) | elsewhere == set(COMPOSED)
    assert all(text.startswith(kind) for kind, texts in MADE.items() for text in texts)
    assert set(ALWAYS) <= set(TEXTS)


@pytest.mark.parametrize("rows", [pytest.param(m, marks=[] if m == 16 else pytest.mark.slow)
                                  for m in X])  # fmt: skip
@pytest.mark.parametrize("text", [pytest.param(t, marks=[] if t in ALWAYS else pytest.mark.slow)
                                  for t in TEXTS])  # fmt: skip
def test_linear(text, rows):
    w = weight(text, 67)
    n, k = w.shape
    x = sample(rows, k)
    y = multiplied(kernels.linear, {"M": rows, "N": n, "K": k}, (rows, n), x=x, w=w)
    assert far(y, x.astype(float) @ w.dequantize().T.astype(float)) < NEAR


@pytest.mark.parametrize("text", [pytest.param(t, marks=[] if t in ALWAYS[:9] else pytest.mark.slow)
                                  for t in TEXTS])  # fmt: skip
def test_elements(text):
    """Exactly what the interpreter gives them, but for sums of products."""
    w = weight(text, 19)
    y = multiplied(elements, {"N": 19, "K": w.shape[1]}, w.shape, w=w)
    want = w.dequantize()
    assert far(y, want) < NEAR if "lowrank" in text else np.array_equal(y, want)


@pytest.mark.parametrize("text", [pytest.param(t, marks=[] if t == "bitnet" else pytest.mark.slow)
                                  for t in ("gptq", "nvfp4", "q6_k", "fp8_block", *NO_ZEROS)]
                         )  # fmt: skip
def test_rows_by_index(text):
    """Rows outside of the weight are zeros."""
    w, i = weight(text, 19), np.array([3, 0, 18, -1, 7, 19, 7], np.int32)
    y = multiplied(picked, {"N": 19, "K": w.shape[1], "P": 7}, (7, w.shape[1]), w=w, i=i)
    inside = (i >= 0) & (i < 19)
    assert np.array_equal(y, np.where(inside[:, None], w.dequantize()[i * inside], 0))


@pytest.mark.parametrize("k", [304, 301])
@pytest.mark.parametrize("text", NO_ZEROS)
def test_codes_beyond_the_end_of_both_operands(text, k):
    """They take no part, whatever the bits mean that copies leave outside of memory."""
    rng = np.random.default_rng(k)
    x, w = (tc.quantize(rng.standard_normal((n, k)), text, search=False) for n in (16, 67))
    y = multiplied(kernels.linear, {"M": 16, "N": 67, "K": k}, (16, 67), x=x, w=w)
    assert far(y, x.dequantize().astype(float) @ w.dequantize().T.astype(float)) < NEAR


def test_what_no_pass_has_lowered_is_refused():
    steps = parse_pipeline("specialise{N=16 K=16},tile,pad,lay-out")
    func = passes(steps, elements.ir(w=tc.format("lowrank<2>"), y=tc.f32))
    with pytest.raises(tc.TileError, match=r"lowrank<2, f16>.* is not dense memory"):
        cuda_program(func)


@pytest.mark.parametrize("stages", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("tiles", [{"m": 24, "n": 24}, {"n": 40, "k": 48}], ids=str)
@pytest.mark.parametrize("text", [pytest.param(t, marks=[] if t == "int4" else pytest.mark.slow)
                                  for t in ("int4", *UNEVEN, "q4_k", "nvfp4")])  # fmt: skip
def test_tiles_that_are_padded(text, tiles, stages):
    """Steps that are no powers of two, and tiles that end where no other begins."""
    w, x = weight(text, 67), sample(64, 480 if text in UNEVEN else 300)
    dims = {"M": 64, "N": 67, "K": w.shape[1]}
    schedule = Schedule(stages=stages, tiles=tiles)
    y = multiplied(kernels.linear, dims, (64, 67), schedule, x=x, w=w)
    assert far(y, x.astype(float) @ w.dequantize().T.astype(float)) < NEAR


@pytest.mark.parametrize("rows", [pytest.param(m, marks=[] if m == 16 else pytest.mark.slow)
                                  for m in X])  # fmt: skip
@pytest.mark.parametrize("text", DYNAMIC)
def test_rounded_by_the_kernel(text, rows):
    """The first operand of a product is rounded in a grid of its own."""
    w = weight("int8<channel, scale=f32>", 67)
    n, k = w.shape
    x = sample(rows, k).astype(np.float32)
    a = tc.dynamic(x, text)
    y = multiplied(kernels.linear, {"M": rows, "N": n, "K": k}, (rows, n), x=a, w=w)
    assert far(y, a.dequantize().astype(float) @ w.dequantize().T.astype(float)) < NEAR


@pytest.mark.parametrize("text", [pytest.param(t, marks=[] if i == 0 else pytest.mark.slow)
                                  for i, t in enumerate(EXPERTS)])  # fmt: skip
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
