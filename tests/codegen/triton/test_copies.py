"""Copies and products in machine code: 16 bytes a copy, and the tensor core of the operands."""

from __future__ import annotations

import pytest
from lang import kernels

import tilec as tc
from tilec.ir.dtype import DType
from tilec.ir.format import Format
from tilec.ir.named import named
from tilec.ir.source import KernelSource
from tilec.runtime.triton import compile_for
from tilec.sass import Stats, stats_of
from tilec.triton import schedule_of, triton_source

pytest.importorskip("triton")
SLOW = pytest.mark.slow


def linear(dims: dict[str, int], schedule: str = "", x: DType = tc.f16,
           w: DType | Format = tc.f16, y: DType = tc.f32) -> KernelSource:  # fmt: skip
    types = {"x": x, "w": w, "y": y}
    return triton_source(kernels.linear.definition, dims, types, schedule_of(schedule))


def made(source: KernelSource, target: str = "sm_90", even: tuple[str, ...] = ()) -> Stats:
    (stats,) = stats_of(compile_for(source, target, even=even).cubin)
    return stats


@pytest.mark.parametrize("target", ["sm_90", pytest.param("sm_80", marks=SLOW)])
@pytest.mark.parametrize(("dims", "even"), [
    ({"M": 100, "N": 200, "K": 2048}, ()),
    pytest.param({"M": 100, "N": 200, "K": 2056}, (), marks=SLOW),
    ({"M": 100, "N": 200}, ("K",)), pytest.param({}, ("M", "N", "K"), marks=SLOW),
    pytest.param({"K": 4096}, (), marks=SLOW),
])  # fmt: skip
def test_rows_of_whole_pieces_are_copied_16_bytes_at_a_time(
    dims: dict[str, int], even: tuple[str, ...], target: str
):
    """Whether K is a number or a launch says that it is a multiple of 16; M and N may be odd."""
    source = linear(dims)
    assert not source.remarks
    assert made(source, target, even).code.widths("ldgsts").keys() == {16}


def test_rows_of_other_lengths_are_copied_in_smaller_pieces():
    """And a remark says so at the line of the load."""
    source = linear({"M": 64, "N": 64, "K": 2060})
    assert made(source).code.widths("ldgsts").keys() == {8}
    assert [r.message for r in source.remarks] == [
        f"`{n}` is copied 8 bytes at a time: its rows have 4120" for n in "xw"]  # fmt: skip
    remark = source.remarks[0]
    assert remark.missing == "rows of a multiple of 16 bytes"
    assert remark.loc is not None
    assert "tc.dot(x[m, k], w[n, k].T)" in remark.loc.text
    assert 16 not in made(linear({"M": 64, "N": 64})).code.widths("ldgsts")


@pytest.mark.parametrize(("t", "y", "instruction"), [
    (tc.f16, tc.f32, "HGMMA.64x64x16.F32"),
    pytest.param(tc.i8, tc.i32, "IGMMA.64x64x32.S8.S8", marks=SLOW),
    pytest.param(tc.e4m3, tc.f32, "QGMMA.64x64x32.F32.E4M3.E4M3", marks=SLOW),
    pytest.param(tc.e5m2, tc.f32, "QGMMA.64x64x32.F32.E5M2.E5M2", marks=SLOW),
    pytest.param(tc.bf16, tc.f32, "HGMMA.64x64x16.F32.BF16", marks=SLOW),
])  # fmt: skip
def test_the_tensor_core_of_the_operands(t: DType, y: DType, instruction: str):
    source = linear({"M": 128, "N": 128, "K": 4096}, x=t, w=t, y=y)
    assert made(source).code.count(instruction)


@pytest.mark.parametrize(("schedule", "instruction"), [
    ("swap=small", "HGMMA.64x16x16"), pytest.param("swap=never", "HMMA.16816", marks=SLOW),
    pytest.param("swap=always", "HGMMA.64x16x16", marks=SLOW),
])  # fmt: skip
def test_few_rows_are_columns_of_wgmma(schedule: str, instruction: str):
    """The 64 rows that it has are then the weights'."""
    stats = made(linear({"M": 16, "N": 4096, "K": 4096}, schedule))
    assert stats.code.count(instruction)


@pytest.mark.slow
def test_decoded_weights_stay_in_registers():
    source = linear({"M": 64, "N": 4096, "K": 4096}, w=named("int4<group=128>"))
    assert made(source).code.count("HGMMA.RS")


@pytest.mark.slow
def test_large_tiles_of_8_warps():
    """Two warpgroups share the rows of a tile."""
    source = linear({"M": 256, "N": 256, "K": 4096}, "m=128,n=128")
    stats = made(source)
    assert stats.code.count("HGMMA.64x128x16")
    assert not stats.spills
