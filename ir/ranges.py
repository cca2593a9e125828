"""Dimensions that stay open: the sizes that one code is made for, as numbers and as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.ir.errors import TileError


@dataclass(frozen=True)
class Range:
    """The sizes from `least` to `most`, both among them."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}-{self.most}"

    def __contains__(self, size: int) -> bool:
        return self.least <= size <= self.most


Ranges = Mapping[str, Range]
Sizes = Mapping[str, int | Range]  # of dimensions that code is made for, known or open


def shown(ranges: Ranges) -> str:
    """`M=17-64+N=1-8`, which `read` takes."""
    return "+".join(f"{name}={found}" for name, found in ranges.items())


def read(text: str) -> dict[str, Range]:
    """The ranges of a text by the names of dimensions. Raises TileError for anything else."""
    found: dict[str, Range] = {}
    for word in filter(None, text.split("+")):
        name, _, sizes = (part.strip() for part in word.partition("="))
        least, _, most = sizes.partition("-")
        if not (name.isidentifier() and least.isdecimal() and most.isdecimal()):
            raise TileError(f"ranges: {word!r} is not DIMENSION=LEAST-MOST")
        if int(least) > int(most):
            raise TileError(f"ranges: {name} has no size: {least} is more than {most}")
        found[name] = Range(int(least), int(most))
    return found


def numbers(dims: Sizes) -> dict[str, int]:
    """The dimensions that are numbers."""
    return {name: size for name, size in dims.items() if isinstance(size, int)}


def opened(dims: Sizes) -> dict[str, Range]:
    """The dimensions that stay open."""
    return {name: size for name, size in dims.items() if isinstance(size, Range)}
