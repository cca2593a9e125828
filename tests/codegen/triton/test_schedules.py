"""Schedules of a product: the same result from PTX, and what they make of machine code."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from emulated import far
from lang import kernels

import tilec as tc
from tilec.ir.errors import TileError
from tilec.ir.named import named
from tilec.ir.source import KernelSource
from tilec.lang.text import parse
from tilec.runtime.triton import interpreted
from tilec.triton import Schedule, schedule_of, triton_source

pytest.importorskip("triton")
from triton_ptx import executed, multiplied

SCHEDULES = (
    "warps=8", "swap=small", "swap=always", "swap=never,stages=1", "split=3", "stream=5",
    "persist=3", "swizzle=1", "swizzle=1,persist=3,stages=2", "swap=small,split=3,warps=2",
    "swap=always,swizzle=1,stream=7", "m=48,n=24,k=80", "m=48,k=80,persist=2",
    "m=128,n=128,k=32,swizzle=2",
)  # fmt: skip
SHAPES = ((1, 67, 301), (16, 128, 256), (200, 67, 300))  # M, N, K


def cases() -> list[object]:
    """Every schedule on every shape and format; with the fast tests two."""
    found: list[object] = []
    for i, schedule in enumerate(SCHEDULES):
        for j, shape in enumerate(SHAPES):
            for k, text in enumerate(("f16", "int4<group=128>")):
                fast = (i, j, k) in ((4, 2, 0), (8, 2, 0))
                marks = [] if fast else pytest.mark.slow
                found.append(pytest.param(schedule, shape, text, marks=marks))
    return found


def linear(schedule: str, shape: tuple[int, int, int], text: str = "f16") -> KernelSource:
    types = {"x": tc.f16, "w": named(text), "y": tc.f32}
    dims = dict(zip("MNK", shape, strict=True))
    return triton_source(kernels.linear.definition, dims, types, schedule_of(schedule))


@pytest.mark.parametrize(("schedule", "shape", "text"), cases())
def test_equals_numpy(schedule: str, shape: tuple[int, int, int], text: str):
    """Dense numbers are whole, so that every sum is exact."""
    m, n, k = shape
    dims, rng = {"M": m, "N": n, "K": k}, np.random.default_rng(n)
    chosen = schedule_of(schedule)
    if text == "f16":
        x, w = (rng.integers(-4, 5, size).astype(np.float16) for size in ((m, k), (n, k)))
        y = multiplied(kernels.linear, dims, (m, n), chosen, x=x, w=w)
        assert np.array_equal(y, x.astype(float) @ w.astype(float).T)
        return
    x = rng.standard_normal((m, k)).astype(np.float16)
    w = tc.quantize(rng.standard_normal((n, k)), text, search=False)
    y = multiplied(kernels.linear, dims, (m, n), chosen, x=x, w=w)
    assert far(y, x.astype(float) @ w.dequantize().astype(float).T) < 5e-7


@pytest.mark.parametrize("schedule", ["split=3", pytest.param("stream=5", marks=pytest.mark.slow)])
def test_the_launcher_makes_memory(schedule: str):
    """In Triton's interpreter, which runs all of the source."""
    shape = m, n, k = 20, 67, 301
    rng = np.random.default_rng(7)
    x, w = (rng.integers(-4, 5, size).astype(np.float16) for size in ((m, k), (n, k)))
    source = linear(schedule, shape)
    assert source.text.count("torch.empty((") == 1
    assert [p.kind for p in source.params] == ["tensor", "tensor", "tensor", "own"]
    found = interpreted(source, {"x": x, "w": w, "y": np.full((m, n), np.nan, np.float32)})["y"]
    assert np.array_equal(found, x.astype(float) @ w.astype(float).T)


def test_parts_have_programs_of_their_own():
    """2 x 3 tiles of 10 steps: 4 parts of each tile; 7 programs that share 60 steps; 4 of them."""
    shape = (20, 130, 640)
    launches = {s: [k.blocks for k in linear(s + ",m=16,n=64", shape).launches]
                for s in ("split=4", "stream=7", "persist=4", "swizzle=2")}  # fmt: skip
    assert launches == {"split=4": [24, 6], "stream=7": [7, 6], "persist=4": [4], "swizzle=2": [6]}


