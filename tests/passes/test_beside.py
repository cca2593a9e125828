"""Products that read the same as one grid: with the same results, and only where none waits."""

from __future__ import annotations

import emulated
import numpy as np
import pytest
import triton_ptx
from fused import grids, program, ran, random
from launches import Case
from program_launches import case
from sparse_kernels import normal

import tilec as tc
from tilec.cuda import Schedule
from tilec.ir.verify import verify
from tilec.passes.beside import beside
from tilec.passes.fuse import fuse
from tilec.passes.pad import pad
from tilec.passes.tile import tile
from tilec.triton import Schedule as Programs
from tilec.triton import triton_source

SLOW = pytest.mark.slow
DIMS = dict(M=5, K=6, N=40, P=9)
TEXTS = {
    "of one input": ("program f(x: f32[M, K], a: f32[N, K], b: f32[P, K], c: f32[K, K]) {"
                     "return (x @ a.T, x @ b.T, x @ c.T) }", 3, 1),
    "with what follows": ("program f(x: f32[M, K], a: f32[N, K], b: f32[P, K]) {"
                          "return (silu(x @ a.T), rms_norm(x, 1.0) @ b.T) }", 2, 1),
    "one reads another": ("program f(x: f32[M, K], a: f32[N, K], b: f32[P, N]) {"
                          "y = x @ a.T\n return (y, y @ b.T) }", 2, 2),
    "nothing in common": ("program f(x: f32[M, K], y: f32[M, N], a: f32[N, K], b: f32[P, N]) {"
                          "return (x @ a.T, y @ b.T) }", 2, 2),
    "no product": ("program f(x: f32[M, K], a: f32[N, K]) { return (x @ a.T, exp(x)) }", 2, 2),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_grids_beside_each_other_are_one(name: str):
    text, before, after = TEXTS[name]
    func = pad(tile(fuse(program(text, **DIMS)), rows=16, columns=16, depth=16))
    made = beside(func, kernels=4)
    verify(made)
    assert (grids(func), grids(made)) == (before, after)
    given = random(func, DIMS)
    want, got = ran(func, given, DIMS), ran(made, given, DIMS)
    assert all(np.array_equal(want[n], got[n]) for n in given)


def test_as_many_as_are_asked_for():
    func = pad(tile(fuse(program(TEXTS["of one input"][0], **DIMS)), rows=16, columns=16, depth=16))
    assert [grids(beside(func, kernels=n)) for n in (0, 1, 2, 3)] == [3, 3, 2, 1]
    with pytest.raises(tc.TileError, match="beside: -1 kernels, expected 1 or more, or 0"):
        beside(func, kernels=-1)


@tc.program
def heads(
    x: tc.Tensor["M", "K"], gain: tc.Tensor["K"], q: tc.Tensor["N", "K"], k: tc.Tensor["P", "K"],
    v: tc.Tensor["P", "K"],
):  # fmt: skip
    """Queries, and keys and values of fewer heads."""
    h = tc.rms_norm(x, gain)
    return (h @ q.T).to(x.dtype), (h @ k.T).to(x.dtype), (h @ v.T).to(x.dtype)


def projected() -> Case:
    """Weights in int4."""
    x, gain = normal(5, 96).astype(np.float32), normal(96, seed=1).astype(np.float32)
    w = [tc.quantize(normal(n, 96, seed=s), "int4<group=32>")
         for s, n in enumerate((200, 72, 72))]  # fmt: skip
    z = x.astype(np.float64)
    z = z / np.sqrt((z * z).mean(1, keepdims=True) + 1e-6) * gain
    want = tuple(z @ a.dequantize().astype(np.float64).T for a in w)
    given = {"x": x, "gain": gain, "q": w[0], "k": w[1], "v": w[2]}
    return case("heads", heads, given, want, 2e-6)


@pytest.mark.parametrize("persist", [0, pytest.param(3, marks=SLOW)])
def test_cuda(persist: int):
    made = projected()
    schedule = Schedule(beside=3, persist=persist)
    code = emulated.program_of(made.kernel, made.types, made.dims, schedule)
    assert [x.blocks for x in code.source.launches] == [persist or 6]
    arguments = made.arguments()
    emulated.run(code, arguments)
    made.check(arguments)


@SLOW
def test_triton():
    pytest.importorskip("triton")
    made = projected()
    source = triton_source(made.kernel.definition, made.dims, made.types, Programs(beside=3))
    assert len(source.launches) == 1
    arguments, given = made.arguments(), dict[str, object]()
    for name, x in arguments.items():
        packed = isinstance(x, tc.PackedTensor)
        given |= triton_ptx.in_memory(source, name, x) if packed else {name: x}
    report = triton_ptx.executed(source, given)  # type: ignore[arg-type]
    assert report.clean, report
    made.check(arguments)
