"""Neighbours that one access of a thread moves, and what keeps it from moving 16 bytes of them."""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.layout.register import RegisterLayout

LINE = 16  # bytes of the widest access
WIDTHS = (1, 2, 4, 8, 16)  # bytes that one access can move


@dataclass(frozen=True)
class Row:
    """The last axis of memory, in elements of `bits` bits, and where tiles begin along it.

    `width` is the extent of the axis, None where it is known at a launch only. Tiles begin at
    multiples of `multiple`; `exact` says that all of them end inside; `alone` that the memory has
    no other axis.
    """

    bits: int
    width: int | None
    multiple: int
    exact: bool
    alone: bool

    @property
    def pitch(self) -> int | None:
        """Bytes from one row to the next."""
        return None if self.width is None else -(-self.width * self.bits // 8)


@dataclass(frozen=True)
class Run:
    """How many elements one access of a thread moves; `limit` is what keeps them below 16 bytes."""

    elements: int
    limit: str = ""


def neighbours(layout: RegisterLayout, axis: int) -> int:
    """How many elements that follow each other along an axis follow each other in a thread too: the
    greatest power of two that divides their number."""
    last = layout.local_digits[-1] if layout.local_digits else None
    if last is None or last.axis != axis or last.stride != 1:
        return 1
    return last.size & -last.size


def run(layout: RegisterLayout, axis: int | None, row: Row) -> Run:
    """The widest access by which a tile can be moved between registers and rows of memory.

    `axis` is the tile's axis along the rows, None where the rows are read by computed indices.
    """
    if axis is None:
        return Run(1, "a span as the last index")
    n = neighbours(layout, axis)
    limit = f"threads that hold more than {n} neighbour{'s' * (n > 1)} of a row"
    while n > 1 and (found := _obstacle(n, layout, axis, row)):
        n, limit = n // 2, found
    return Run(n, "" if n * row.bits == 8 * LINE else limit)


def _obstacle(n: int, layout: RegisterLayout, axis: int, row: Row) -> str:
    """What has to be otherwise for an access of n elements, or nothing."""
    size, rest = divmod(n * row.bits, 8)
    if rest or size not in WIDTHS:
        return f"elements of which some are {LINE} bytes; these have {row.bits} bits"
    if not row.alone and (row.pitch is None or row.pitch % size):
        return f"rows of a multiple of {size} bytes; {_rows(row)}"
    if not row.exact and (row.width is None or row.width % n):
        return f"an extent that {n} divides; it is {row.width or 'known at a launch only'}"
    starts = [d.stride for d in (*layout.thread_digits, *layout.local_digits[:-1])
              if d.axis == axis]  # fmt: skip
    if row.multiple % n or any(s % n for s in starts):
        return f"tiles whose parts begin at multiples of {n} elements"
    return ""


def _rows(row: Row) -> str:
    return f"they have {row.pitch}" if row.pitch else "their length is known at a launch only"
