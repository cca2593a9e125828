"""Sparse weights in compiled code: products, tiles and errors, as with dense weights."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest
from lang import kernels
from sparse_formats import DENSE_VALUES, TEXTS, weight

import tilec as tc
from tilec.compile import engine
from tilec.cpu import cpu_source
from tilec.ir.lanes import Lanes, order
from tilec.ir.masked import Masked
from tilec.ir.packing import Plain
from tilec.ir.sparse import Blocks
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import assembly, host_machine
from tilec.runtime.tensor import PackedTensor

FEATURES = {
    "x86-64-v2": "",
    "x86-64-v3": "+avx2,+fma",
    "skylake-avx512": "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512dq",
}
LAID = ["nm<2, 4, f16>", "nm<1, 4, f32>", "nm<4, 8, bf16>", "block<16, 8, f16>",
        "block<64, 32, bf16>", "block<16, 48, f32>", "block<48, 7, bf16>", "bitmap<f16>",
        "bitmap<bf16>", "bitmap<f32>", "csr<f32>", "csr<f16>", "csr<bf16>",
        "nm<2, 4, int8<channel>>", "nm<2, 4, int4<group=32>>", "nm<4, 8, mxfp4>",
        "nm<2, 4, nvfp4>", "bitmap<fp8>", "bitmap<int4<channel>>"]  # fmt: skip
STREAMS = [t for t in LAID if t.startswith(("nm", "bitmap"))]
QUICK = ["nm<2, 4, f16>", "block<16, 48, f32>", "block<48, 7, bf16>", "bitmap<bf16>", "csr<f32>",
         "nm<2, 4, int4<group=32>>", "bitmap<fp8>", "bitmap<int4<group=16>>"]  # fmt: skip
OTHERS = [t for kinds in DENSE_VALUES.values() for t in kinds if t not in LAID]
DTYPES = pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32], ids=["bf16", "f32"])


def few(texts: list[str]) -> list:
    """The formats, most of them for slow runs."""
    return [t if t in QUICK else pytest.param(t, marks=pytest.mark.slow) for t in texts]


@tc.kernel
def elements(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k].to(tc.f32)


@tc.kernel
def in_tiles(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K", block=(24, 100)):
        y[n, k] = w[n, k].to(tc.f32) * 2.0


@tc.kernel
def in_odd_steps(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K", block=40):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


@tc.kernel
def twice(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], y: tc.Tensor["M", "N"]):
    """A tile of the weight that is more than a product's operand."""
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            tile = w[n, k].to(tc.f32)
            acc += tc.dot(x[m, k].to(tc.f32), tile.T) + tc.sum(tile, axis=1)[None, :]
        y[m, n] = acc


@tc.kernel
def picked(w: tc.Tensor["N", "K"], i: tc.Tensor["P"], y: tc.Tensor["P"]):
    for p in tc.tiles("P"):
        y[p] = w[i[p], i[p]].to(tc.f32)


def near(got, want, most: float = 3e-6) -> bool:
    return bool(np.linalg.norm(got - want) <= most * max(np.linalg.norm(want), 1e-9))


def guarded(x):
    """The same rows between others that are NaN."""
    whole = np.full((len(x) + 8, *x.shape[1:]), np.nan, x.dtype)
    whole[4:-4] = x
    return whole[4:-4]


def linear_is_right(w: PackedTensor, rows: int, dtype, kernel=kernels.linear) -> bool:
    x = guarded(np.random.default_rng(rows).standard_normal((rows, w.shape[1])).astype(dtype))
    y = guarded(np.full((rows, w.shape[0]), np.nan, np.float32))
    kernel(x, w, y)
    clean = np.isnan(y.base[:4]).all() and np.isnan(y.base[-4:]).all()
    return bool(clean) and near(y, x.astype(float) @ w.dequantize().astype(float).T)


