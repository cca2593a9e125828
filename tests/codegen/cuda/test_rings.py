"""Rings in shared memory: where their elements lie, and that swizzles avoid bank conflicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from emulated import poisoned
from lang import kernels

import tilec as tc
from tilec.codegen.cuda.ring import Ring
from tilec.cuda import Program, Schedule, cuda_program, emulate
from tilec.ir.layout.memory import MemoryLayout
from tilec.ir.layout.shared import SWIZZLE_32B, SWIZZLE_64B, SWIZZLE_128B, SharedLayout
from tilec.ir.ops.reduce import accumulator
from tilec.passes import Step, parse_pipeline, run

SWIZZLES = {32: SWIZZLE_32B, 64: SWIZZLE_64B, 128: SWIZZLE_128B}
DIMS = {"M": 64, "N": 128, "K": 512}


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
@pytest.mark.parametrize("panels", [1, 3])
@pytest.mark.parametrize("swizzle", SWIZZLES)
def test_addresses_are_those_of_the_layout(swizzle: int, panels: int, bits: int) -> None:
    rows, wide = 24, swizzle * 8 // bits
    ring = Ring("0", (rows, panels * wide), 2, bits, swizzle)
    modes = ((rows, (wide, panels)), (wide, (1, rows * wide)))
    layout = SharedLayout(MemoryLayout(*modes), bits, SWIZZLES[swizzle])
    assert ring.slot == layout.nbytes
    assert ring.slot % ring.aligned == 0
    row, column = np.indices((rows, panels * wide))
    text = ring.address("1", "row", "column").replace("/", "//")
    found = eval(text, {"row": row, "column": column})
    assert np.array_equal(found, ring.slot + layout.address(row, column))


def program(t: tc.DType, k: int, swizzle: int) -> Program:
    """A product of matrices of `t`, in steps of k."""
    pipeline = parse_pipeline(Schedule(tiles={"m": 64, "n": 64, "k": k}).pipeline)
    steps = [replace(s, options={**s.options, "swizzle": swizzle}) if s.name == "lay-out" else s
             for s in pipeline]  # fmt: skip
    func = kernels.linear.definition.ir({"x": t, "w": t, "y": accumulator(t, t)})
    return cuda_program(run((Step("specialise", {**DIMS}), *steps), func))


@pytest.mark.parametrize("swizzle", SWIZZLES)
@pytest.mark.parametrize("k", [16, 32, 64, 128])
@pytest.mark.parametrize("t", ["bf16", "i8"])
def test_swizzled_rings_have_no_bank_conflicts(t: str, k: int, swizzle: int) -> None:
    """Whole numbers: results are exact. Rows wider than the swizzle are several panels."""
    dtype = getattr(tc, t)
    made = program(dtype, k, swizzle)
    row = k * dtype.bits // 8
    rng = np.random.default_rng(k)
    x, w = (rng.integers(-4, 5, (DIMS[d], 512)).astype(dtype.numpy) for d in "MN")
    y = poisoned((64, 128), accumulator(dtype, dtype))
    (report,) = emulate(made, {"x": x, "w": w, "y": y})
    assert report.findings == ()
    assert np.array_equal(y, x.astype(float) @ w.astype(float).T)
    counts = (*report.counted("copy_async"), *report.counted("ldmatrix"))
    assert {c.operation for c in counts} == {"copy_async", "ldmatrix"}
    free = all(c.wavefronts == c.ideal_wavefronts for c in counts)
    assert free == (min(row, 128) <= swizzle)
