"""The programs of `tilec.ops`: what they mean, and what compiled code gives, on every back end."""

from __future__ import annotations

import launches
import numpy as np
import pytest
from program_launches import CASES, NARROW

from tilec.ir.extent import number
from tilec.ir.interpret import interpret
from tilec.ir.types import Memory
from tilec.runtime.tensor import PackedTensor

SLOW = pytest.mark.slow
QUICK = ("causal", "rms", "linear_cross_entropy")
ALL = {**CASES, **NARROW}


@pytest.mark.parametrize("name", ALL)
def test_meaning(name):
    """The program itself, before any pass."""
    case = ALL[name]
    func = case.kernel.ir(**case.types)
    arrays = {}
    for p in func.params:
        x = case.given.get(p.hint)
        if isinstance(x, PackedTensor):
            x = x.dequantize().astype(np.float64)
        if x is None:
            assert isinstance(p.type, Memory)
            x = np.full([number(d, case.dims) for d in p.type.shape], np.nan)
        t = np.asarray(x)
        arrays[p.hint] = t.astype(np.int64 if t.dtype.kind == "i" else np.float64)
    interpret(func, arrays, case.dims)
    for name, want in case.want.items():
        off = np.linalg.norm(arrays[name] - want)
        assert off <= case.near * np.linalg.norm(want), name


@pytest.mark.parametrize("name", ALL)
def test_on_this_processor(name):
    launches.on_cpu(ALL[name])


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=SLOW) for n in ALL])
def test_cuda(name):
    launches.on_cuda(ALL[name])


@SLOW
@pytest.mark.parametrize("name", ALL)
def test_triton(name):
    pytest.importorskip("triton")
    launches.on_triton(ALL[name])
