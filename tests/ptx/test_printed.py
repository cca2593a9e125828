"""The PTX of printed CUDA, run as PTX: it does what the same source does under emulation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from emulated import Given, poisoned, program_of
from emulated import run as emulated
from lang import kernels
from sparse_products import counted, product, pruned

import tilec as tc
from tilec.codegen.cuda.headers import device_headers
from tilec.codegen.cuda.lines import pinned
from tilec.compile import Kernel
from tilec.cuda import Program, in_memory, schedule_of
from tilec.ir.dtype import Array
from tilec.ir.extent import number
from tilec.lang.text import load as load_tile
from tilec.lang.text import parse
from tilec.ptx import Report, TensorMap, load
from tilec.runtime.nvrtc import compile_cuda
from tilec.runtime.tensor import PackedTensor
from tilec.runtime.tensor_map import tensor_maps

LAYERNORM = Path(__file__).parents[2] / "examples" / "layernorm.tile"


@tc.kernel
def ranked(x: tc.Tensor["M", "N"], best: tc.Tensor["N"], low: tc.Tensor["N"]):
    for n in tc.tiles("N"):
        a = x[:, n]
        best[n] = tc.argmax(a, axis=0)
        low[n] = tc.min(a, axis=0)


def ptx_of(program: Program, target: str) -> str:
    """The PTX of a program."""
    return compile_cuda(pinned(program.source.text), target, headers=device_headers()).ptx


def run_ptx(program: Program, given: Mapping[str, Array | float], ptx: str) -> list[Report]:
    """Run the PTX of a program on what it would be given under emulation."""
    named = {p.hint.replace(".", "_"): given[p.hint] for p in program.func.params}
    dims = {n: int(given[n]) for n in program.source.dims}
    module, reports = load(ptx), list[Report]()
    for k in program.source.launches:
        maps = [
            TensorMap(m.array, m.box, m.swizzle) for m in tensor_maps(k.boxes, named, dims).values()
        ]
        values = [*named.values(), *dims.values(), *maps]
        blocks = number(k.blocks, dims)
        reports.append(module.run(k.entry, blocks, k.threads, values, shared=k.shared))
    return reports


def same(program: Program, given: Mapping[str, Given], result: str, target: str) -> list[Report]:
    """Run both ways on a poisoned result: nothing is found, and both are equal to the bit."""
    arrays: dict[str, Array | float] = {}
    for name, x in given.items():
        if isinstance(x, PackedTensor):
            arrays |= in_memory(program, x.format, x.parts(), x.shape, name)
        else:
            arrays[name] = x
    poison = np.asarray(given[result])
    results = poison.copy(), poison.copy()
    emulated(program, {**arrays, result: results[0]})
    reports = run_ptx(program, {**arrays, result: results[1]}, ptx_of(program, target))
    for report in reports:
        assert report.clean, str(report)
    a, b, before = (x.view(np.uint8) for x in (*results, poison))
    assert not np.array_equal(a, before)
    assert np.array_equal(a, b)
    return reports


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_dense_linear(target):
    """cp.async, ldmatrix, mma; M is given at the launch."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float16) for s in ((40, 128), (64, 128)))
    types = {"x": tc.f16, "w": tc.f16, "y": tc.f32}
    program = program_of(kernels.linear, types, {"N": 64, "K": 128})
    given = {"x": x, "w": w, "y": poisoned((40, 64), tc.f32), "M": 40}
    (report,) = same(program, given, "y", target)
    names = " ".join(r.text for r in report.rows)
    assert all(n in names for n in ("cp.async.cg", "ldmatrix.sync", "mma.sync.aligned.m16n8k16"))
    many, ideal = report.wavefronts
    assert many == ideal


@pytest.mark.parametrize(("text", "x", "target", "schedule", "instruction"), [
    ("nm<2, 4, f16>", "f16", "sm_80", "m=16", "mma.sp::ordered_metadata.sync.aligned.m16n8k32"),
    ("nm<2, 4, i8>", "i8", "sm_90a", "m=16", "mma.sp::ordered_metadata.sync.aligned.m16n8k64"),
    ("nm<2, 4, int4<group=32>>", "f16", "sm_80", "m=16", "mma.sp::ordered_metadata"),
    ("nm<2, 4, f16>", "f16", "sm_90a", "instruction=wgmma,k=128", "wgmma.mma_async.sp"),
    ("nm<2, 4, i8>", "i8", "sm_90a", "instruction=wgmma,k=128", "wgmma.mma_async.sp"),
    ("nm<2, 4, e4m3>", "e4m3", "sm_90a", "instruction=wgmma,k=256", "wgmma.mma_async.sp"),
])  # fmt: skip
def test_sparse_linear(text, x, target, schedule, instruction):
    """Places of both selectors, in the order of fragments."""
    chosen, (m, n, k) = schedule_of(schedule), (40, 72, 320)
    program = product(text, x, (m, n, k), chosen)
    given = {"x": counted(x, m, k), "w": pruned(text, n, k)}
    out = poisoned((m, n), tc.i32 if x == "i8" else tc.f32)
    same(program, given | {"y": out}, "y", target)
    assert instruction in ptx_of(program, target)


