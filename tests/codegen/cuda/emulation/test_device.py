"""What runs on the host also compiles for devices: each kernel for each target that it is for,
without a spill and without a complaint of the assembler."""

from __future__ import annotations

import re
from collections.abc import Sequence

import cuda_kernels as kernels
import pytest
from cuda_kernels import Case
from cuda_products import LAYOUTS, PRODUCTS
from cuda_statements import CHOICE, ORDER, PLACES, WARP, source

from tilec.codegen.cuda.headers import device_headers
from tilec.codegen.cuda.wgmma import device_wgmma
from tilec.ir.errors import TileError
from tilec.runtime.nvrtc import CudaBuild, compile_cuda

HEADERS = device_headers()
WHOLE = {
    "gemm_async": kernels.gemm_async(16, 8, 8),
    "gemm_warpgroups": kernels.gemm_warpgroups(128, 64, 64),
    "w4a16": kernels.w4a16(64, 128),
    "w4_warpgroup": kernels.w4_warpgroup(16, 64, 64),
    "sparse": kernels.sparse("sparse_f16", 32, 8, 32),
    "split_k": kernels.split_k(64, 8, 2),
}
COMPILED = [(name, target) for name, case in WHOLE.items() for target in case.targets]


def build(text: str, target: str) -> CudaBuild:
    made = compile_cuda(text, target, headers=HEADERS)
    assert made.cubin[:4] == b"\x7fELF"
    assert made.notes == ()
    assert all(u.stack == u.spill_stores == u.spill_loads == 0 for u in made.usage)
    return made


def together(cases: Sequence[Case]) -> str:
    """All of these kernels in one source, under names of their own."""
    text = f'#include "tilec.cuh"\n{device_wgmma(w for case in cases for w in case.wgmma)}'
    for i, case in enumerate(cases):
        names = [*re.findall(r"#define (\w+) ", case.source), case.entry]
        undefined = "".join(f"#undef {name}\n" for name in names)
        text += f"{undefined}#define {case.entry} {case.entry}{i}\n{case.source}\n"
    return text


@pytest.mark.parametrize(("name", "target"), COMPILED)
def test_whole_kernels(name: str, target: str) -> None:
    build(WHOLE[name].device_source(), target)


@pytest.mark.parametrize("target", kernels.EVERY)
def test_products_of_warps(target: str) -> None:
    cases = [case for case in PRODUCTS.values() if target in case.targets]
    made = build(together(cases), target)
    assert len(made.usage) == len(cases)
    assert len(set(re.findall(r"mma\.sync\S+", made.ptx))) == len(cases)


def test_products_of_warpgroups() -> None:
    cases = list(LAYOUTS.values())
    made = build(together(cases), "sm_90a")
    assert len(made.usage) == len(cases)
    shapes = {(w.n, w.a, w.b) for case in cases for w in case.wgmma}
    assert len(set(re.findall(r"wgmma\.mma_async\S+", made.ptx))) == len(shapes)


@pytest.mark.parametrize("target", kernels.EVERY)
def test_functions(target: str) -> None:
    fp8 = "" if target == "sm_80" else "#define FP8\n"
    build(fp8 + kernels.source("functions"), target)


@pytest.mark.parametrize("target", kernels.EVERY)
def test_moves(target: str) -> None:
    none = "#define NO_STMATRIX\n" if target in ("sm_80", "sm_89") else ""
    made = build(none + kernels.source("memory"), target)
    for hint in ("nc.L1::no_allocate", "L1::evict_first", "L1::evict_last"):
        assert f"ld.global.{hint}.v4.u32" in made.ptx


def test_synchronisation() -> None:
    bodies = [CHOICE.sub(r"\1", body) for body, _ in ORDER.values()]
    texts = [source(body).replace("small(", f"small{i}(") for i, body in enumerate(bodies)]
    build("\n".join([*texts, PLACES, WARP]), "sm_90a")


@pytest.mark.parametrize(
    ("target", "statement", "name"),
    [("sm_80", "y[0] = elect();", "elect"), ("sm_100a", "wgmma_fence();", "wgmma_fence"),
     ("sm_80", "fence_async();", "fence_async"), ("sm_80", "e4m3x2_from_f32(1, 2);", "e4m3x2")],
)  # fmt: skip
def test_what_a_target_lacks_is_not_declared(target: str, statement: str, name: str) -> None:
    with pytest.raises(TileError, match=f'identifier "{name}\\w*" is undefined'):
        compile_cuda(source(statement), target, headers=HEADERS)
