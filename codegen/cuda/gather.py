"""Fields of codes that lie in words so that one mask finds them in all lanes of a register.

A register has lanes of 16 or 8 bits. A word that is rotated has some fields of some codes at their
places in the lanes; the other bits are fields of other codes, for other rotations.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.words import Const, Expr, Word, masked, turned

SIGN = 15  # the place of a 16-bit float's sign


@dataclass(frozen=True)
class Plane:
    """Bits of a code that share a word with the same bits of others.

    targets[i][b] is where bits[b] is wanted in a lane, in turn for one register after another;
    `apart` has the last bit on its own.
    """

    bits: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    apart: bool = False


@dataclass(frozen=True)
class Gathered:
    """Where the bits of codes are, as in `Arrangement`, and registers with the fields in place."""

    places: tuple[tuple[int, ...], ...]
    registers: tuple[Expr, ...]


def widths(bits: int) -> list[int]:
    """The powers of two that a number is the sum of, from the greatest on."""
    return [1 << i for i in reversed(range(bits.bit_length())) if bits >> i & 1]


def wholes(bits: int, lane: int, base: int, room: int, most: int = 16) -> list[Plane] | None:
    """A whole number from bit `base` of a lane on, or higher by the widest plane's bits as long as
    it fits into `room` bits; at `most` so many places. None where there is no room."""
    if base + bits > room:
        return None
    wide = widths(bits)[0]
    count = 1
    while 2 * count <= min(most, lane // wide) and base + (2 * count - 1) * wide + bits <= room:
        count *= 2
    planes, first = list[Plane](), 0
    for width in widths(bits):
        mine = range(first, first + width)
        targets = tuple(tuple(base + wide * i + b for b in mine) for i in range(count))
        planes.append(Plane(tuple(mine), targets))
        first += width
    return planes


def floats(bits: int, lowest: int) -> list[Plane]:
    """A float's bits from bit `lowest` of a half on, and its sign."""
    target = [*range(lowest, lowest + bits - 1), SIGN]
    planes, first = list[Plane](), 0
    for width in widths(bits):
        mine = tuple(range(first, first + width))
        places = tuple(target[b] for b in mine)
        planes.append(Plane(mine, (places,), tiling(places, 16, 16 // width) is None))
        first += width
    return planes


def gathered(planes: list[Plane], lane: int, magic: int = 0) -> Gathered:
    """Codes whose bits are in these planes; registers have the bits of `magic`, too."""
    count = lane // min(len(p.bits) for p in planes)  # registers of a unit
    bits = 1 + max(b for p in planes for b in p.bits)
    lanes = 32 // lane
    places = [[0] * bits for _ in range(count * lanes)]
    registers: list[Expr] = [Const(magic)] * count
    first = 0
    for plane in planes:
        each = lane // len(plane.bits)  # registers of a word
        turns = _turns(plane, lane)
        for i in range(count):
            word, target = first + i // each, plane.targets[i % len(plane.targets)]
            masks: dict[int, int] = {}
            for b, at, turn in zip(plane.bits, target, turns[i % each], strict=True):
                for j in range(lanes):
                    places[i * lanes + j][b] = 32 * word + (lane * j + at + turn) % 32
                    masks[turn] = masks.get(turn, 0) | 1 << lane * j + at
            for turn, mask in masks.items():
                registers[i] = _onto(turned(Word(word), turn), mask, registers[i])
        first += count // each
    return Gathered(tuple(map(tuple, places)), tuple(registers))


def _onto(x: Expr, mask: int, rest: Expr) -> Expr:
    return x if mask == 0xFFFFFFFF else masked(x, mask, rest)


def _turns(plane: Plane, lane: int) -> list[tuple[int, ...]]:
    """By how much each bit of each register of a word is turned."""
    width, count = len(plane.bits), len(plane.targets)
    if plane.apart:
        return _apart(plane.targets[0], lane)
    union = tuple(at for target in plane.targets for at in target)
    found = tiling(union, lane, lane // (width * count))
    assert found is not None
    return [(turn,) * width for turn in found for _ in range(count)]


def _apart(target: tuple[int, ...], lane: int) -> list[tuple[int, ...]]:
    """Bodies below each other, and signs where there is room, with their bodies if they can be."""
    body, count = len(target) - 1, lane // len(target)
    turns = [-body * j % lane for j in range(count)]
    free = set(range(lane)) - {(at + turn) % lane for at in target[:-1] for turn in turns}
    signs: dict[int, int] = {}
    for j, turn in enumerate(turns):
        if (target[-1] + turn) % lane in free:
            free.discard((target[-1] + turn) % lane)
            signs[j] = turn
    for j in range(count):
        if j not in signs:
            signs[j] = (free.pop() - target[-1]) % lane
    return [(turn,) * body + (signs[j],) for j, turn in enumerate(turns)]


def tiling(targets: tuple[int, ...], lane: int, count: int) -> tuple[int, ...] | None:
    """Turns, of which the first is none, that take some places to all of a lane; None if there are
    none."""

    def search(turns: tuple[int, ...], left: frozenset[int]) -> tuple[int, ...] | None:
        if not left:
            return turns if len(turns) == count else None
        for at in targets:
            turn = (min(left) - at) % lane
            new = {(x + turn) % lane for x in targets}
            found = search((*turns, turn), left - new) if new <= left else None
            if found is not None:
                return found
        return None

    return search((0,), frozenset(range(lane)) - frozenset(targets))
