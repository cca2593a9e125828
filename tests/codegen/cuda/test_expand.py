"""Bitmaps in CUDA: tiles expanded in registers, by counting the ones before a thread's pairs."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from emulated import poisoned, program_of, run
from lang import kernels
from mutations import WRONG, Case, broken, outcome
from sparse_products import counted

import tilec as tc
from tilec.codegen.cuda.headers import device_headers
from tilec.cuda import Program, Schedule, in_memory
from tilec.ir.named import named
from tilec.runtime.nvrtc import compile_cuda
from tilec.runtime.tensor import PackedTensor
from tilec.sass import stats_of
from tilec.sass.budget import Budget

F16 = "bitmap<f16>"


def half(text: str, n: int, k: int) -> PackedTensor:
    """Small whole numbers, of which about half are 0, and some rows all."""
    kept = np.random.default_rng(n).random((n, k)) < 0.56
    kept[n // 3 : n // 3 + 5] = False
    kept[n // 2] = True
    return tc.quantize(counted("f32", n, k).astype(float) * kept, text, search=False)


def product(w: PackedTensor, m: int, schedule: Schedule | None = None, **tiles: int) -> Program:
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    dims = {"M": m, "N": w.shape[0], "K": w.shape[1]}
    return program_of(kernels.linear, types, dims, schedule, **tiles)


@pytest.mark.parametrize(("text", "dims", "choices", "tiles"), [
    (F16, (16, 64, 128), {}, {}), (F16, (70, 100, 300), {}, {}), (F16, (3, 33, 37), {}, {}),
    (F16, (70, 100, 300), {}, {"k": 48}), (F16, (70, 100, 300), {"swap": "always"}, {}),
    (F16, (16, 256, 320), {"threads": 256, "stages": 1}, {"n": 256}),
    ("bitmap<bf16>", (70, 100, 300), {"split": 2}, {}), ("bitmap<e4m3>", (70, 100, 300), {}, {}),
    (F16, (64, 128, 320), {"instruction": "wgmma", "swap": "always"}, {}),
])  # fmt: skip
def test_linear(text, dims, choices, tiles):
    """Exact, at edges too; a row without ones, and one without zeros."""
    (m, n, k), w = dims, half(text, *dims[1:])
    program = product(w, m, Schedule(**choices), **tiles)
    assert "expand<" in program.source.text
    x, y = counted("f16", m, k), poisoned((m, n), tc.f32)
    run(program, {"x": x, "w": w, "y": y})
    assert np.array_equal(y, x.astype(float) @ w.dequantize().astype(float).T)


@pytest.mark.parametrize(("text", "missing"), [
    ("bitmap<f32>", "values in f16, bf16 or fp8, not in f32"),
    ("bitmap<int4<group=16>>",
     "values in f16, bf16 or fp8, not in int4<group=16, scale=f16>"),
])  # fmt: skip
def test_what_is_missing(text, missing):
    program = product(half(text, 64, 128), 16)
    assert "expand<" not in program.source.text
    (found,) = (r for r in program.func.remarks if r.origin == "expand-masks")
    assert (found.missing, found.loc is None) == (missing, False)


def test_budget():
    """Instructions of the main loop for a stored value of 50 %: a thread has 64 elements a step,
    and half of them are stored. The gather element by element takes 55, and spills."""
    types = {"x": tc.f16, "w": named("bitmap<f16, 1056>"), "y": tc.f32}
    program = program_of(kernels.linear, types, {"M": 16, "N": 512, "K": 2048},
                         Schedule(threads=256), m=16, n=256, k=64)  # fmt: skip
    for target in ("sm_80", "sm_90a"):
        build = compile_cuda(program.source.text, target, headers=device_headers())
        (stats,) = stats_of(build.cubin, dynamic_shared=program.source.launches[0].shared)
        Budget(registers=255).check(stats)
        assert stats.loop is not None
        steps = stats.loop.count("HMMA") / 16
        assert stats.loop.instructions / (steps * 64 / 2) < 19


@cache
def case() -> Case:
    w = half(F16, 128, 256)
    program = product(w, 32, Schedule(tiles={"m": 32, "n": 128, "k": 64}))
    x = counted("f16", 32, 256)
    given = {"x": x} | in_memory(program, w.format, w.parts(), w.shape, "w")
    return program, given, x.astype(float) @ w.dequantize().astype(float).T


@pytest.mark.parametrize(("old", "new", "found"), [
    ("w_start + word", "w_start + word / 2 * 2", WRONG),
    ("w_mask + word", "w_mask + (word ^ 1)", WRONG),
    ("above % 32, true", "0, true", WRONG),
    ("u32(row) *", "u32(row + 1) *", WRONG),
    ("u64(row) * 8", "u64(row) * 9", "out-of-bounds"),
    ("+ above / 32", "", WRONG),
])  # fmt: skip
def test_what_is_broken_is_found(old, new, found):
    assert outcome(case()) == set()
    assert found in outcome(broken(case(), old, 0, new))
