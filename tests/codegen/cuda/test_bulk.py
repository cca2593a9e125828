"""Bulk copies that count on barriers, and warps that only copy: executed, and as machine code."""

from __future__ import annotations

import re
from itertools import product as every

import ml_dtypes
import numpy as np
import pytest
from emulated import far, poisoned, program_of, run
from products import PRODUCTS, attention, linear

import tilec as tc
from tilec.codegen.cuda.headers import device_headers
from tilec.cuda import Program, Schedule
from tilec.ir.extent import extent
from tilec.ir.source import TensorBoxes
from tilec.runtime.nvrtc import compile_cuda

ROLES = [Schedule(copies="bulk"), Schedule(copies="bulk", specialise=1),
         Schedule(copies="bulk", specialise=4, instruction="wgmma"),
         Schedule(copies="bulk", specialise=4, instruction="wgmma", overlap=1)]  # fmt: skip
SLOW = pytest.mark.slow


def named(schedule: Schedule) -> str:
    return f"{schedule.specialise}-{schedule.instruction}-{schedule.overlap}"


def exact(name: str, sizes: tuple[int, int, int], t: tc.DType, schedule: Schedule) -> Program:
    """Run a product of whole numbers, whose sums are exact in any order."""
    product = PRODUCTS[name]
    given, want = product.arguments(*sizes, t, sizes[2])
    y = poisoned(want.shape, tc.f32)
    program = program_of(product.kernel, product.types(t), product.dims(*sizes), schedule)
    run(program, {**given, "y": y})
    assert np.array_equal(y, want)
    return program


@pytest.mark.parametrize("k", [64, pytest.param(136, marks=SLOW), 192, 328])
@pytest.mark.parametrize("schedule", ROLES, ids=named)
def test_ragged_sizes(schedule, k):
    """Fewer steps than slots (3), as many, and more; the last tiles end within."""
    program = exact("linear", (70, 72, k), tc.f16, schedule)
    assert "tensor_load(" in program.source.text
    assert "copy_async" not in program.source.text
    assert f"  {schedule.instruction}<" in program.source.text


@pytest.mark.parametrize(("name", "schedule"), [
    pytest.param(n, s, id=f"{n}-{named(s)}", marks=[] if i % 3 == 0 else SLOW)
    for i, (s, n) in enumerate(every(ROLES, [x for x in PRODUCTS if x != "linear"]))
])  # fmt: skip
def test_other_loops(name, schedule):
    """Loops in loops, one after the other, up to an end that is data; operands that lie upright."""
    program = exact(name, (70, 136, 200), tc.bf16, schedule)
    assert "tensor_load(" in program.source.text


