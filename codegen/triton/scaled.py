"""Products of codes with scales: `tl.dot_scaled`, whose operands are as they lie in memory."""

from __future__ import annotations

from collections.abc import Callable

from tilec.ir.core import Func, Value
from tilec.ir.ops.memory import Load
from tilec.ir.ops.scaled import SIDES, ScaledDot
from tilec.ir.types import Tile

Written = Callable[[Value], str]


def least(func: Func) -> dict[str, int]:
    """The least block of each extent that such a product has: of less Triton makes it in bf16."""
    found: dict[str, int] = {}
    for op in func.walk():
        if isinstance(op, ScaledDot):
            (rows, depth), (_, columns) = _tile(op.a).shape, _tile(op.b).shape
            for d, size in zip((rows, depth, columns), SIDES, strict=True):
                found[str(d)] = max(size, found.get(str(d), 1))
    return found


def halved(op: Load) -> bool:
    """Whether what is loaded are codes of which two lie in a byte."""
    return _tile(op.result).dtype.bits == 4


def product(op: ScaledDot, operand: Written) -> str:
    """The expression of a product; its padding along k is of codes, which are loaded as 0."""
    sides = [f'{operand(v)}, {operand(scale)}, "{_tile(v).dtype.name}"'
             for v, scale in ((op.a, op.a_scale), (op.b, op.b_scale))]  # fmt: skip
    return f"tl.dot_scaled({', '.join(sides)}, {operand(op.acc)})"


def _tile(v: Value) -> Tile:
    assert isinstance(v.type, Tile)
    return v.type
