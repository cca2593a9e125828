"""Where areas of shared memory lie: those that are not alive at the same time may share bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

MOST = 32  # areas of which pairs are exchanged


@dataclass(frozen=True)
class Area:
    """`size` bytes at a multiple of `alignment`, alive from step `begin` to step `end`, both
    included."""

    begin: int
    end: int
    size: int
    alignment: int = 16

    def meets(self, other: Area) -> bool:
        """Whether both are alive at some step."""
        return self.begin <= other.end and other.begin <= self.end


_ORDERS: tuple[Callable[[Area], tuple[int, int]], ...] = (
    lambda a: (-a.size, a.begin),
    lambda a: (a.begin - a.end, -a.size),
    lambda a: (-a.alignment, -a.size),
    lambda a: (a.begin, -a.size),
)


def place(areas: Sequence[Area]) -> tuple[int, ...]:
    """Offsets of areas of which no two that meet overlap.

    Each area goes to the lowest place that is free. One of all orders of the areas gives the least
    memory, but they are too many to try: a few are, and those that two exchanged areas make of
    them, as long as that saves memory.
    """
    least, best = most_alive(areas), tuple[int, ...]()
    for key in _ORDERS:
        order = sorted(range(len(areas)), key=lambda i: key(areas[i]))
        found = _improved(areas, order, least)
        if not best or total(areas, found) < total(areas, best):
            best = found
        if total(areas, best) == least:
            break
    return best


def _improved(areas: Sequence[Area], order: list[int], least: int) -> tuple[int, ...]:
    """The offsets that an order gives, or one with two areas exchanged, and so on."""
    best = lowest(areas, order)
    pairs = list(combinations(range(len(order)), 2))
    going = len(order) <= MOST
    while going and total(areas, best) > least:
        going = False
        for i, j in pairs:
            order[i], order[j] = order[j], order[i]
            found = lowest(areas, order)
            if total(areas, found) < total(areas, best):
                best, going = found, True
            else:
                order[i], order[j] = order[j], order[i]
    return best


def lowest(areas: Sequence[Area], order: Iterable[int]) -> tuple[int, ...]:
    """Offsets where each area, in an order, goes to the lowest place that is free."""
    offsets: dict[int, int] = {}
    for i in order:
        area, at = areas[i], 0
        taken = sorted((offsets[j], offsets[j] + areas[j].size) for j in offsets
                       if areas[j].meets(area))  # fmt: skip
        for start, end in taken:
            if at + area.size <= start:
                break
            at = max(at, -(-end // area.alignment) * area.alignment)
        offsets[i] = at
    return tuple(offsets[i] for i in range(len(areas)))


def total(areas: Sequence[Area], offsets: Sequence[int]) -> int:
    """The bytes up to the end of the last area."""
    return max((at + a.size for a, at in zip(areas, offsets, strict=True)), default=0)


def most_alive(areas: Sequence[Area]) -> int:
    """The bytes of the areas that are alive at the fullest step: less will not do."""
    steps = {a.begin for a in areas}
    return max((sum(a.size for a in areas if a.begin <= s <= a.end) for s in steps), default=0)
