"""The sizes of a function's spans: whether they are numbers, and the least that products need."""

from __future__ import annotations

from tilec.ir.core import Func
from tilec.ir.extent import Extent
from tilec.ir.ops import control, memory, reduce
from tilec.ir.ops.scaled import SIDES, ScaledDot
from tilec.ir.ops.sparse import SparseDot
from tilec.passes.parts import tile


def padded(func: Func) -> bool:
    """Whether the sizes of all spans are numbers."""
    sizes: list[Extent | None] = []
    for op in func.walk():
        match op:
            case control.Grid():
                sizes += op.sizes
            case control.For() | memory.Whole():
                sizes.append(op.size)
            case _:
                pass
    return bool(sizes) and all(isinstance(s, int) for s in sizes)


def sides(func: Func, least: int, columns: int) -> dict[str, int]:
    """The least size of the axes of products: `least`, the columns of results `columns`; those of
    products with scales are the unit's."""
    found: dict[str, int] = {}
    for op in func.walk():
        if isinstance(op, reduce.Dot | ScaledDot | SparseDot):
            first = op.values if isinstance(op, SparseDot) else op.a
            axes = (tile(first).shape[0], *tile(op.b).shape)
            for d, size in zip(axes, _least(op, least, columns), strict=True):
                if d != 1:
                    found[str(d)] = max(size, found.get(str(d), 1))
    return found


def _least(op: reduce.Dot | ScaledDot | SparseDot, least: int, columns: int
           ) -> tuple[int, int, int]:  # fmt: skip
    """The least rows, k's and columns of a product."""
    match op:
        case ScaledDot():
            return SIDES
        case SparseDot():
            return least, 64 if tile(op.b).dtype.bits == 8 else 32, 8
        case _:
            return least, least, columns
