"""Scaled operands in compiled code: every code, both layouts, and one `linear` for every format."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from formats import random_parts, scaled, zeros_of
from lang import kernels

import tilec as tc
from tilec.compile import Kernel, cpu_source
from tilec.ir.dtype import Array, DType
from tilec.ir.interpret import interpret
from tilec.ir.named import QUANTISED
from tilec.ir.packing import Layout, Plain
from tilec.ir.stream import Stream
from tilec.lang.text import parse
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.tensor import PackedTensor, packed

NAMES = sorted(QUANTISED)
LAYOUTS = (Plain(), Stream())
FEATURES = {
    "x86-64-v2": "",
    "x86-64-v3": "+avx2,+fma",
    "skylake-avx512": "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512dq",
}
ROWS = (1, 3, 16, 65, 256)
TEXT = """
kernel linear(x: f32[M, K], w: %s[N, K], y: f32[M, N]) {
  for m, n in tiles(M, N) {
    acc = zeros(f32, [m, n])
    for k in tiles(K) { acc += dot(x[m, k], w[n, k].T) }
    y[m, n] = acc
  }
}
"""


@tc.kernel
def decoded(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k]


@tc.kernel
def gathered(w: tc.Tensor["N", "K"], i: tc.Tensor["P"], j: tc.Tensor["P"], y: tc.Tensor["P"],
             z: tc.Tensor["P", "K"]):  # fmt: skip
    for p in tc.tiles("P"):
        y[p] = w[i[p], j[p]]
        z[p, :] = w[i[p], :]


def random_tensor(text: str, n: int, k: int, layout: Layout | None, exact: bool) -> PackedTensor:
    """Random codes, scales and zeros of a format (see random_parts)."""
    format = scaled(text)
    return packed(format, random_parts(format, (n, k), exact), (n, k), layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["plain", "stream"])
@pytest.mark.parametrize("name", NAMES)
def test_every_code_decodes_to_its_value(name, layout):
    """256 x 40 random codes hold every code at many places; the result is exact."""
    blocks = ("group=32", "channel", "tensor", "group=24", "group=48")
    for zero, block in zip(zeros_of(name), blocks, strict=False):
        w = random_tensor(f"{name}<{block}, zero={zero}>", 40, 256, layout, exact=False)
        assert len(np.unique(w.parts()["codes"])) == 2 ** QUANTISED[name]().codes.bits
        y = np.full(w.shape, np.nan, np.float32)
        decoded(w, y)
        assert np.array_equal(y, w.dequantize()), w


@pytest.mark.parametrize("rows", [2, 128])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32], ids=["bf16", "f32"])
@pytest.mark.parametrize("name", NAMES)
def test_every_code_reaches_a_product(name, dtype, rows):
    """Rows of the identity pick codes out of a product; scales are powers of two: exact."""
    for block in ("group=32", "group=128", "channel", "tensor", "group=24"):
        w = random_tensor(f"{name}<{block}>", 70, 128, None, exact=True)
        for first in range(0, 128, 64 if rows == 2 else 128):
            x = np.eye(128, dtype=np.float32)[first : first + rows].astype(dtype)
            y = np.full((rows, 70), np.nan, np.float32)
            kernels.linear(x, w, y)
            assert np.array_equal(y, w.dequantize().T[first : first + rows]), (w, first)


@pytest.fixture(scope="module", params=["x86-64-v2", "x86-64-v3", "skylake-avx512"])
def older(request: pytest.FixtureRequest) -> Engine:
    """Vectors of 128 bits, of 256, and of 512 without bf16."""
    return Engine(Cache(None), host_machine(request.param, FEATURES[request.param]))


@pytest.mark.parametrize("name", NAMES)
def test_on_processors_with_less(older, name):
    w = random_tensor(f"{name}<group=32>", 70, 96, None, exact=True)
    for rows, dtype in ((2, tc.f32), (9, tc.bf16)):
        x = np.random.default_rng(rows).integers(-4, 5, (rows, 96)).astype(float)
        y = np.full((rows, 70), np.nan, np.float32)
        types = {"x": dtype, "w": w.format, "y": tc.f32}
        dims = {"M": rows, "N": 70, "K": 96}
        source = cpu_source(kernels.linear.definition, types, dims, host=older)
        compiled = older.load(source)
        older.dispatcher("linear", lambda _, c=compiled: c).launch(dtype.to_storage(x), w, y)
        assert np.array_equal(y, x @ w.dequantize().T), (w, rows)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["plain", "stream"])
@pytest.mark.parametrize("name", ["int4", "uint3"])
def test_gathers_and_coordinates_outside(name, layout):
    i = np.asarray([3, 0, 40, -1, 7, 12, 39], np.int32)
    j = np.asarray([5, 255, 3, 9, 256, -7, 100], np.int32)
    inside = (i >= 0) & (i < 40) & (j >= 0) & (j < 256)
    for zero in zeros_of(name):
        for block in ("group=32", "channel", "tensor"):
            w = random_tensor(f"{name}<{block}, zero={zero}>", 40, 256, layout, exact=False)
            y, z = np.full(7, np.nan, np.float32), np.full((7, 256), np.nan, np.float32)
            gathered(w, i, j, y, z)
            dense = w.dequantize()
            rows = np.clip(i, 0, 39)
            assert np.array_equal(y, np.where(inside, dense[rows, np.clip(j, 0, 255)], 0)), w
            within = ((i >= 0) & (i < 40))[:, None]
            assert np.array_equal(z, np.where(within, dense[rows], 0)), w


@tc.kernel
def partial_linear(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"],
                   length: tc.i32):  # fmt: skip
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K", to=length):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@pytest.mark.parametrize("rows", [2, 20])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32], ids=["bf16", "f32"])
def test_what_lies_beyond_a_stop_takes_no_part(dtype, rows):
    """Infinities from the stop on, in the middle of a unit, of a pair and of a group."""
    w = random_tensor("int3<group=32>", 70, 96, None, exact=True)
    for stop in (1, 31, 33, 64, 77, 96):
        x = np.random.default_rng(stop).integers(-4, 5, (rows, 96)).astype(dtype)
        x[:, stop:] = np.inf
        for weight in (w, w.dequantize(), w.dequantize().astype(dtype)):
            y = np.full((rows, 70), np.nan, np.float32)
            partial_linear(x, weight, y, stop)
            want = x[:, :stop].astype(float) @ w.dequantize()[:, :stop].T
            assert np.array_equal(y, want), (stop, type(weight))


@tc.kernel
def stepped(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K", block=64):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@pytest.mark.parametrize("rows", [2, 20])
@pytest.mark.parametrize(
    "text",
    [
        "int4<group=32>",
        "uint3<group=24, zero=int>",
        "int8<group=48, zero=min>",
        "q4_k",
        "fp8_block<rows=32, group=40>",
    ],
)
def test_a_step_of_several_groups(text, rows):  # fmt: skip
    """Each element is decoded with the scale of its own group."""
    w = random_tensor(text, 160, 200, None, exact=False)
    x = np.random.default_rng(rows).standard_normal((rows, 200)).astype(np.float32)
    y = np.full((rows, 160), np.nan, np.float32)
    stepped(x, w, y)
    want = x.astype(float) @ w.dequantize().T.astype(float)
    assert np.linalg.norm(y - want) <= 3e-6 * np.linalg.norm(want)


def expected(kernel: Kernel, x: Array, w: PackedTensor, dtype: DType) -> Array:
    """The interpreter's result, in f32."""
    m, k = x.shape
    y = np.full((m, w.shape[0]), np.nan)
    func = kernel.ir(x=dtype, w=w.format, y=tc.f32)
    arguments = {"x": x, "w": w.format.values(w.parts(), w.shape), "y": y}
    interpret(func, arguments, {"M": m, "N": w.shape[0], "K": k, "k.tile": 64})
    return y


