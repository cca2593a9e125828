"""Main loops of the suite's attention, experts and bytes: which instructions, and how many."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tilec.bench.gpu import CASES
from tilec.bench.gpu.case import Way
from tilec.bench.gpu.dry import Tried, tried

WGMMA = "threads=128,instruction=wgmma"
BULK = "threads=256,stages=4,copies=bulk,specialise=4,instruction=wgmma,overlap=1"


def made(name: str, schedule: str) -> Tried:
    """A case made by CUDA, run at its reduced size with every check on."""
    (case,) = (c for c in CASES if c.name == name)
    found = tried(replace(case, ways=()), Way("cuda", schedule))
    assert found.state in ("ok", "slow"), found.wrong
    assert found.judged is not None
    assert (found.judged.spills, found.judged.stack) == (0, 0)
    return found


@pytest.mark.parametrize(("name", "schedule", "mma", "most"), [
    ("prefill d64 bf16 causal 16k", f"{WGMMA},m=64,k=64",
     {"HGMMA.64x64x16.F32.BF16.RS": 8}, 131),
    pytest.param("prefill d128 bf16 causal 16k", f"{WGMMA},m=64,k=64",
                 {"HGMMA.64x64x16.F32.BF16.RS": 8, "HGMMA.64x128x16.F32.BF16.RS": 4}, 96,
                 marks=pytest.mark.slow),
    # 64 x 256 sums of one group are 522 spills: two groups have half of the columns each
    pytest.param("prefill d256 bf16 causal 16k", "threads=256,instruction=wgmma,m=64,k=64",
                 {"HGMMA.64x32x16.F32.BF16.RS": 16, "HGMMA.64x128x16.F32.BF16.RS": 4}, 42,
                 marks=pytest.mark.slow),
    pytest.param("prefill d64 bf16 causal 16k", f"{WGMMA},copies=bulk,specialise=4,m=64,k=64",
                 {"HGMMA.64x64x16.F32.BF16.RS": 8}, 140, marks=pytest.mark.slow),
    ("moe bf16 T4096 E32;2048,7168", f"{WGMMA},stages=4,n=128,k=64",
     {"HGMMA.64x128x16.F32.BF16": 4}, 32),
    ("moe fp8 T4096 E32;2048,7168", f"{WGMMA},stages=4,n=128,k=128",
     {"QGMMA.64x128x32.F32.E4M3.E4M3": 4}, 48),
    pytest.param("fp8 rowwise 4096;28672,4096", f"{BULK},m=128,n=128,k=128",
                 {"QGMMA.64x128x32.F32.E4M3.E4M3": 4}, 28, marks=pytest.mark.slow),
    ("w8a8 4096;8192,8192", f"{BULK},m=128,n=128,k=128", {"IGMMA.64x128x32.S8.S8": 4}, 12),
])  # fmt: skip
def test_products_of_warp_groups(name: str, schedule: str, mma: dict[str, int], most: float):
    """Operands in rings, nothing spilled, and at most so many instructions for each."""
    judged = made(name, schedule).judged
    assert judged is not None
    assert dict(judged.mma) == mma
    assert judged.per_mma is not None
    assert judged.per_mma <= most
    assert judged.bulk or judged.moves["ldgsts"].keys() == {16}


@pytest.mark.parametrize(("name", "schedule", "mma", "most"), [
    ("decode bf16 B64 8k", "threads=128,s=64", "HMMA.16816.F32.BF16", 29),
    ("moe bf16 T4096 E32;2048,7168", "threads=256,n=128,k=64", "HMMA.16816.F32.BF16", 2.7),
    ("moe w4 T64 E128;2*768,2048", "threads=256,n=128,k=128", "HMMA.16816.F32.BF16", 9.4),
    # what is decoded to f32 is the sum of 16-bit floats, with a product for each
    ("decode kv4 B64 8k", "threads=128,s=64", "HMMA.16816.F32.BF16", 43),
    ("fp6 planes 16;28672,7168", "threads=256,m=16,n=64,k=128", "HMMA.16816.F32", 47),
    pytest.param("nf4a16 1;8192,8192", "threads=256,m=16,n=256,k=64,split=4", "HMMA.16816.F32", 18,
                 marks=pytest.mark.slow),
    pytest.param("int8 q k, fp8 v 16k", "threads=128,m=64,n=64", "IMMA.16832.S8.S8", 26,
                 marks=pytest.mark.slow),
])  # fmt: skip
def test_products_of_warps(name: str, schedule: str, mma: str, most: float):
    """Keys, values, gathered rows and codes of experts come by copies of 16 bytes that later steps
    wait for."""
    judged = made(name, schedule).judged
    assert judged is not None
    assert mma in judged.mma
    assert judged.per_mma is not None
    assert judged.per_mma <= most
    assert judged.moves["ldgsts"].keys() == {16}