def test_a_missing_barrier_is_found_at_the_line_of_the_program():
    x = np.random.default_rng(0).standard_normal((70, 33)).astype(np.float32)
    program = program_of(ranked, {"x": tc.f32, "best": tc.i32, "low": tc.f32}, {"M": 70, "N": 33})
    given = {"x": x, "best": poisoned((33,), tc.i32), "low": poisoned((33,), tc.f32)}
    text = ptx_of(program, "sm_80")
    assert text.count("bar.sync") >= 2
    (report,) = run_ptx(program, given, re.sub(r"(?m)^.*bar\.sync.*$", "", text))
    races = report.of_kind("race")
    assert races
    lines = Path(__file__).read_text().splitlines()
    said = {lines[at.line - 1].strip() for f in races for at in f.place.source
            if at.file == __file__}  # fmt: skip
    assert said <= {"best[n] = tc.argmax(a, axis=0)", "low[n] = tc.min(a, axis=0)"}
    assert said


@pytest.mark.parametrize("chosen", ["copies=bulk", "copies=bulk,specialise=1",
                                    "copies=bulk,specialise=4,instruction=wgmma",
                                    "instruction=wgmma,copies=bulk"])  # fmt: skip
def test_dense_linear_by_the_copy_unit(chosen):
    """TMA and mbarriers, warps that only copy, wgmma."""
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s).astype(np.float16) for s in ((72, 256), (64, 256)))
    types = {"x": tc.f16, "w": tc.f16, "y": tc.f32}
    dims = {"M": 72, "N": 64, "K": 256}
    program = program_of(kernels.linear, types, dims, schedule_of(chosen))
    (report,) = same(program, {"x": x, "w": w, "y": poisoned((72, 64), tc.f32)}, "y", "sm_90a")
    names = " ".join(r.text for r in report.rows)
    assert "cp.async.bulk.tensor" in names
    assert ("wgmma.mma_async" in names) == ("wgmma" in chosen)


@pytest.mark.parametrize("text", ["int4<group=64>", "uint4<group=64, zero=int>", "int3<group=32>"])
def test_quantised_linear(text):
    """Codes in fragment order by lop3, and such as are decoded one by one."""
    rng = np.random.default_rng(1)
    w = tc.quantize(rng.standard_normal((64, 128)), text, search=False)
    x = rng.standard_normal((16, 128)).astype(np.float16)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    program = program_of(kernels.linear, types, {"M": 16, "N": 64, "K": 128})
    same(program, {"x": x, "w": w, "y": poisoned((16, 64), tc.f32)}, "y", "sm_80")


def test_softmax():
    x = np.random.default_rng(2).standard_normal((9, 300)).astype(np.float32)
    program = program_of(kernels.softmax, {"x": tc.f32, "y": tc.f32}, {"M": 9, "N": 300})
    same(program, {"x": x, "y": poisoned((9, 300), tc.f32)}, "y", "sm_80")


def test_layer_norm():
    """With a number as an argument."""
    rng = np.random.default_rng(3)
    x, gain, bias = (rng.standard_normal(s).astype(np.float32) for s in ((5, 200), 200, 200))
    given = {"x": x, "gain": gain, "bias": bias, "y": poisoned((5, 200), tc.f32), "eps": 1e-5}
    program = program_of(Kernel(load_tile(LAYERNORM)["layernorm"]), {}, {"M": 5, "N": 200})
    same(program, given, "y", "sm_80")


@pytest.mark.parametrize("result", ["best", "low"])
def test_reductions_of_columns(result):
    """Through shared memory, and over warps."""
    x = np.random.default_rng(4).standard_normal((70, 33)).astype(np.float32)
    program = program_of(ranked, {"x": tc.f32, "best": tc.i32, "low": tc.f32}, {"M": 70, "N": 33})
    given = {"x": x, "best": poisoned((33,), tc.i32), "low": poisoned((33,), tc.f32)}
    same(program, given, result, "sm_80")


CASTS = """kernel narrowed(x: f16[M, N], y: {t}[M, N], s: f32) {{
  for m, n in tiles(M, N) {{ y[m, n] = cast(exp(cast(x[m, n], f32)) * s, {t}) }}
}}
"""


@pytest.mark.parametrize(("t", "target"), [("e4m3", "sm_80"), ("e4m3", "sm_89"), ("e5m2", "sm_89"),
                                           ("i8", "sm_80"), ("bf16", "sm_80")])  # fmt: skip
def test_casts_to_narrow_types(t, target):
    x = np.random.default_rng(5).standard_normal((8, 96)).astype(np.float16)
    program = program_of(Kernel(parse(CASTS.format(t=t))["narrowed"]), {}, {"M": 8, "N": 96})
    given = {"x": x, "y": poisoned((8, 96), getattr(tc, t)), "s": 0.75}
    same(program, given, "y", target)