@pytest.mark.parametrize("rows", [pytest.param(m, marks=[] if m in (3, 16) else pytest.mark.slow)
                                  for m in ROWS])  # fmt: skip
@pytest.mark.parametrize("block", ["tensor", "channel", "group=32"])
@pytest.mark.parametrize("name", NAMES)
def test_one_linear_for_every_format(name, block, rows):
    """Both spellings, N and K odd, whole numbers: equal to the interpreter, not only near it."""
    zeros = zeros_of(name)
    zero = zeros[(rows + len(block)) % len(zeros)]
    w = random_tensor(f"{name}<{block}, zero={zero}>", 77, 131, None, exact=True)
    x = np.random.default_rng(rows).integers(-4, 5, (rows, 131)).astype(np.float32)
    spelled = Kernel(parse(TEXT % w.format)["linear"])
    for kernel in (kernels.linear, spelled):
        y = np.full((rows, 77), np.nan, np.float32)
        kernel(x, w, y)
        assert np.array_equal(y, expected(kernel, x, w, tc.f32)), kernel


@pytest.mark.parametrize("dtype", [tc.bf16, tc.f16, tc.f32, tc.i8, tc.e4m3], ids=str)
@pytest.mark.parametrize("name", ["int1", "int4", "uint3", "uint5", "int6", "uint8"])
def test_random_data_within_the_bound(name, dtype):
    """|error| <= K * eps * sum |x| (|q - mid| + |zero - mid|) |s| in f32, as the pass states."""
    rng = np.random.default_rng(5)
    for block, zero in (("group=64", "int"), ("channel", "shift"), ("group=100", "float"),
                        ("group=512", "none"), ("tensor", "none")):  # fmt: skip
        w = random_tensor(f"{name}<{block}, zero={zero}>", 33, 517, None, exact=False)
        for rows in (2, 19):
            data = rng.standard_normal((rows, 517)) * (30 if dtype.is_integer else 1)
            x = dtype.round(data)
            y = np.full((rows, 33), np.nan, np.float32)
            kernels.linear(dtype.to_storage(x), w, y)
            want = x @ w.dequantize().astype(float).T
            scale = np.abs(x) @ np.full((517, 33), 2.0 ** scaled(str(w.format)).codes.bits * 4)
            assert (np.abs(y - want) <= 517 * 2.0**-24 * scale).all(), w
            assert np.linalg.norm(y - want) <= 3e-6 * np.linalg.norm(want), w
