"""Targets, and the element types that their matrix units multiply as they are."""

from __future__ import annotations

from tilec.ir.format import Dense, Format
from tilec.ir.scaled import Scaled

BYTES = ("i8", "u8")
FP8 = ("e4m3", "e5m2")
SMALL = ("e2m1", "e2m3", "e3m2")
# What ptxas keeps as one instruction; the rest assembles too, and is taken apart again.
NATIVE: dict[str, tuple[str, ...]] = {
    "cpu": (),  # vdpbf16ps and vpdpwssd: operands are widened first
    "sm_80": ("i4", "u4", *BYTES),
    "sm_89": ("i4", "u4", *BYTES, *FP8),
    "sm_90a": (*BYTES, *FP8),
    "sm_100a": (*FP8, *SMALL),
    "sm_120a": (*BYTES, *FP8, *SMALL),
}
BLOCK_SCALED = ("sm_100a", "sm_120a")  # units that take a scale for each block of k


def native(format: Format, target: str) -> str:
    """How a weight of this format is multiplied on a target: as it is, or as what."""
    if isinstance(format, Dense):
        return f"as {format.dtype}" if format.dtype.name in NATIVE[target] else "widened"
    if not isinstance(format, Scaled):
        return "decoded, part by part"
    if format.codes.name not in NATIVE[target]:
        return "codes decoded"
    if target in BLOCK_SCALED and _in_unit(format):
        return f"{format.codes} with its scales"
    return f"{format.codes}, scales on the accumulator"


def _in_unit(format: Scaled) -> bool:
    """Whether the matrix unit multiplies by the scales itself: MX, and NVFP4's 16 e4m3."""
    scale = format.scale.codes if isinstance(format.scale, Scaled) else format.scale.value
    kinds: dict[int | None, tuple[str, ...]] = {32: ("e8m0",), 16: ("e4m3",)}
    return scale.name in kinds.get(format.block.group, ())
