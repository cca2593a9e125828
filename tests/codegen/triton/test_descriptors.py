"""Tiles that come by tensor descriptors: the copies in machine code, and results from PTX."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from lang import kernels
from numpy.typing import DTypeLike

import tilec as tc
from tilec.ir.dtype import Array, DType
from tilec.ir.source import Descriptor, KernelSource
from tilec.runtime.triton import compile_for, interpreted
from tilec.sass import stats_of
from tilec.triton import schedule_of, triton_source

pytest.importorskip("triton")
from triton_ptx import executed, multiplied

SLOW = pytest.mark.slow


@tc.kernel
def every(x: tc.Tensor["E", "M", "K"], w: tc.Tensor["E", "N", "K"], y: tc.Tensor["E", "M", "N"]):
    for e, m, n in tc.tiles("E", "M", "N", block=(1, None, None)):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[e.start, m, k], w[e.start, n, k].T)
        y[e.start, m, n] = acc


@tc.kernel
def ragged(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"], count: tc.i32, y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K", to=count):
            acc += tc.dot(x[m, k], w[n, k].T)
        y[m, n] = acc


def whole(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Small whole numbers, whose sums are exact in any order."""
    return np.random.default_rng(shape).integers(-4, 5, shape).astype(dtype)


def linear(dims: dict[str, int], schedule: str = "descriptors=1", t: DType = tc.f16
           ) -> KernelSource:  # fmt: skip
    types = {"x": t, "w": t, "y": tc.f32}
    return triton_source(kernels.linear.definition, dims, types, schedule_of(schedule))


@pytest.mark.parametrize(("shape", "schedule"), [
    ((100, 200, 328), ""), pytest.param((64, 64, 64), ",swap=always", marks=SLOW),
    pytest.param((16, 128, 256), "", marks=SLOW),
    pytest.param((3, 72, 712), ",swap=small", marks=SLOW),
    pytest.param((130, 70, 200), ",m=128,n=64,k=32,warps=8", marks=SLOW),
    pytest.param((200, 67, 256), ",persist=3,swizzle=1", marks=SLOW),
    pytest.param((20, 130, 640), ",split=3", marks=SLOW),
    pytest.param((20, 130, 640), ",stream=5", marks=SLOW),
    pytest.param((100, 64, 1000), ",k=128,stages=4", marks=SLOW),
])  # fmt: skip
def test_equals_numpy(shape: tuple[int, int, int], schedule: str):
    """Also where tiles end beyond the tensor: boxes have zeros there."""
    m, n, k = shape
    dims = {"M": m, "N": n, "K": k}
    source = linear(dims, "descriptors=1" + schedule)
    assert "w_desc.load([" in source.text
    x, w = whole((m, k), np.float16), whole((n, k), np.float16)
    y = multiplied(kernels.linear, dims, (m, n), schedule_of("descriptors=1" + schedule), x=x, w=w)
    assert np.array_equal(y, x.astype(float) @ w.astype(float).T)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_other_elements(dtype):
    x, w = whole((70, 144), dtype), whole((80, 144), dtype)
    y = multiplied(kernels.linear, {"M": 70, "N": 80, "K": 144}, (70, 80),
                   schedule_of("descriptors=1"), x=x, w=w)  # fmt: skip
    assert np.array_equal(y, x.astype(float) @ w.astype(float).T)


@pytest.mark.slow
def test_matrices_of_a_tensor_of_three_axes():
    x, w = whole((3, 70, 64), np.float16), whole((3, 80, 64), np.float16)
    dims, chosen = {"E": 3, "M": 70, "N": 80, "K": 64}, schedule_of("descriptors=1")
    types = {"x": tc.f16, "w": tc.f16, "y": tc.f32}
    source = triton_source(every.definition, dims, types, chosen)
    assert source.launches[0].descriptors == (
        Descriptor("x_desc", "x", (1, 64, 64)), Descriptor("w_desc", "w", (1, 64, 64)))  # fmt: skip
    y = multiplied(every, dims, (3, 70, 80), chosen, x=x, w=w)
    assert np.array_equal(y, np.einsum("emk,enk->emn", x.astype(float), w.astype(float)))


@pytest.mark.slow
def test_dimensions_that_a_launch_gives():
    source = linear({})
    assert source.launches[0].takes == ("x_desc", "w_desc", "y", "M", "K", "N")
    given = {"x": whole((70, 88), np.float16), "w": whole((40, 88), np.float16),
             "y": np.full((70, 40), np.nan, np.float32), "M": 70, "N": 40, "K": 88}  # fmt: skip
    assert executed(source, given).clean
    x, w, y = (np.asarray(given[n]) for n in "xwy")
    assert np.array_equal(y, x.astype(float) @ w.astype(float).T)


def test_the_launcher_makes_descriptors():
    """In Triton's interpreter, which runs all of the source."""
    x, w = whole((70, 136), np.float16), whole((40, 136), np.float16)
    given = {"x": x, "w": w, "y": np.full((70, 40), np.nan, np.float32)}
    source = linear({}, "descriptors=1,m=32,k=128")
    assert "TensorDescriptor.from_tensor(x, [32, 128])" in source.text
    found = interpreted(source, given)["y"]
    assert np.array_equal(found, x.astype(float) @ w.astype(float).T)


def test_bulk_copies_feed_wgmma():
    build = compile_for(linear({"M": 256, "N": 256, "K": 1024}), "sm_90")
    assert build.swizzles == (128, 128)
    (stats,) = stats_of(build.cubin, dynamic_shared=build.shared)
    assert stats.code.count("UTMALDG.2D") >= 2
    assert stats.code.count("HGMMA")
    assert not stats.code.count("LDGSTS")


@pytest.mark.parametrize("schedule", ["descriptors=1", pytest.param("", marks=SLOW)])
def test_loops_that_stop_within_a_step(schedule: str):
    """What lies behind is in memory, but not in the sum."""
    x, w = whole((20, 200), np.float16), whole((30, 200), np.float16)
    dims = {"M": 20, "N": 30, "K": 200}
    for count in (100, 300):
        y = multiplied(ragged, dims, (20, 30), schedule_of(schedule), x=x, w=w, count=count)
        assert np.array_equal(y, x[:, :count].astype(float) @ w[:, :count].astype(float).T)


@pytest.mark.parametrize(("dims", "schedule"), [
    ({"M": 64, "N": 64, "K": 300}, ""),  # rows of 600 bytes
    ({"M": 64, "N": 64, "K": 512}, ",m=48,n=48,k=48"),  # tiles that are padded
])  # fmt: skip
def test_what_no_descriptor_is_for(dims: dict[str, int], schedule: str):
    assert "_desc" not in linear(dims, "descriptors=1" + schedule).text
