"""Digits of mixed-radix numbers: what a thread number or a local number selects in a tile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Index = int | NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Digit:
    """`size` values, each of which moves `stride` elements along `axis`.

    A digit without an axis selects nothing: threads that differ in it hold the same elements.
    """

    size: int
    axis: int | None = None
    stride: int = 0

    def __str__(self) -> str:
        return f"{self.size}" if self.axis is None else f"{self.size}:{self.stride}@{self.axis}"


Digits = tuple[Digit, ...]  # of one number, slowest first


def inside(values: Ints, extent: int) -> bool:
    """Whether all of these are 0 to extent - 1."""
    return not values.size or bool(values.min() >= 0 and values.max() < extent)


def count(digits: Iterable[Digit]) -> int:
    """How many values the number has."""
    return math.prod(d.size for d in digits)


def merged(digits: Iterable[Digit]) -> Digits:
    """The shortest digits with the same meaning, of which there is one list for each meaning.

    No digit has one value, and none continues the digit after it. The last digit of such a list
    follows from the map alone (its stride is the step from 0 to 1, its size the first number that
    is not as many steps away), and so on for the digits before it.
    """
    out: list[Digit] = []
    for digit in digits:
        if digit.size == 1:
            continue
        last = out[-1] if out else None
        if last and last.axis == digit.axis and last.stride == digit.stride * digit.size:
            out[-1] = Digit(last.size * digit.size, digit.axis, digit.stride)
        else:
            out.append(digit)
    return tuple(out)


def scaled(digits: Iterable[Digit], factors: Sequence[int]) -> Digits:
    """The digits with every stride multiplied by the factor of its axis."""
    return tuple(
        d if d.axis is None else Digit(d.size, d.axis, d.stride * factors[d.axis]) for d in digits
    )


def shrunk(digits: Iterable[Digit], factors: Sequence[int]) -> Digits:
    """The digits with every stride divided by the factor of its axis."""
    return tuple(
        d if d.axis is None else Digit(d.size, d.axis, d.stride // factors[d.axis]) for d in digits
    )


def split(digits: Digits, low: int) -> tuple[Digits, Digits] | None:
    """The digits of number // low and of number % low; None where a digit can't be cut there."""
    high, below, room = list(digits), list[Digit](), low
    while room > 1:
        if not high:
            return None
        digit = high.pop()
        if digit.size > room:
            if digit.size % room:
                return None
            high.append(Digit(digit.size // room, digit.axis, digit.stride * room))
            digit = Digit(room, digit.axis, digit.stride)
        elif room % digit.size:
            return None
        room //= digit.size
        below.append(digit)
    return merged(high), merged(reversed(below))


def limited(digits: Digits, axis: int, extent: int) -> Digits | None:
    """The digits that stay in the first `extent` elements of an axis; None where one is torn."""
    out: list[Digit] = []
    for d in digits:
        if d.axis != axis or d.stride * d.size <= extent:
            out.append(d)
        elif d.stride < extent:
            room = extent // d.stride
            if extent % d.stride or d.size % room:
                return None
            out.append(Digit(room, axis, d.stride))
    return tuple(out)


def reshaped(digits: Digits, old: Sequence[int], new: Sequence[int]) -> Digits | None:
    """The digits on the axes of another shape, elements in row-major order; None if one is torn."""
    pitches = [math.prod(old[axis + 1 :]) for axis in range(len(old))]
    flat = (d if d.axis is None else Digit(d.size, 0, d.stride * pitches[d.axis]) for d in digits)
    cut = [_cut(d, new) for d in merged(flat)]
    return tuple(d for part in cut if part for d in part) if None not in cut else None


def _cut(d: Digit, shape: Sequence[int]) -> list[Digit] | None:
    """A digit of row-major element numbers as digits of a shape, slowest first."""
    if d.axis is None:
        return [d]
    out: list[Digit] = []
    pitch = 1
    for axis in reversed(range(len(shape))):
        end = pitch * shape[axis]
        if d.size > 1 and d.stride < end:
            room = d.size if d.stride * d.size <= end else end // d.stride
            if room < d.size and (end % d.stride or d.size % room):
                return None
            out.insert(0, Digit(room, axis, d.stride // pitch))
            d = Digit(d.size // room, 0, d.stride * room)
        pitch = end
    return out


def advance(digits: Digits, number: Ints, coordinates: list[Ints]) -> None:
    """Add to the coordinates what each number selects."""
    for digit in reversed(digits):
        if digit.axis is not None:
            coordinates[digit.axis] += number % digit.size * digit.stride
        number = number // digit.size


def number(digits: Digits, coordinates: Sequence[Ints]) -> Ints:
    """The number that selects the coordinates; digits without an axis are 0."""
    total, place = np.zeros(np.broadcast_shapes(*(c.shape for c in coordinates)), np.int64), 1
    for digit in reversed(digits):
        if digit.axis is not None:
            total += coordinates[digit.axis] // digit.stride % digit.size * place
        place *= digit.size
    return total


def idle(digits: Digits) -> Ints:
    """The numbers whose digits with an axis are all 0, ascending: the copies of the first."""
    numbers, place = np.zeros(1, np.int64), 1
    for digit in reversed(digits):
        if digit.axis is None:
            numbers = (np.arange(digit.size)[:, None] * place + numbers).reshape(-1)
        place *= digit.size
    return numbers