def test_warps_and_stages():
    """4 warps, or 8 for large tiles, unless given; stages only where there is a loop."""
    for tiles, warps in (("m=64,n=64", 4), ("m=128,n=128", 8), ("m=64,n=64,warps=16", 16)):
        source = linear(tiles, (256, 256, 256))
        assert [k.threads for k in source.launches] == [32 * warps]
        assert f"num_warps={warps}, num_stages=3" in source.text
    assert "num_stages=5" in linear("stages=5", (64, 64, 64)).text


def test_many_tiles_are_large():
    """From one for each multiprocessor on, of dense operands of 16 bits."""
    few, many = linear("", (1024, 2048, 512)), linear("", (4096, 4096, 512))
    assert [(k.blocks, k.threads) for k in few.launches] == [(512, 128)]
    assert [(k.blocks, k.threads) for k in many.launches] == [(1024, 256)]
    pinned = linear("m=64,n=32", (4096, 4096, 512))
    assert [k.blocks for k in pinned.launches] == [64 * 128]
    decoded = linear("", (4096, 4096, 512), "int4<group=128>")
    assert [k.blocks for k in decoded.launches] == [64 * 64]


def test_a_schedule_as_text():
    assert schedule_of("") == Schedule()
    found = schedule_of("warps=8, swap=small,m=16,split=4")
    assert found == Schedule(warps=8, swap="small", split=4, tiles={"m": 16})


@pytest.mark.parametrize(("text", "message"), [
    ("m", "a schedule: 'm' is not CHOICE=VALUE or TILE=NUMBER"), ("warps=8,warps=4", "given twice"),
    ("swap=often", "swap is 'often', expected never or small or decoded or always"),
    ("warps=6", "warps is 6, expected a power of two"),
])  # fmt: skip
def test_no_schedule(text: str, message: str):
    with pytest.raises(TileError, match=message):
        schedule_of(text)


def test_descriptors_need_hopper():
    with pytest.raises(TileError, match="descriptors=1 needs sm_90 or later, not sm_80"):
        schedule_of("descriptors=1").check("sm_80")


READ_TWICE = """kernel f(x: bf16[M, K], w: bf16[64, K], most: f32[M, K], y: f32[M, 64]) {
  for m in tiles(M) {
    acc = zeros(f32, [m, 64])
    for k in tiles(K, block=64) {
      own = x[m, k]
      most[m, k] = abs(f32(own))
      acc += dot(own, w[:, k].T)
    }
    y[m, :] = acc
  }
}"""


def test_a_tile_that_more_than_products_read_is_not_copied_ahead():
    """The product of a warp group would still read what the copies of a later step overwrite."""
    (f,) = parse(READ_TWICE).values()
    dims = {"M": 64, "K": 512}
    source = triton_source(f, dims)
    assert [k.stages for k in source.launches] == [1]
    assert "num_stages=1" in source.text
    (alone,) = parse(READ_TWICE.replace("      most[m, k] = abs(f32(own))\n", "")).values()
    assert [k.stages for k in triton_source(alone, dims).launches] == [3]


@pytest.mark.slow
@pytest.mark.parametrize("stages", [1, 3])
def test_triton_has_a_buffer_too_few_for_it(stages: int):
    """When this fails with 3 stages, Triton has been put right and the guard can go."""
    (f,) = parse(READ_TWICE).values()
    rng = np.random.default_rng(0)
    x, w = (rng.integers(-4, 5, (64, 512)).astype(ml_dtypes.bfloat16) for _ in range(2))
    source = triton_source(f, {"M": 64, "K": 512})
    launches = tuple(replace(k, stages=stages) for k in source.launches)
    y, most = np.zeros((64, 64), np.float32), np.zeros((64, 512), np.float32)
    report = executed(replace(source, launches=launches), {"x": x, "w": w, "most": most, "y": y})
    assert [f.kind for f in report.grouped()] == ([] if stages == 1 else ["in-flight"])
    assert np.array_equal(y, x.astype(float) @ w.astype(float).T)
