"""Rings of what indices pick: one of several matrices by its number, rows by a tile of numbers."""

# Kernels annotate with names of dimensions.
# pyright: basic

from __future__ import annotations

import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from products import PRODUCTS, gathered

import tilec as tc
from tilec.cuda import Schedule
from tilec.ir.named import named


@tc.kernel
def heads(x: tc.Tensor["B", "G", "M", "K"], w: tc.Tensor["B", "G", "N", "K"],
          y: tc.Tensor["B", "G", "M", "N"]):  # fmt: skip
    """A product for each of B x G."""
    for b, g, m, n in tc.tiles("B", "G", "M", "N", block=(1, 1, None, None)):
        acc = tc.zeros((m, n), tc.f32)
        for k in tc.tiles("K"):
            acc += tc.dot(x[b.start, g.start, m, k], w[b.start, g.start, n, k].T)
        y[b.start, g.start, m, n] = acc


@pytest.mark.parametrize("schedule", [
    Schedule(threads=64), Schedule(threads=128, copies="bulk"),
    Schedule(threads=128, copies="bulk", specialise=1),
    Schedule(threads=128, instruction="wgmma", overlap=1, stages=4),
    Schedule(threads=128, instruction="wgmma", copies="bulk", specialise=4),
], ids=["pieces", "bulk", "apart", "wgmma", "wgmma-apart"])  # fmt: skip
def test_one_of_several_matrices(schedule: Schedule):
    """By the numbers of the grid: four axes of memory, of which a tile has two."""
    dims = {"B": 2, "G": 3, "M": 72, "N": 40, "K": 136}
    program = program_of(heads, {"x": tc.f16, "w": tc.f16, "y": tc.f32}, dims, schedule,
                         m=64, n=32, k=32)  # fmt: skip
    text = program.source.text
    assert ("wgmma<" in text) == (schedule.instruction == "wgmma")
    assert ("tensor_load(" in text) == (schedule.copies == "bulk")
    assert program.source.remarks == () or all(
        "loaded when" not in str(r) and "in pieces" not in str(r) for r in program.source.remarks
    )
    rng = np.random.default_rng(7)
    x, w = (rng.integers(-4, 5, (2, 3, n, 136)).astype(np.float16) for n in (72, 40))
    y = poisoned((2, 3, 72, 40), tc.f32)
    run(program, {"x": x, "w": w, "y": y})
    assert np.array_equal(y, x.astype(float) @ w.astype(float).swapaxes(-1, -2))


@pytest.mark.parametrize("w", ["int4<group=32>", "e2m1<group=32>", "mxfp4", "int8<group=32>"])
def test_codes_of_one_of_several_matrices(w: str):
    """In fragment order, each matrix by itself; a number outside reads 0."""
    dims = {"M": 16, "N": 40, "K": 160, "E": 3, "B": 1}
    types = {"x": tc.bf16, "w": named(w), "y": tc.f32}
    program = program_of(PRODUCTS["picked"].kernel, types, dims, Schedule(threads=64),
                         m=16, n=32, k=32)  # fmt: skip
    assert "take_words<" in program.source.text
    assert "w.codes" in program.source.orders
    rng = np.random.default_rng(len(w))
    packed = tc.quantize(rng.standard_normal((3, 40, 160)), w, search=False)
    x = tc.bf16.round(rng.standard_normal((16, 160))).astype(tc.bf16.numpy)
    for which in (0, 2, 3, -1):
        y = poisoned((16, 40), tc.f32)
        run(program, {"x": x, "w": packed, "which": np.array([which], np.int32), "y": y})
        values = packed.dequantize().astype(float)
        want = x.astype(float) @ (values[which].T if 0 <= which < 3 else 0 * values[0].T)
        assert far(y, want) < 5e-7 if want.any() else not y.any()


@pytest.mark.parametrize(("t", "schedule", "tiles"), [
    ("f16", Schedule(threads=128), (64, 16, 32)),
    ("f16", Schedule(threads=256), (16, 32, 16)),  # fewer pieces than threads
    ("bf16", Schedule(threads=128, instruction="wgmma", overlap=1, stages=4), (64, 16, 64)),
    ("e4m3", Schedule(threads=128, instruction="wgmma"), (128, 8, 128)),
    ("f32", Schedule(threads=64), (32, 16, 16)),
], ids=str)  # fmt: skip
def test_rows_that_indices_pick(t: str, schedule: Schedule, tiles: tuple[int, int, int]):
    """Repeated, in any order, and outside of memory."""
    r, n, k = tiles
    dims, dtype = {"M": 50, "R": 90, "N": 24, "K": 160}, getattr(tc, t)
    program = program_of(gathered, {"x": dtype, "w": dtype, "y": tc.f32}, dims, schedule,
                         r=r, n=n, k=k)  # fmt: skip
    assert not [m for m in program.source.remarks if "is loaded when" in str(m)]
    rng = np.random.default_rng(r)
    x, w = (rng.integers(-4, 5, (size, 160)).astype(dtype.numpy) for size in (50, 24))
    at = rng.integers(-2, 53, 90).astype(np.int32)
    y = poisoned((90, 24), tc.f32)
    run(program, {"x": x, "at": at, "w": w, "y": y})
    inside = (at >= 0) & (at < 50)
    rows = np.where(inside[:, None], x.astype(float)[np.clip(at, 0, 49)], 0)
    assert np.array_equal(y, rows @ w.astype(float).T)
