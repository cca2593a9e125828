"""Coded exponents in compiled code: the bits of every element, and products equal to dense ones."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from lang import kernels

import tilec as tc
from tilec.compile import cpu_source
from tilec.ir.coded import Coded, fitted, of_bits
from tilec.ir.dtype import DType, bf16, f16, f32
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.tensor import PackedTensor, packed

STORED = {bf16: ml_dtypes.bfloat16, f16: np.float16, f32: np.float32}
ELEMENTS = pytest.mark.parametrize("t", STORED, ids=str)


@tc.kernel
def copied(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k]


@tc.kernel
def stacked(w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "N", "K"]):
    for e, n in tc.tiles("E", "N"):
        y[e, n, :] = w[e, n, :]


@tc.kernel
def picked(w: tc.Tensor["N", "K"], i: tc.Tensor["P"], y: tc.Tensor["P"]):
    for p in tc.tiles("P"):
        y[p] = w[i[p], i[p]]


def patterns(x: np.ndarray) -> np.ndarray:
    """The bits of floats."""
    return x.view(f"u{x.itemsize}")


def sample(t: DType, n: int = 131, k: int = 1301) -> tuple[np.ndarray, PackedTensor]:
    """A normal sample with odd sides, -0 and subnormals, dense and coded."""
    x = np.random.default_rng(n).standard_normal((n, k)).astype(STORED[t])
    x[::7, ::11], x[::5, ::13] = -0.0, np.array(3, f"u{x.itemsize}").view(x.dtype)
    format = fitted(patterns(x), t)
    assert format.escape in packed(format, of_bits(format, patterns(x)), x.shape).parts()["codes"]
    return x, packed(format, of_bits(format, patterns(x)), x.shape)


@ELEMENTS
def test_every_pattern_decodes_to_itself(t):
    """Infinities and NaNs too; those of f16 are one, as they are of dense tensors."""
    rng = np.random.default_rng(0)
    x = rng.permutation(np.arange(1 << 16, dtype=np.uint16)).reshape(64, -1) if t.bits == 16 else \
        rng.integers(0, 1 << 32, (60, 1101), np.uint32)  # fmt: skip
    for format in (fitted(x, t), Coded(t, t.exponent, 1024)):
        y = np.zeros(x.shape, STORED[t])
        copied(packed(format, of_bits(format, x), x.shape), y)
        if t == f16:
            nan = x & 0x7FFF > 0x7C00
            assert np.isnan(y[nan]).all()
            y[nan] = x.view(STORED[t])[nan]
        np.testing.assert_array_equal(patterns(y), x)


@pytest.fixture(scope="module", params=["x86-64-v2", "x86-64-v3"])
def older(request: pytest.FixtureRequest) -> Engine:
    """Vectors of 128 bits and of 256."""
    return Engine(Cache(None), host_machine(request.param, "+avx2,+fma" * ("v3" in request.param)))


@ELEMENTS
def test_on_processors_with_less(older, t):
    x, w = sample(t, 20)
    y = np.zeros(x.shape, x.dtype)
    types, dims = {"w": w.format, "y": t}, {"N": 20, "K": 1301}
    compiled = older.load(cpu_source(copied.definition, types, dims, host=older))
    older.dispatcher("copied", lambda _, c=compiled: c).launch(w, y)
    np.testing.assert_array_equal(patterns(y), patterns(x))


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32], ids=["bf16", "f32"])
@ELEMENTS
def test_a_linear_layer_is_the_dense_one(t, dtype, rows):
    """Equal to the bit, not only near: the same products are added in the same order."""
    x, w = sample(t)
    a = np.random.default_rng(rows).standard_normal((rows, 1301)).astype(dtype)
    coded, dense = np.full((2, rows, 131), np.nan, np.float32)
    kernels.linear(a, w, coded)
    kernels.linear(a, x, dense)
    np.testing.assert_array_equal(coded, dense)
    want = a.astype(float) @ x.astype(float).T
    assert np.linalg.norm(coded - want) < 3e-6 * np.linalg.norm(want)


@ELEMENTS
def test_one_hot_activations_give_the_elements_back(t):
    x, w = sample(t)
    for first in range(0, 1301, 100):
        a = np.eye(1301, dtype=np.float32)[first : first + 100 : 3].copy()
        y = np.full((len(a), 131), np.nan, np.float32)
        kernels.linear(a, w, y)
        np.testing.assert_array_equal(y, x.T[first : first + 100 : 3].astype(np.float32))


def test_tensors_of_three_dimensions():
    x = np.random.default_rng(0).standard_normal((3, 20, 1100)).astype(np.float16)
    w = packed(Coded(f16), of_bits(Coded(f16), patterns(x)), x.shape)
    y = np.zeros(x.shape, np.float16)
    stacked(w, y)
    np.testing.assert_array_equal(patterns(y), patterns(x))


def test_part_of_rows_of_two_widths():
    """As f32, coded elements are rows beside others; they are exact."""
    x = np.random.default_rng(0).standard_normal((40, 300)).astype(np.float32)
    w = tc.quantize(x, "mixed<4, coded<f32>, int8<group=32>>")
    y = np.full(x.shape, np.nan, np.float32)
    copied(w, y)
    np.testing.assert_array_equal(y, w.dequantize())
    rows = w.parts()["0.rows"]
    np.testing.assert_array_equal(y[rows], x[rows])


def test_what_is_read_by_index_has_no_code():
    y, i = np.zeros(3, np.float32), np.zeros(3, np.int32)
    with pytest.raises(tc.TileError, match="is read by tiles of rows and columns, not by index"):
        picked(sample(f32)[1], i, y)
