"""Classes of sizes: what one code is made for where a dimension stays open, and which do so.

Up to FEW rows a product's cost is that of reading and decoding the other operand, and code is
different: `ROWS` fit the registers, and steps are longer up to `FEW` (passes.tile). Beyond, tiles
are the same for all, and a class is as wide as memory for the most of it may be too large: what is
not used of that is never touched. Nothing and one have code of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tilec.ir.ranges import Range
from tilec.passes.tile import FEW

ROWS = 6  # of a register tile: codegen.cpu.dot
WIDER = 4  # times, from one class to the next
SEVERAL = 4  # sizes of a dimension that have code of their own; later ones share that of a class


def class_of(size: int) -> Range:
    """The sizes that have the same code as this one."""
    if size <= 1:
        return Range(size, size)
    least, most = 2, ROWS
    while size > most:
        least, most = most + 1, FEW if most < FEW else most * WIDER
    return Range(least, most)


class Seen:
    """The sizes of dimensions that a kernel was called with."""

    def __init__(self) -> None:
        self._sizes: dict[object, set[int]] = {}

    def varying(self, like: object, dims: Mapping[str, int], stored: Collection[str]
                ) -> frozenset[str]:  # fmt: skip
        """The dimensions that had SEVERAL other sizes in calls that were `like` this one and had
        all others alike. Those that packed tensors are `stored` by never vary."""
        found: set[str] = set()
        free = [n for n in dims if n not in stored]
        sets = {n: self._sizes.get(_but(like, dims, n), set[int]()) for n in free}
        for n, sizes in sets.items():
            if len(sizes) >= SEVERAL and dims[n] not in sizes:
                found.add(n)
        for n in () if found else free:
            self._sizes.setdefault(_but(like, dims, n), set()).add(dims[n])
        return frozenset(found)


def _but(like: object, dims: Mapping[str, int], name: str) -> object:
    return like, name, tuple(item for item in dims.items() if item[0] != name)
