"""Scans as Triton expressions."""

from __future__ import annotations

from tilec.codegen.triton.pointwise import from_f32
from tilec.codegen.triton.printer import Printer, bare, dtype_of
from tilec.codegen.triton.tiles import without
from tilec.ir.ops import scan
from tilec.ir.types import Tile


def emit(p: Printer, op: scan.Scan, a: str) -> str:
    """A scan whose padding is behind all that counts, or neutral; what is narrow is of 32 bits."""
    t = op.a.type
    assert isinstance(t, Tile)
    narrow = t.dtype.bits < 32
    if narrow:
        a = f"{a}.to({'tl.float32' if t.dtype.is_float else 'tl.int32'})"
    reverse = ""
    if op.reverse:
        a, reverse = without(p, op, op.axis, op.reduction, a), ", reverse=True"
    if isinstance(op, scan.Cumsum):
        text = f"tl.cumsum({bare(a)}, {op.axis}{reverse})"
    else:  # Triton has none of these
        text = f"tl.associative_scan({bare(a)}, {op.axis}, nan_{op.reduction}{reverse})"
    if not narrow:
        return text
    return from_f32(t.dtype, text) if t.dtype.is_float else f"{text}.to({dtype_of(t.dtype)})"
