"""Roundings of compiled code: products and sums are not contracted, so that lanes that sum the same
numbers agree to the last bit; accumulators have their first values before warp groups use them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from lang.kernels import linear
from launches import Case, on_triton
from trained_launches import launches

import tilec as tc
from tilec.compile import Kernel
from tilec.runtime.triton import compile_for
from tilec.sass.listing import Instruction, parse
from tilec.sass.tools import disassembled
from tilec.triton import triton_source

pytest.importorskip("triton")
SIZE = (8, 16, 32)
WRITTEN = re.compile(r"R(\d+)")


def floats(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@tc.kernel
def chain(x: tc.Tensor["M", "N"], y: tc.Tensor["M", "N"], z: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        z[m, n] = x[m, n] * y[m, n] + x[m, n] * 3.0 - y[m, n]


@tc.kernel
def first(x: tc.Tensor["A", "B", "C"], y: tc.Tensor["A", "B", "C"], z: tc.Tensor["B", "C"]):
    for b, c in tc.tiles("B", "C", block=(None, None)):
        z[b, c] = tc.sum(x[:, b, c] * y[:, b, c], axis=0)


@tc.kernel
def middle(x: tc.Tensor["A", "B", "C"], y: tc.Tensor["A", "B", "C"], z: tc.Tensor["A", "C"]):
    for a, c in tc.tiles("A", "C", block=(None, None)):
        z[a, c] = tc.sum(x[a, :, c] * y[a, :, c], axis=1)


@tc.kernel
def last(x: tc.Tensor["A", "B", "C"], y: tc.Tensor["A", "B", "C"], z: tc.Tensor["A", "B"]):
    for a, b in tc.tiles("A", "B", block=(None, None)):
        z[a, b] = tc.sum(x[a, b, :] * y[a, b, :], axis=2)


def test_every_op_is_rounded():
    x, y = floats(19, 40, seed=0), floats(19, 40, seed=1)
    on_triton(Case("chain", chain, {"x": x, "y": y}, {"z": x * y + x * np.float32(3) - y}))


@pytest.mark.parametrize(("axis", "summed"), [(0, first), (1, middle), (2, last)])
def test_lanes_agree_on_a_sum(axis: int, summed: Kernel):
    """Each has it, and several write it to one place in shared memory."""
    x, y = floats(*SIZE, seed=0), floats(*SIZE, seed=1)
    want = (x.astype(float) * y).sum(axis)
    on_triton(Case(f"axis {axis}", summed, {"x": x, "y": y}, {"z": want}, 1e-6))


def test_scales_join_the_accumulator_with_one_rounding():
    """A product with the scale of a group costs no more than one without."""
    given = {"x": tc.f16, "w": tc.named("int4<group=128>"), "y": tc.f32}
    source = triton_source(linear.definition, {"M": 16, "N": 4096, "K": 4096}, given)
    assert "fma.rn.f32" in compile_for(source, "sm_90")["ptx"]


def test_accumulators_are_there_when_a_warp_group_arrives():
    """Where two begin with one value, LLVM copies it behind the fence, and the ISA lets no register
    be written there; ptxas moves the copies before what the fence becomes."""
    case = launches("causal", tc.f16)[0]
    made = compile_for(triton_source(case.kernel.definition, case.dims, case.types), "sm_90")
    behind = made["ptx"].split("wgmma.fence")[-1].split("wgmma.mma_async")
    assert len(behind) > 2
    assert "mov.b32" in behind[0]
    (function,) = parse(disassembled(made.cubin))
    arrivals = [n for n, i in enumerate(function.instructions) if i.name == "WARPGROUP.ARRIVE"]
    code = function.instructions[arrivals[-1] :]
    product = next(n for n, i in enumerate(code) if i.opcode == "HGMMA")
    first = written(code[product])
    accumulators = range(first, first + 8)  # 64 x 16 by 128 threads
    assert not [i for i in code[:product] if written(i) in accumulators]


def written(i: Instruction) -> int:
    """The first register that an instruction writes, or -1."""
    found = WRITTEN.match(i.operands)
    return int(found[1]) if found else -1
