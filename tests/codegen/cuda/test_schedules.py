"""Schedules of a product: the same result under emulation, and what they make of machine code."""

from __future__ import annotations

import re

import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from lang import kernels

import tilec as tc
from tilec.codegen.cuda.headers import device_headers
from tilec.cuda import Program, Schedule, schedule_of
from tilec.ir.dtype import Array
from tilec.ir.errors import TileError
from tilec.ir.named import named
from tilec.ir.ops import machine
from tilec.runtime.nvrtc import CudaBuild, compile_cuda
from tilec.sass.tools import disassembled

SCHEDULES = (
    "swap=small", "swap=always", "split=3", "stream=5", "persist=3", "swizzle=1", "epilogue=shared",
    "hints=reuse", "swap=small,split=3,hints=reuse,epilogue=shared",
    "swap=always,swizzle=1,stream=7,epilogue=shared", "swizzle=1,persist=3,stages=2",
    "instruction=wgmma,swap=small,split=3", "copies=bulk,specialise=4,threads=128,split=3",
    "copies=bulk,instruction=wgmma,swizzle=1,persist=3,epilogue=shared,hints=reuse",
)  # fmt: skip
SHAPES = ((1, 67, 301), (16, 128, 256), (200, 67, 300))  # M, N, K
TARGETS = ("sm_80", "sm_90a")


def cases() -> list[object]:
    """Every schedule on every shape and format; with the fast tests one of each."""
    formats = ("f16", "int4<group=128>")
    found: list[object] = []
    for i, schedule in enumerate(SCHEDULES):
        for j, shape in enumerate(SHAPES):
            for k, text in enumerate(formats):
                fast = (i + j) % 3 == 0 and (i + k) % 2 == 0
                marks = [] if fast else pytest.mark.slow
                found.append(pytest.param(schedule, shape, text, marks=marks))
    return found


def linear(schedule: str, shape: tuple[int, int, int], text: str, y: object = tc.f32) -> Program:
    types = {"x": tc.f16, "w": named(text), "y": y}
    return program_of(kernels.linear, types, dict(zip("MNK", shape, strict=True)),
                      schedule_of(schedule))  # fmt: skip


@pytest.mark.parametrize(("schedule", "shape", "text"), cases())
def test_equals_numpy(schedule: str, shape: tuple[int, int, int], text: str):
    """Dense numbers are whole, so that every sum is exact."""
    m, n, k = shape
    rng = np.random.default_rng(n)
    y = poisoned((m, n), tc.f32)
    if text == "f16":
        x, w = (rng.integers(-4, 5, size).astype(np.float16) for size in ((m, k), (n, k)))
        run(linear(schedule, shape, text), {"x": x, "w": w, "y": y}, order=3)
        assert np.array_equal(y, x.astype(float) @ w.astype(float).T)
        return
    x = rng.standard_normal((m, k)).astype(np.float16)
    packed = tc.quantize(rng.standard_normal((n, k)), text, search=False)
    run(linear(schedule, shape, text), {"x": x, "w": packed, "y": y}, order=3)
    assert far(y, x.astype(float) @ packed.dequantize().astype(float).T) < 5e-7


@pytest.mark.parametrize("schedule", ["split=3", "stream=5", "stream=5,persist=2"])
def test_the_order_of_blocks_does_not_matter(schedule: str):
    """To the bit, on numbers whose sums are rounded."""
    m, n, k = shape = (20, 130, 640)
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal(size).astype(np.float16) for size in ((m, k), (n, k)))
    program, found = linear(schedule, shape, "f16"), list[Array]()
    for order in (0, 1, 2):
        y = poisoned((m, n), tc.f32)
        run(program, {"x": x, "w": w, "y": y}, order)
        found.append(y)
    assert far(found[0], x.astype(float) @ w.astype(float).T) < 1e-6
    assert all(np.array_equal(found[0], y) for y in found[1:])


def test_parts_have_blocks_of_their_own():
    """2 x 3 tiles of 10 steps: 4 parts of each tile; 7 blocks that share 60 steps; 4 of them."""
    shape = (20, 130, 640)
    m16 = ",m=16,n=64"
    launches = {s: [k.blocks for k in linear(s + m16, shape, "f16").source.launches]
                for s in ("split=4", "stream=7", "persist=4", "swizzle=2")}  # fmt: skip
    assert launches == {"split=4": [24, 6], "stream=7": [7, 6], "persist=4": [4], "swizzle=2": [6]}


def built(program: Program, target: str) -> tuple[CudaBuild, str]:
    build = compile_cuda(program.source.text, target, headers=device_headers())
    return build, disassembled(build.cubin, "-c")


@pytest.mark.parametrize(("target", "schedule", "t"), [
    ("sm_80", "epilogue=shared", tc.f32), ("sm_90a", "epilogue=shared", tc.f16),
    ("sm_90a", "epilogue=shared,instruction=wgmma,m=64", tc.f32),
    ("sm_80", "swap=small,epilogue=shared", tc.f16),
])  # fmt: skip
def test_results_are_stored_in_16_bytes(target: str, schedule: str, t: object):
    rows = 16 if "swap" in schedule else 64
    _, listing = built(linear(schedule, (rows, 256, 512), "f16", t), target)
    assert set(re.findall(r"\bSTG\.\S+", listing)) == {"STG.E.128"}


def test_rows_of_odd_length_are_stored_an_element_at_a_time():
    """A thread has one element of each row, so that those of a warp are beside each other."""
    program = linear("epilogue=shared", (64, 67, 256), "f16")
    assert "store<1>(y" in program.source.text
    converts = [op for op in program.func.walk() if isinstance(op, machine.Convert)]
    assert str(converts[-1].layout) == "local(32, 1).spatial(2, 64)"


@pytest.mark.parametrize("target", TARGETS)
def test_hints_are_in_the_machine_code(target: str):
    """w is read once, x by every block. Copies take a policy; loads say it in their name."""
    build, listing = built(linear("hints=reuse", (16, 256, 2048), "f16"), target)
    assert {"evict_first", "evict_last"} == set(
        re.findall(r"createpolicy\S+L2::(\w+)\.", build.ptx)
    )
    assert "L2::cache_hint" in build.ptx
    assert len(set(re.findall(r"LDGSTS\S+ \[\S+\], (desc\[UR\d+\])", listing))) == 2
    _, listing = built(linear("hints=reuse,stages=1", (16, 256, 2048), "int4<group=128>"), target)
    assert {"EF", "EL"} == set(re.findall(r"LDG\.E\.(E[FL])\b", listing))
    build, _ = built(linear("", (16, 256, 2048), "f16"), target)
    assert "createpolicy" not in build.ptx


def test_a_schedule_as_text():
    assert schedule_of("") == Schedule()
    found = schedule_of("threads=256, swap=small,m=16,split=4")
    assert found == Schedule(threads=256, swap="small", split=4, tiles={"m": 16})


@pytest.mark.parametrize(("text", "message"), [
    ("m", "a schedule: 'm' is not CHOICE=VALUE or TILE=NUMBER"),
    ("m=x", "'m=x' is not"), ("threads=many", "'threads=many' is not"), ("swap=", "'swap=' is not"),
    ("m=1,m=2", "m is given twice"), ("hints=all", "hints is 'all', expected none or reuse"),
    ("epilogue=wide", "epilogue is 'wide', expected cost or shared"),
])  # fmt: skip
def test_no_schedule(text: str, message: str):
    with pytest.raises(TileError, match=message):
        schedule_of(text)
