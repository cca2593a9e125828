"""Which peers can take a format's elements without code written for it by hand.

What each states of itself: Triton 3.6 (operand types of dot and dot_scaled), TileLang 0.1 (dtypes
that T.copy moves), Tilus 0.1 (its dtype list), BitBLAS (its matrix of weight types), GemLite and
torchao (their packers). Scales of scales and zero points are left out: a yes is for the elements.
"""

from __future__ import annotations

from collections.abc import Callable

from tilec.ir.dtype import DType


def _integer(t: DType, *widths: int) -> bool:
    return t.is_integer and t.bits in widths


TILUS = {"e1m1", "e2m1", "e2m2", "e3m1", "e2m3", "e3m2", "e4m1", "e2m4", "e3m3", "e4m2", "e5m1"}
TILELANG = {"e4m3", "e5m2", "e3m4_ieee", "e4m3_ieee", "e4m3_b11fnuz", "e4m3_fnuz", "e5m2_fnuz",
            "e2m3", "e3m2", "e2m1"}  # fmt: skip
MX = {"e4m3", "e5m2", "e2m3", "e3m2", "e2m1"}
PEERS: dict[str, Callable[[DType], bool]] = {
    "Triton": lambda t: t.name in {"e4m3", "e5m2", "e2m1"} or _integer(t, 8),
    "TileLang": lambda t: t.name in TILELANG or _integer(t, 4, 8),
    "Tilus": lambda t: t.name in TILUS | {"e4m3", "e5m2"} or t.is_integer,
    "BitBLAS": lambda t: t.name in {"nf4", "e4m3", "u1"} or _integer(t, 2, 4, 8),
    "GemLite": lambda t: t.name in {"e4m3", "e5m2", "e2m1"} or _integer(t, 1, 2, 4, 8),
    "torchao": lambda t: t.name in MX | {"nf4"} or t.is_integer or _minifloat(t),
}


def _minifloat(t: DType) -> bool:
    return t.kind == "code" and t.bits < 8 and bool(t.exponent) and not t.infinite


def takes(t: DType) -> list[str]:
    """The peers that have this element type."""
    return [name for name, has in PEERS.items() if has(t)]