@pytest.mark.parametrize("choice", [
    {"persist": 3}, {"split": 2}, {"swizzle": 2}, {"swap": "always", "instruction": "wgmma"},
    {"persist": 3, "instruction": "wgmma", "overlap": 1}, {"epilogue": "shared"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("warps", [pytest.param(0, marks=SLOW), 4])
def test_beside_other_choices(warps, choice):
    schedule = Schedule(copies="bulk", specialise=warps, **choice)
    program = exact("linear", (130, 200, 328), tc.f16, schedule)
    assert "tensor_load(" in program.source.text
    assert "copy_async" not in program.source.text


def test_what_only_one_block_reads_is_given_up_first():
    """x is read by all blocks, the rows of w by one each: in rows, and in fragment order."""
    schedule = Schedule(copies="bulk", specialise=1, hints="reuse")
    program = exact("linear", (16, 200, 328), tc.f16, schedule)
    for hint, name in (("first", "w"), ("last", "x")):
        assert re.search(
            rf"tensor_load_kept\(.*&{name}_boxes, .*, evict_{hint}, ", program.source.text
        )
    types = {"x": tc.f16, "w": tc.format("int4<group=128>"), "y": tc.f32}
    source = program_of(linear, types, {"M": 16, "N": 200, "K": 256}, schedule).source
    assert re.search(r"bulk_load\(.*, evict_first\);", source.text)
    for text in (program.source.text, source.text):
        assert "L2::cache_hint" in compile_cuda(text, "sm_90a", headers=device_headers()).ptx


@pytest.mark.parametrize("t", ["f32", "i8", "e4m3"])
def test_other_elements(t):
    """Rows of several panels (f32), and of one or two."""
    for depth in (64, 128):
        product, dtype = PRODUCTS["linear"], getattr(tc, t)
        given, want = product.arguments(33, 72, 336, dtype)
        types = product.types(dtype) | ({"y": tc.i32} if t == "i8" else {})
        y = poisoned(want.shape, types["y"])
        schedule = Schedule(copies="bulk", specialise=1, tiles={"m": 32, "n": 64, "k": depth})
        program = program_of(linear, types, product.dims(33, 72, 336), schedule)
        run(program, {**given, "y": y})
        assert np.array_equal(y, want)
        (launch,) = program.source.launches
        assert {x.row for x in launch.boxes} == {min(128, depth * dtype.bits // 8)}


REGISTERS = {"swap": "always", "instruction": "wgmma", "overlap": 1}


@pytest.mark.parametrize("text", ["int4<group=128>", "uint4<group=64, zero=int>", "uint2<channel>",
                                  "int8<channel>", "uint1<group=64>"])  # fmt: skip
@pytest.mark.parametrize(("warps", "choice"), [(0, {}), (1, {}), (4, REGISTERS)], ids=str)
def test_codes(warps, choice, text):
    """In fragment order they are one run of bytes; else rows as of any other matrix. Warp groups
    read them as the first operand, from registers."""
    m, n, k = 16, 67, 384
    rng = np.random.default_rng(k)
    w = tc.quantize(rng.standard_normal((n, k)), text, search=False)
    x = rng.standard_normal((m, k)).astype(np.float16)
    y = poisoned((m, n), tc.f32)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    schedule = Schedule(copies="bulk", specialise=warps, **choice)
    program = program_of(linear, types, {"M": m, "N": n, "K": k}, schedule)
    run(program, {"x": x, "w": w, "y": y})
    assert far(y, x.astype(float) @ w.dequantize().astype(float).T) < 1e-6
    assert "w.codes" in program.source.orders
    assert ("bulk_load(" in program.source.text) == (text != "uint1<group=64>")  # rows of 8 bytes


@pytest.mark.parametrize(("text", "bits", "swizzle"),
                         [("int4<channel>", 4, 32), ("uint2<channel>", 2, 0)])  # fmt: skip
@pytest.mark.parametrize("warps", [0, 1])
def test_codes_in_rows(warps, text, bits, swizzle):
    """What two loops read is not in fragment order. A tensor map's elements are bytes then."""
    m, n, k = 20, 66, 320
    rng = np.random.default_rng(k)
    w = tc.quantize(rng.standard_normal((n, k)), text, search=False)
    x = rng.standard_normal((m, k)).astype(np.float16)
    y = poisoned((m, n), tc.f32)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    schedule = Schedule(copies="bulk", specialise=warps, tiles={"n": 64, "k": 64, "j": 64})
    program = program_of(PRODUCTS["twice"].kernel, types, {"M": m, "N": n, "K": k}, schedule)
    run(program, {"x": x, "w": w, "y": y})
    assert far(y, 2 * x.astype(float) @ w.dequantize().astype(float).T) < 1e-6
    row, wide = (s * bits // 8 for s in (k, 64))
    boxes = TensorBoxes("w_codes_boxes", "w_codes", (n, row), (row,), (64, wide), swizzle, 1)
    assert boxes in program.source.launches[0].boxes


@pytest.mark.parametrize("warps", [0, 1])
def test_flash_attention(warps):
    """Threads that hold tiles hand them to each other while the other warp copies."""
    m, n, d = 40, 100, 64
    rng = np.random.default_rng(n)
    q, k, v = (rng.standard_normal((rows, d)).astype(ml_dtypes.bfloat16) for rows in (m, n, n))
    types = {"q": tc.bf16, "k": tc.bf16, "v": tc.bf16, "y": tc.f32}
    y = poisoned((m, d), tc.f32)
    schedule = Schedule(copies="bulk", specialise=warps, tiles={"m": 32, "n": 32})
    program = program_of(attention, types, {"M": m, "N": n, "D": d}, schedule)
    run(program, {"q": q, "k": k, "v": v, "y": y})
    s = q.astype(float) @ k.astype(float).T * 0.125
    p = np.exp(s - s.max(1, keepdims=True))
    assert far(y, p @ v.astype(float) / p.sum(1, keepdims=True)) < 4e-3  # p is rounded to bf16
    assert "tensor_load(" in program.source.text


@pytest.mark.parametrize("warps", [0, 1])
def test_tiles_in_pieces_beside_whole_ones(warps):
    """Rows of 72 bytes are no tensor map's, those of 288 are."""
    m, n, k = 16, 67, 144
    rng = np.random.default_rng(k)
    w = tc.quantize(rng.standard_normal((n, k)), "int4<channel>", search=False)
    x = rng.standard_normal((m, k)).astype(np.float16)
    y = poisoned((m, n), tc.f32)
    types = {"x": tc.f16, "w": w.format, "y": tc.f32}
    schedule = Schedule(copies="bulk", specialise=warps)
    program = program_of(linear, types, {"M": m, "N": n, "K": k}, schedule)
    run(program, {"x": x, "w": w, "y": y})
    assert far(y, x.astype(float) @ w.dequantize().astype(float).T) < 1e-6
    found = [r.missing for r in program.source.remarks if "`w.codes`" in r.message]
    assert "rows of a multiple of 16 bytes" in found
    assert "copy_async<" in program.source.text
    assert "tensor_load(" in program.source.text


@pytest.mark.parametrize("name", ["linear", "row_by_row"])
@pytest.mark.parametrize("warps", [0, 1])
def test_rows_that_are_only_known_at_a_launch(warps, name):
    product, schedule = PRODUCTS[name], Schedule(copies="bulk", specialise=warps)
    types = product.types(tc.f16)
    program = program_of(product.kernel, types, {"N": 72, "K": 200}, schedule)
    assert "tensor_load(" in program.source.text
    assert {x.shape[0] for x in program.source.launches[0].boxes} == {72, extent("M")}
    for m in (7, 64, 200):
        given, want = product.arguments(m, 72, 200, tc.f16, m)
        y = poisoned(want.shape, tc.f32)
        run(program, {**given, "y": y, "M": m})
        assert np.array_equal(y, want)


def test_lengths_that_are_only_known_at_a_launch():
    """Of rows they are no tensor map's; other operands are still copied whole."""
    product = PRODUCTS["upright"]
    given, want = product.arguments(64, 72, 200, tc.f16)
    schedule = Schedule(copies="bulk", specialise=1)
    program = program_of(product.kernel, product.types(tc.f16), {"M": 64, "N": 72}, schedule)
    y = poisoned(want.shape, tc.f32)
    run(program, {**given, "y": y, "K": 200})
    assert np.array_equal(y, want)
    (boxes,) = program.source.launches[0].boxes
    assert boxes.param == "w"


def test_a_launch_says_what_its_tensor_maps_are_made_of():
    types = {"x": tc.bf16, "w": tc.bf16, "y": tc.f32}
    schedule = Schedule(copies="bulk", specialise=4, tiles={"m": 16, "n": 64, "k": 128})
    program = program_of(linear, types, {"M": 40, "N": 200, "K": 328}, schedule)
    (launch,) = program.source.launches
    assert launch.boxes == (
        TensorBoxes("w_boxes", "w", (200, 328), (656,), (64, 64), 128, 2),
        TensorBoxes("x_boxes", "x", (40, 328), (656,), (16, 64), 128, 2),
    )
    assert launch.threads == 128 + 128
    names = [x.name for x in launch.boxes]
    head = program.source.text[program.source.text.index("TILEC_KERNEL") :].split("{")[0]
    assert head.endswith(", ".join(f"TILEC_GRID_CONSTANT TensorMap {n}" for n in names) + ") ")
