"""Dimensions that are only known at a launch: one program for all their sizes."""

from __future__ import annotations

import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from lang import kernels

import tilec as tc
from tilec.codegen.cuda.dimensions import written
from tilec.cuda import emulate, schedule_of
from tilec.ir.errors import TileError
from tilec.ir.extent import extent, number

ROWS = (1, 7, 64, 200)
N, K = 130, 256


@pytest.fixture(scope="module")
def dense():
    types = {"x": tc.f16, "w": tc.f16, "y": tc.f32}
    return program_of(kernels.linear, types, {"N": N, "K": K})


@pytest.mark.parametrize("m", ROWS)
def test_linear_of_any_number_of_rows(dense, m):
    assert dense.source.dims == ("M",)
    rng = np.random.default_rng(m)
    x, w = (rng.integers(-4, 5, size).astype(np.float16) for size in ((m, K), (N, K)))
    y = poisoned((m, N), tc.f32)
    run(dense, {"x": x, "w": w, "y": y, "M": m})
    assert np.array_equal(y, x.astype(float) @ w.astype(float).T)


def test_rings_and_ldmatrix_are_as_with_numbers(dense):
    assert "copy_async<16>" in dense.source.text
    assert "ldmatrix(" in dense.source.text
    assert "u32 M)" in dense.source.text


SCHEDULES = ("split=2", "copies=bulk,specialise=1", "instruction=wgmma", "stream=4", "persist=2",
             "swizzle=4", "swap=small", "swap=always")  # fmt: skip


@pytest.mark.parametrize("text", [pytest.param(s, marks=[pytest.mark.slow] * (s != "split=2"))
                                  for s in SCHEDULES])  # fmt: skip
def test_schedules_of_any_number_of_rows(text):
    """What a pass can't do for an open dimension, it leaves out."""
    types = {"x": tc.f16, "w": tc.f16, "y": tc.f32}
    program = program_of(kernels.linear, types, {"N": N, "K": K}, schedule_of(text))
    for m in ROWS:
        rng = np.random.default_rng(m)
        x, w = (rng.integers(-4, 5, size).astype(np.float16) for size in ((m, K), (N, K)))
        y = poisoned((m, N), tc.f32)
        run(program, {"x": x, "w": w, "y": y, "M": m})
        assert np.array_equal(y, x.astype(float) @ w.astype(float).T)


@pytest.fixture(scope="module")
def quantised():
    rng = np.random.default_rng(0)
    w = tc.quantize(rng.standard_normal((N, K)), "int4<group=128>", search=False)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    return w, program_of(kernels.linear, types, {"N": N, "K": K})


@pytest.mark.parametrize("m", ROWS)
def test_quantised_linear_of_any_number_of_rows(quantised, m):
    w, program = quantised
    x = np.random.default_rng(m).standard_normal((m, K)).astype(np.float16)
    y = poisoned((m, N), tc.f32)
    run(program, {"x": x, "w": w, "y": y, "M": m})
    assert far(y, x.astype(float) @ w.dequantize().astype(float).T) < 1e-6


@tc.kernel
def turned(x: tc.Tensor["M", "N"], y: tc.Tensor["N", "M"], s: tc.Tensor["N"]):
    """Both dimensions open: rows of unknown length, and sums over an open dimension."""
    for n in tc.tiles("N"):
        total = tc.zeros((n,), tc.f32)
        for m in tc.tiles("M"):
            y[n, m] = x[m, n].T
            total += tc.sum(x[m, n], axis=0)
        s[n] = total


@pytest.fixture(scope="module")
def both():
    return program_of(turned, {"x": tc.f32, "y": tc.f32, "s": tc.f32}, {})


@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (64, 64), (200, 67)], ids=str)
def test_all_dimensions_open(both, shape):
    assert sorted(both.source.dims) == ["M", "N"]
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)
    y, s = poisoned(shape[::-1], tc.f32), poisoned(shape[1:], tc.f32)
    run(both, {"x": x, "y": y, "s": s, "M": shape[0], "N": shape[1]})
    assert np.array_equal(y, x.T)
    assert np.array_equal(s, x.sum(0))


def test_a_wrong_number_is_found(dense):
    """The checks are those of the arrays, not of the dimension that is given."""
    x, w = (np.ones(size, np.float16) for size in ((7, K), (N, K)))
    (report,) = emulate(dense, {"x": x, "w": w, "y": poisoned((7, N), tc.f32), "M": 9})
    assert "out-of-bounds" in report.kinds
    with pytest.raises(TileError, match="no number for the dimension M"):
        emulate(dense, {"x": x, "w": w, "y": poisoned((7, N), tc.f32)})


def test_softmax_of_any_number_of_rows():
    program = program_of(kernels.softmax, {"x": tc.f32, "y": tc.f32}, {"N": 300})
    for m in (1, 7, 64):
        x = np.random.default_rng(m).standard_normal((m, 300)).astype(np.float32)
        y = poisoned((m, 300), tc.f32)
        run(program, {"x": x, "y": y, "M": m})
        p = np.exp(x.astype(float) - x.max(1, keepdims=True))
        assert far(y, p / p.sum(1, keepdims=True)) < 1e-6


def test_what_must_be_known_says_so():
    with pytest.raises(TileError, match="has all of the dimension N, which is no number"):
        program_of(kernels.softmax, {"x": tc.f32, "y": tc.f32}, {"M": 7})


@pytest.mark.parametrize("text", ["M", "2*K + 1", "ceiling(M/64)", "floor(M/3)", "Min(M, K)",
                                  "M*ceiling(K/16)", "Max(3, K) - 1"])  # fmt: skip
def test_extents_in_code_mean_what_they_mean(text):
    e = extent(text)
    code = written(e, {"M": "m", "K": "k"}).replace("/", "//")
    functions = {"s32": int, "u32": int, "min_s32": min, "max_s32": max}
    for m, k in ((1, 1), (7, 64), (64, 7), (200, 129)):
        assert eval(code, {**functions, "m": m, "k": k}) == number(e, {"M": m, "K": k})
    with pytest.raises(TileError):
        written(e, {"Q": "q"})
