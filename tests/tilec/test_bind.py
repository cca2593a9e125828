"""Kernels and programs that are bound to arguments, results that are given, and keywords."""

# The names in a program have types of the language.
# pyright: basic, reportInvalidTypeForm=false

from __future__ import annotations

import gc
import sys
from typing import Any

import numpy as np
import pytest
import torch

import tilec as tc
from tilec.compile import Kernel
from tilec.program import Program
from tilec.runtime.launch import PythonLauncher


@tc.kernel
def scale(x: tc.Tensor["M", "N"], s: tc.f32, y: tc.Tensor["M", "N"]):
    for m, n in tc.tiles("M", "N"):
        y[m, n] = x[m, n] * s


@tc.program
def both(x: tc.Tensor["M", "K"], w: tc.Tensor["N", "K"]):
    return x @ w.T, x + 1.0


@tc.program
def total(out: tc.Tensor["M"]):
    return tc.sum(out)


class Slow(Program):
    """A program without the native launcher."""

    def _callable(self) -> Any:
        if self._dispatcher is None:
            native = super()._callable()
            self._dispatcher = PythonLauncher().dispatcher(self.name, self.specialised, native.form)
        return self._dispatcher


@pytest.fixture(params=["native", "python"])
def program(request: pytest.FixtureRequest) -> Program:
    return (Program if request.param == "native" else Slow)(both.definition)


def operands(library: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    made = (rng.integers(-3, 4, shape).astype(np.float32) for shape in ((5, 16), (8, 16)))
    return tuple(torch.from_numpy(x) if library is torch else x for x in made)  # type: ignore[return-value]


def check(x: Any, w: Any, results: Any) -> None:
    y, z = (np.asarray(r) for r in results)
    assert np.array_equal(y, np.asarray(x) @ np.asarray(w).T)
    assert np.array_equal(z, np.asarray(x) + 1)


@pytest.mark.parametrize("library", [np, torch])
def test_results_that_are_given(program, library):
    x, w = operands(library)
    for _ in range(2):
        out = library.zeros((5, 8), dtype=x.dtype), library.zeros((5, 16), dtype=x.dtype)
        assert program(x, w, out=out) is out
        check(x, w, out)
        check(x, w, program(w=w, x=x))
        assert program(x, w=w, out=out) is out
    assert [type(r) for r in program(x, w)] == [type(x)] * 2


@pytest.mark.parametrize("library", [np, torch])
def test_a_bound_program(program, library):
    x, w = operands(library)
    bound = program.bind(x, w)
    first = bound()
    check(x, w, first)
    x *= 2
    assert bound() is first
    check(x, w, first)
    assert bound(w=w + 1, x=x - 1) is first
    check(x - 1, w + 1, first)
    out = library.zeros((5, 8), dtype=x.dtype), library.zeros((5, 16), dtype=x.dtype)
    assert program.bind(x, w, out=out)() is out
    check(x, w, out)
    with pytest.raises(tc.TileError, match=r"as argument 1 \(`x`\), called with .* f32\[4, 16\]"):
        bound(x[:4], w)


def test_packed_weights_may_be_others(program):
    x, w = operands(np)
    packed = [tc.quantize(w * s, tc.int8(group=16)) for s in (1, 2)]
    bound = program.bind(x, packed[0])
    for p in (packed[1], packed[0]):
        y, _ = bound(x, p)
        assert np.allclose(y, x @ p.dequantize().T, rtol=1e-6)
    with pytest.raises(tc.TileError, match=r"called with PackedTensor\(int4<group=16"):
        bound(x, tc.quantize(w, tc.int4(group=16)))


def test_what_out_must_be(program):
    x, w = operands(np)
    y, z = np.zeros((5, 8), np.float32), np.zeros((5, 16), np.float32)
    frozen = z.copy()
    frozen.flags.writeable = False
    for out, message in (
        (y, "both has 2 results, `out` has 1"),
        ((y, z, z), "both has 2 results, `out` has 3"),
        ((y, z[:3]), "`result1` has M = 3|dimension M of `result1` is 3"),
        ((y.astype(np.float16), z), "`result0` is f16, expected f32|result0"),
        ((y, frozen), "`result1` is written, but the array is read-only"),
        ((y, z.T.copy().T), "`result1` is not contiguous"),
        ((y, torch.from_numpy(z).to("meta")), "`out` is a tensor on device meta"),
    ):
        with pytest.raises(tc.TileError, match=message):
            program(x, w, out=out)
        with pytest.raises(tc.TileError, match=message):
            program.bind(x, w, out=out)


def test_a_parameter_that_is_called_out():
    x = np.arange(4, dtype=np.float32)
    assert total(out=x) == total(x) == 6.0
    with pytest.raises(tc.TileError, match="total: `out` is given twice"):
        total(x, out=x)


def test_a_kernel_by_keywords_and_bound():
    x, y = np.ones((3, 4), np.float32), np.zeros((3, 4), np.float32)
    kernel = Kernel(scale.definition)
    kernel(x, y=y, s=3.0)
    assert (y == 3).all()
    bound = kernel.bind(x, 5.0, y)
    bound()
    assert (y == 5).all()
    bound(x, 2.0, y)
    assert (y == 2).all()
    with pytest.raises(tc.TileError, match="scale has no parameter `out`; it has x, s, y"):
        kernel(x, 1.0, out=y)
    with pytest.raises(tc.TileError, match="scale: `s` is not given"):
        kernel(x, y=y)
    with pytest.raises(tc.TileError, match="`y` is written, but the array is read-only"):
        kernel.bind(x, 1.0, np.broadcast_to(y, y.shape))


def test_bound_programs_leave_nothing_behind(program):
    x, w = operands(torch)
    out = torch.zeros(5, 8), torch.zeros(5, 16)
    bound, given = program.bind(x, w, out=out), program.bind(x, w)
    calls = (bound, given, lambda: bound(x, w), lambda: program(x, w, out=out))
    grown: list[int] = []
    for _ in range(3):  # the first round fills what is kept for later, such as free lists
        gc.collect()
        before = sys.getallocatedblocks()
        for call in calls:
            for _ in range(300):
                call()
        gc.collect()
        grown.append(sys.getallocatedblocks() - before)
    assert min(grown) < 300  # an object for each call of one kind
