"""One `linear` with weights in every format, through the CUDA back end under emulation.

Equal to a product in float64 with the values that the interpreter gives the elements, but for
where f32 rounds sums.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from emulated import Given, far, poisoned, program_of, run
from lang import kernels

import tilec as tc
from tilec.bench.formats import names
from tilec.compile import Kernel
from tilec.cuda import Schedule, cuda_program
from tilec.ir.codes import CODES
from tilec.ir.dtype import Array, of_numpy
from tilec.ir.named import COMPOSED
from tilec.passes import parse_pipeline
from tilec.passes import run as passes
from tilec.runtime.tensor import PackedTensor

# An operand of each kind of format that is made of others, or is no code times a scale.
MADE = {
    "plus": ["plus<lowrank<8>, int4<group=64>>", "plus<outliers<5>, int2<group=64>>",
             "plus<codebook<6, vector=8>, codebook<6, vector=8>>", "plus<lowrank<4>, outliers<3>>"],
    "mixed": ["mixed<10, int8<channel>, int4<group=64>>",
              "mixed<4, plus<lowrank<8>, int4<group=64>>, nvfp4>"],
    "permuted": ["permuted<uint4<group=32, zero=int>>",
                 "permuted<plus<lowrank<8>, int4<group=64>>>"],
    "lowrank": ["lowrank<8>", "lowrank<5, bf16>"],
    "outliers": ["outliers<5>"],
    "grid": ["grid<8, 256, 32, even>", "grid<4, 512, 32, each>",
             "grid<8, 2048, 32, none, u3, 32>"],
    "seedlm": ["seedlm<8, 3>"],
    "bitstack": ["bitstack<3, 2>"],
    "coded": ["coded<f16>", "coded<bf16, 4>"],
    "planes": ["planes<uint6<group=32>, 4, 2>", "planes<q4_k, 3, 1>"],
    "codebook": ["codebook<6, vector=8>", "codebook<10, vector=4>",
                 "codebook<4, rows=1, group=60>"],
}  # fmt: skip
EXPERTS = ["experts<2, int4<group=64>, int2<group=32>>", "experts<q4_k>",
           "experts<1, int8, 2, uint4<group=64, zero=int>, int2<channel>>",
           "experts<3, int4<group=96>, plus<lowrank<3>, int4<group=64>>>",
           "experts<1, permuted<int4<group=32>>, fp8_block>",
           "experts<2, codebook<4, rows=1>, nvfp4>"]  # fmt: skip
DYNAMIC = ["int8<channel, scale=f32>", "e4m3<group=60, scale=f32>", "int4<channel, scale=f32>"]
UNEVEN = ["int8<group=60>", "int4<group=40>", "int2<group=80>", "e4m3<group=24>"]  # no powers of 2
NO_ZEROS = ["bitnet", "nf4<tensor>", "iq4<tensor>", "bipolar3<tensor>"]  # code 0 is not 0
DENSE = ["f32", "f16", "bf16", "e4m3", "e5m2"]
BESIDE_SCALES = ["e4m3", "e5m2", *(name for name in CODES if name != "e8m0")]
ELEMENTS = [*DENSE, *(f"{name}<group=32, scale=f32>" for name in BESIDE_SCALES)]
TEXTS = [*names(), *(text for texts in MADE.values() for text in texts), *UNEVEN, *ELEMENTS]
X = {1: np.float32, 16: ml_dtypes.bfloat16, 64: np.float16, 200: ml_dtypes.bfloat16}  # by rows
NEAR = 1e-6
ALWAYS = ["uint4", "gptq", "mxfp4", "nvfp4", "q2_k", "qlora", "df11", "fp6_llm", "squeezellm",
          MADE["plus"][0], MADE["mixed"][1], MADE["permuted"][0], MADE["grid"][0], "seedlm<8, 3>",
          "bitstack<3, 2>", "nf4<group=32, scale=f32>", "int8<group=60>"]  # fmt: skip


@tc.kernel
def every(x: tc.Tensor["E", "M", "K"], w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "M", "N"]):
    for e, m, n in tc.tiles("E", "M", "N", block=(1, None, None)):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[e.start, m, k], w[e.start, n, k].T)
        y[e.start, m, n] = acc


@tc.kernel
def routed(x: tc.Tensor["M", "K"], w: tc.Tensor["E", "N", "K"], i: tc.Tensor["M", tc.i32],
           y: tc.Tensor["M", "N"]):  # fmt: skip
    for m, n in tc.tiles("M", "N", block=(1, None)):
        e = i[m.start]
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[e, n, k].T)
        y[m, n] = acc


@tc.kernel
def one(x: tc.Tensor["M", "K"], w: tc.Tensor["E", "N", "K"], i: tc.i32, y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[m, k], w[i, n, k].T)
        y[m, n] = acc


@tc.kernel
def elements(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k].to(tc.f32)


@tc.kernel
def picked(w: tc.Tensor["N", "K"], i: tc.Tensor["P", tc.i32], y: tc.Tensor["P", "K"]):
    for p in tc.tiles("P"):
        y[p, :] = w[i[p], :].to(tc.f32)


def weight(text: str, n: int) -> PackedTensor:
    """A normal sample in a format. Of few are 300 columns whole groups; those of a grid must be."""
    k = 512 if text in MADE["grid"] else 480 if text in UNEVEN else 300
    return tc.quantize(np.random.default_rng(n).standard_normal((n, k)), text, search=False)


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
    assert set(MADE) | {"experts", "dynamic"} == set(COMPOSED)
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
