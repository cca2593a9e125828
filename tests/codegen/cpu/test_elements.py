"""Every element type and every published format in compiled code: all codes, exactly."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from formats import PUBLISHED_SCALED, random_parts, scaled
from lang import kernels

import tilec as tc
from tilec.codegen.cpu.recipes import Affine, recipe_of
from tilec.cpu import cpu_source
from tilec.ir.bits import from_raw
from tilec.ir.codes import CODES
from tilec.ir.dtype import Array, DType, e4m3, e5m2
from tilec.ir.packing import Layout, Plain
from tilec.ir.stream import Stream
from tilec.runtime.cache import Cache
from tilec.runtime.engine import Engine
from tilec.runtime.jit import host_machine
from tilec.runtime.tensor import PackedTensor, packed

ELEMENTS = {n: t for n, t in CODES.items() if n != "e8m0"} | {"e4m3": e4m3, "e5m2": e5m2}
LAYOUTS = (Plain(), Stream())


@tc.kernel
def decoded(w: tc.Tensor["N", "K"], y: tc.Tensor["N", "K"]):
    for n, k in tc.tiles("N", "K"):
        y[n, k] = w[n, k].to(tc.f32)


def every_code(t: DType, shape: tuple[int, int]) -> Array:
    """All codes of a type, in an order that visits each at many places."""
    raw = (np.arange(shape[0] * shape[1]) * 37 % (1 << t.bits)).reshape(shape)
    return from_raw(t, raw)


def weight(text: str, shape: tuple[int, int], layout: Layout | None, finite: bool) -> PackedTensor:
    """Every code of the format's elements beside scales that are powers of two."""
    format = scaled(text)
    codes = every_code(format.codes, shape)
    if finite:
        codes = np.where(np.isfinite(codes), codes, 0.0)
        codes = format.codes.round(codes, saturate=True)
    parts = random_parts(format, shape, exact=True) | {"codes": codes}
    return packed(format, parts, shape, layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=["plain", "stream"])
@pytest.mark.parametrize("name", sorted(ELEMENTS))
def test_every_code_decodes_to_its_value(name, layout):
    w = weight(f"{name}<group=32, scale=f32>", (40, 256), layout, finite=False)
    y = np.full(w.shape, np.nan, np.float32)
    decoded(w, y)
    assert np.array_equal(y, w.dequantize(), equal_nan=True)
    signs = np.signbit(y) == np.signbit(w.dequantize())
    assert signs[~np.isnan(y)].all()


@pytest.mark.parametrize("rows", [2, 20])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32], ids=["bf16", "f32"])
@pytest.mark.parametrize("name", sorted(ELEMENTS))
def test_every_code_reaches_a_product(name, dtype, rows):
    """Rows that each pick one k: the result is the value of a code, exactly."""
    w = weight(f"{name}<group=64, scale=f32>", (70, 128), None, finite=True)
    for first in range(0, 128, 32):
        x = np.eye(128, dtype=np.float32)[(first + 3 * np.arange(rows)) % 128].astype(dtype)
        y = np.full((rows, 70), np.nan, np.float32)
        kernels.linear(x, w, y)
        assert np.array_equal(y, x.astype(float) @ w.dequantize().T.astype(float)), first


@pytest.mark.parametrize("cpu", ["x86-64-v2", "x86-64-v3"])
@pytest.mark.parametrize("name", ["e2m1", "e3m2", "nf4", "e4m3_fnuz", "ternary", "sm5", "bipolar2"])
def test_on_processors_with_less(name, cpu):
    older = Engine(Cache(None), host_machine(cpu, "+avx2,+fma" if cpu.endswith("v3") else ""))
    w = weight(f"{name}<group=32, scale=f32>", (70, 96), None, finite=True)
    for rows in (2, 9):
        x = np.eye(96)[5 * np.arange(rows)]
        y = np.full((rows, 70), np.nan, np.float32)
        types = {"x": tc.f32, "w": w.format, "y": tc.f32}
        dims = {"M": rows, "N": 70, "K": 96}
        compiled = older.load(cpu_source(kernels.linear.definition, types, dims, host=older))
        older.dispatcher("linear", lambda _, c=compiled: c).launch(x.astype(np.float32), w, y)
        assert np.array_equal(y, x @ w.dequantize().T.astype(float)), rows


@pytest.mark.parametrize("group", [32, 33])
@pytest.mark.parametrize("cpu", ["x86-64-v2", "x86-64-v3"])
def test_plain_memory_on_processors_with_less(cpu, group):
    """Fewer lanes than fill a byte, and rows that end within one."""
    older = Engine(Cache(None), host_machine(cpu, "+avx2,+fma" if cpu.endswith("v3") else ""))
    for bits in range(1, 8):
        w = weight(f"uint{bits}<group={group}, scale=f32>", (40, 3 * group), Plain(), finite=True)
        y = np.full(w.shape, np.nan, np.float32)
        source = cpu_source(decoded.definition, {"w": w.format, "y": tc.f32},
                            {"N": 40, "K": 3 * group}, older, {"w": Plain()})  # fmt: skip
        compiled = older.load(source)
        older.dispatcher("decoded", lambda _, c=compiled: c).launch(w, y)
        assert np.array_equal(y, w.dequantize()), bits


def test_arithmetic_decodes_all_floats():
    """A recipe that is no table, whatever the widths, where few codes are special."""
    for name, t in CODES.items():
        if name.startswith("bipolar"):
            assert isinstance(recipe_of(t), Affine), name
        elif t.exponent and not name.endswith("_ieee"):
            assert recipe_of(t) is not None, name


@pytest.mark.parametrize("layout", LAYOUTS, ids=["plain", "stream"])
@pytest.mark.parametrize("name", PUBLISHED_SCALED)
def test_published_formats_decode_exactly(name, layout):
    format = scaled(name)
    w = packed(format, random_parts(format, (130, 600)), (130, 600), layout)
    y = np.full(w.shape, np.nan, np.float32)
    decoded(w, y)
    assert np.array_equal(y, w.dequantize())


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32], ids=["bf16", "f32"])
@pytest.mark.parametrize("name", PUBLISHED_SCALED)
def test_published_formats_in_a_product(name, dtype, rows):
    """Against float64, by relative norm, on weights that the format was fitted to."""
    rng = np.random.default_rng(rows)
    w = tc.quantize(rng.standard_normal((130, 600)), tc.format(name), search=False)
    x = rng.standard_normal((rows, 600)).astype(dtype)
    y = np.full((rows, 130), np.nan, np.float32)
    kernels.linear(x, w, y)
    want = x.astype(float) @ w.dequantize().T.astype(float)
    assert np.linalg.norm(y - want) <= 3e-6 * np.linalg.norm(want)
