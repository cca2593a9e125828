"""The printed device bodies of wgmma: what exists is printed and assembled, the rest is refused."""

from __future__ import annotations

import re

import pytest

from tilec.codegen.cuda.headers import device_headers
from tilec.codegen.cuda.wgmma import Wgmma, device_wgmma
from tilec.ir.errors import TileError
from tilec.runtime.nvrtc import compile_cuda

SHAPES = [
    Wgmma(8, "f16", "f16", "f16"),
    Wgmma(256, "f16", "f16", a_mn=True, b_mn=True),
    Wgmma(104, "bf16", "bf16", a_in_registers=True, b_mn=True),
    Wgmma(16, "tf32", "tf32", a_in_registers=True),
    Wgmma(40, "e4m3", "e5m2", "f16", a_in_registers=True),
    Wgmma(248, "e5m2", "e4m3"),
    Wgmma(24, "s8", "u8", "s32", a_in_registers=True),
    Wgmma(240, "u8", "u8", "s32"),
    Wgmma(64, "b1", "b1", "s32"),
    Wgmma(128, "f16", "f16", selector=1),
    Wgmma(24, "bf16", "bf16", a_in_registers=True, b_mn=True, selector=0),
    Wgmma(16, "e4m3", "e5m2", selector=0),
    Wgmma(32, "s8", "u8", "s32", selector=0),
]
KERNEL = """
TILEC_KERNEL(128) k{i}({sum}* y, u64 x) {{
  {sum} d[{registers}];
  for (int i = 0; i < {registers}; i++) d[i] = y[i];
  {a}
  wgmma_fence();
  {function}<{n}, {types}>(d, a, x, {places}x != 0);
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_keep(d);
  for (int i = 0; i < {registers}; i++) y[i] = d[i];
}}
"""


def kernel(i: int, w: Wgmma) -> str:
    """One that multiplies by this shape."""
    registers = w.n // (4 if w.sum == "f16" else 2)
    majors = [w.b_mn] if w.a_in_registers else [w.a_mn, w.b_mn]
    flags = [str(mn).lower() for mn in ([w.b_mn] if w.sparse else majors)]
    types = ", ".join([w.a, w.b, *([str(w.selector)] if w.sparse else []), *flags])
    a = "u32 a[4] = {1, 2, 3, (u32)x};" if w.a_in_registers else "u64 a = x;"
    sum_type = "u32" if w.sum == "f16" else w.sum
    return KERNEL.format(i=i, sum=sum_type, registers=registers, a=a, n=w.n, types=types,
                         function="wgmma_sp" if w.sparse else "wgmma",
                         places="(u32)x, " if w.sparse else "")  # fmt: skip


def test_what_is_printed_is_assembled() -> None:
    text = f'#include "tilec.cuh"\n{device_wgmma([*SHAPES, SHAPES[0]])}using namespace tilec;\n'
    text += "".join(kernel(i, w) for i, w in enumerate(SHAPES))
    made = compile_cuda(text, "sm_90a", headers=device_headers())
    pattern = r"wgmma\.mma_async(\.sp)?\.sync\.aligned\.m64n(\d+)k\d+\.(\w+)\.(\w+)\."
    found = re.findall(pattern, made.ptx)
    assert sorted(found) == sorted((".sp" * w.sparse, str(w.n), w.sum, w.a) for w in SHAPES)
    assert made.notes == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((12, "f16", "f16"), "12 columns, expected a multiple of 8 up to 256"),
        ((264, "f16", "f16"), "264 columns"),
        ((40, "s8", "s8", "s32"), "40 columns of s8, expected a multiple of 16"),
        ((64, "f16", "bf16"), "does not multiply f16 by bf16"),
        ((64, "s4", "s4", "s32"), "does not multiply s4 by s4"),
        ((64, "bf16", "bf16", "f16"), "wgmma of bf16 adds up in .*f32.*, not f16"),
        ((64, "s8", "s8"), "adds up in .*s32.*, not f32"),
        ((64, "e4m3", "e4m3", "f32", False, False, True), "only elements of 16 bits"),
        ((64, "f16", "f16", "f32", True, True), "registers are neither"),
        ((64, "f16", "f16", "f32", False, True, False, 0), "a sparse A is K-major"),
        ((64, "b1", "b1", "s32", False, False, False, 0), "no elements of b1"),
    ],
)
def test_what_does_not_exist_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(TileError, match=message):
        Wgmma(*arguments)  # pyright: ignore[reportArgumentType]