@DTYPES
@pytest.mark.parametrize("rows", [1, 5, 64])
@pytest.mark.parametrize("text", few(LAID))
def test_a_linear_layer(text, rows, dtype):
    assert linear_is_right(weight(text, 67), rows, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("text", OTHERS)
def test_a_linear_layer_of_gathered_elements(text):
    assert linear_is_right(weight(text, 67), 5, np.float16)


@pytest.mark.parametrize("text", few(LAID))
def test_many_steps_and_blocks(text):
    """Several blocks of rows, several steps of k, tiles of rows that end at an edge."""
    x = np.random.default_rng(3).standard_normal((192, 1040))
    x *= np.random.default_rng(4).random((192, 1040)) < 0.3
    w = tc.quantize(x, text, search=False)
    assert isinstance(w.layout, Lanes)
    for rows in (2, 16, 261):
        assert linear_is_right(w, rows, np.float32)


@pytest.mark.parametrize("text", few(LAID))
@pytest.mark.parametrize("x", [np.zeros((80, 280)), np.ones((80, 280)), np.eye(80, 280, 210)],
                         ids=["zeros", "full", "few"])  # fmt: skip
def test_nothing_everything_and_little(text, x):
    w = tc.quantize(x, text, search=False)
    for rows in (1, 16):
        assert linear_is_right(w, rows, ml_dtypes.bfloat16)


@pytest.mark.parametrize("text", few(LAID))
def test_one_hot_activations_give_the_elements_back(text):
    """Equal to the bit: nothing is where it does not belong."""
    w = weight(text, 67)
    for rows in (4, 40):
        for first in (0, 60, 250):
            x = np.eye(w.shape[1], dtype=np.float32)[first : first + rows].copy()
            y = np.full((rows, w.shape[0]), np.nan, np.float32)
            kernels.linear(x, w, y)
            np.testing.assert_array_equal(y, w.dequantize().T[first : first + rows])


@pytest.mark.slow
@pytest.mark.parametrize("text", LAID)
def test_row_by_row_is_a_layout_too(text):
    w = weight(text, 67).relayout(Plain())
    assert linear_is_right(w, 5, np.float32)


@pytest.mark.parametrize("text", few([t for t in LAID if not t.startswith("csr")]))
def test_elements(text):
    w = weight(text, 67)
    for kernel, factor in ((elements, 1), (in_tiles, 2)):
        y = np.full(w.shape, np.nan, np.float32)
        kernel(w, y)
        np.testing.assert_array_equal(y, factor * w.dequantize())


@pytest.mark.parametrize("text", few(STREAMS))
def test_steps_that_do_not_lie_in_one_piece(text):
    w = weight(text, 67)
    assert linear_is_right(w, 5, np.float32, in_odd_steps)
    types = {"x": tc.f32, "w": w.format, "y": tc.f32}
    dims = {"M": 5, "N": w.shape[0], "K": w.shape[1]}
    source = cpu_source(in_odd_steps.definition, types, dims, engine())
    (remark,) = (r for r in source.remarks if "is expanded into memory" in r.message)
    own = order(w.format, w.shape)
    assert isinstance(own, Masked)
    assert remark.missing == f"steps of k that are multiples of {own.depth}, not 40"


@pytest.mark.parametrize("text", few(STREAMS))
def test_a_tile_that_is_not_only_multiplied(text):
    w, x = weight(text, 67), np.random.default_rng(0).standard_normal((5, 320)).astype(np.float32)
    x = x[:, : w.shape[1]].copy()
    y = np.full((5, w.shape[0]), np.nan, np.float32)
    twice(x, w, y)
    dense = w.dequantize().astype(float)
    assert near(y, x @ dense.T + dense.sum(1))


def test_what_is_read_by_index_has_no_code():
    y, i = np.zeros(3, np.float32), np.asarray([0, 2, 66], np.int32)
    w = weight("bitmap<f16>", 67)
    with pytest.raises(tc.TileError, match="is read by tiles of rows and columns, not by") as e:
        picked(w, i, y)
    assert e.value.hint == "relayout(Plain())"
    picked(w.relayout(Plain()), i, y)
    np.testing.assert_array_equal(y, w.dequantize()[i, i])
    slabs = weight("block<16, 8, f16>", 67)
    picked(slabs, i, y)
    np.testing.assert_array_equal(y, slabs.dequantize()[i, i])


@pytest.fixture(scope="module", params=[
    pytest.param("x86-64-v2", marks=pytest.mark.slow), "x86-64-v3", "skylake-avx512"])  # fmt: skip
def older(request: pytest.FixtureRequest) -> Engine:
    """Vectors of 128 bits, of 256, and of 512 without expanding loads of 16-bit elements."""
    return Engine(Cache(None), host_machine(request.param, FEATURES[request.param]))


@pytest.mark.parametrize("text", ["nm<2, 4, f16>", "block<48, 7, bf16>", "block<16, 48, f32>",
                                  "bitmap<bf16>", "bitmap<f32>", "csr<f32>",
                                  "nm<2, 4, int8<channel>>", "nm<4, 8, mxfp4>",
                                  "bitmap<fp8>"])  # fmt: skip
def test_on_processors_with_less(older, text):
    w = weight(text, 67)
    n, k = w.shape
    for rows, dtype in ((2, tc.f32), (9, tc.bf16)):
        x = np.random.default_rng(rows).integers(-4, 5, (rows, k)).astype(float)
        y = np.full((rows, n), np.nan, np.float32)
        types, dims = {"x": dtype, "w": w.format, "y": tc.f32}, {"M": rows, "N": n, "K": k}
        compiled = older.load(cpu_source(kernels.linear.definition, types, dims, host=older))
        older.dispatcher("linear", lambda _, c=compiled: c).launch(dtype.to_storage(x), w, y)
        assert near(y, x @ w.dequantize().astype(float).T)


def wide():
    return host_machine("znver4", FEATURES["skylake-avx512"] + ",+avx512vbmi2,+avx512bf16")


def source_of(text: str, x, rows: int) -> str:
    host = wide()
    types = {"x": x, "w": tc.format(text), "y": tc.f32}
    return cpu_source(kernels.linear.definition, types, {"M": rows, "N": 128, "K": 512},
                      Engine(Cache(None), host)).text  # fmt: skip


def test_the_instructions_that_are_meant():
    stream = source_of("bitmap<bf16, 400>", tc.bf16, 1)
    assert stream.count("@llvm.masked.expandload.v32i16(") == 32 + 1  # a unit, and what is declared
    assert "llvm.x86.avx512bf16.dpbf16ps.512" in stream
    assert "llvm.masked.gather" not in stream
    assert source_of("bitmap<f32, 400>", tc.f32, 1).count("expandload.v16i32(") == 64 + 1
    codes = source_of("nm<2, 4, int4<group=128>>", tc.bf16, 1)
    assert codes.count("@llvm.x86.avx512.mask.expand.v64i8(") == 16 + 1  # two words at once
    assert codes.count("@llvm.x86.avx512.permvar.hi.512(") == 32 + 1
    assert source_of("bitmap<fp8, 400>", tc.bf16, 1).count("expandload.v64i8(") == 16 + 1
    block = source_of("block<16, 16, bf16, 64>", tc.bf16, 16)
    assert block.count("@llvm.x86.avx512bf16.dpbf16ps.512(") == 16 + 1  # a block's rows at once
    assert "llvm.masked" not in block
    run = source_of("csr<f32, 999>", tc.f32, 1)
    assert run.count("@llvm.masked.gather") == 2 + 1
    assert run.count("@llvm.prefetch.p0(") == 4 + 1  # of every line of a run's columns and values


@pytest.mark.parametrize("rows", [2, 4, 8, 16])
@pytest.mark.parametrize("text", ["bitmap<f32, 400>", "nm<2, 4, f32>", "bitmap<bf16, 400>"])
def test_what_is_expanded_stays_in_registers(text, rows):
    """Every value is expanded once for eight rows, and no vector waits in memory meanwhile."""
    source = source_of(text, tc.f32, rows)
    values = 2 if "f32" in text else 1  # to a bit of a word
    assert source.count("@llvm.masked.expandload.") == values * 32 + 1
    kept = re.findall(r"\tvmov\w+\s+%zmm\d+, -?\d*\(%rsp\)", assembly(source, wide()))
    assert not kept


@pytest.mark.parametrize("plain", [False, True], ids=["lanes", "plain"])
@pytest.mark.parametrize("text", few(TEXTS))
def test_code_is_short(text, plain):
    """LLVM takes a second for some 10000 lines: what is read element by element is written once."""
    format, host = weight(text, 64).format, Engine(Cache(None))
    types = {"x": tc.bf16, "w": format, "y": tc.f32}
    for n, k in ((256, 512), (4096, 4096)):
        for rows in (1, 16, 64):
            source = cpu_source(kernels.linear.definition, types, {"M": rows, "N": n, "K": k},
                                host, {"w": Plain()} if plain else None)  # fmt: skip
            assert source.text.count("\n") < 7000


@pytest.mark.parametrize("text", ["block<16, 16, f32>", "block<32, 7, f32>"])
def test_blocks_are_written_where_they_lie(text):
    y, rng = weight(text, 67), np.random.default_rng(0)
    x, w = (rng.standard_normal((n, 40)).astype(np.float32) for n in y.shape)
    assert isinstance(y.format, Blocks)
    whole = np.kron(y.parts()["place"] >= 0, np.ones((y.format.rows, y.format.columns)))
    kept = whole[: y.shape[0], : y.shape[1]]
    assert isinstance(y.layout, Lanes)
    assert 0 < kept.mean() < 1
    kernels.linear(x, w, y)
    assert near(y.dequantize(), kept * (x.astype(float) @ w.T.astype(float)))
