"""Stacks of signs: each level a sign for every element, times a matrix of low rank (BitStack)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir import fit
from tilec.ir.dtype import Array, DType, f16, f32, integer
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.format import Component, Format
from tilec.ir.scaled import Parts

BIT = integer(1, signed=False)


@dataclass(frozen=True)
class Signs(Format):
    """The sum of `levels` levels, each a sign times left[N, rank] @ right[rank, K] (BitStack,
    arXiv 2410.23918); the sign is minus where its bit is 1.

    Products of factors, which are exact, are added in the order of the rank, and levels in theirs,
    each sum rounded to f32. The first levels of a stack are a stack.
    """

    levels: int
    rank: int

    def __post_init__(self) -> None:
        if self.levels < 1 or self.rank < 1:
            raise TileError("bitstack: expected at least one level of a rank of at least 1, "
                            f"not {self.levels} of {self.rank}")  # fmt: skip

    def __str__(self) -> str:
        return f"bitstack<{self.levels}, {self.rank}>"

    @property
    def value(self) -> DType:
        return f32

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        if len(shape) != 2:
            raise TileError(f"{self}: expected a matrix, not {len(shape)} dimensions")
        n, k = shape
        return (Component("signs", BIT, (self.levels, n, k)),
                Component("left", f16, (self.levels, n, self.rank)),
                Component("right", f16, (self.levels, self.rank, k)))  # fmt: skip

    def values(self, parts: Parts, shape: tuple[int, ...]) -> Array:
        out: Array | None = None
        for i in range(self.levels):
            value = level(parts["signs"][i], parts["left"][i], parts["right"][i])
            out = value if out is None else f32.round(out + value)
        assert out is not None
        return out


def level(signs: Array, left: Array, right: Array) -> Array:
    """The values of one level."""
    with np.errstate(invalid="ignore", over="ignore"):
        size = f32.round(left[:, :1] * right[:1])
        for j in range(1, left.shape[1]):
            size = f32.round(size + f32.round(left[:, j : j + 1] * right[j : j + 1]))
    return np.where(signs == 1, -size, size)


@fit.encode.register
def _(format: Signs, x: Array, how: fit.Fit) -> Parts:
    """Each level the signs of what those before it left, and the best factors of its size."""
    rest = fit.checked(format, x)
    format.components(rest.shape)
    found: list[tuple[Array, Array, Array]] = []
    for _ in range(format.levels):
        signs = (rest < 0).astype(np.int64)
        left, right = _factors(np.abs(rest), format.rank)
        found.append((signs, f16.round(left, saturate=True), f16.round(right, saturate=True)))
        rest = rest - level(*found[-1])
    stacked = (np.stack(part) for part in zip(*found, strict=True))
    return dict(zip(("signs", "left", "right"), stacked, strict=True))


def _factors(x: Array, rank: int) -> tuple[Array, Array]:
    """The best factors in least squares, the singular values shared between them."""
    u, s, v = np.linalg.svd(x, full_matrices=False)
    left, right = np.zeros((x.shape[0], rank)), np.zeros((rank, x.shape[1]))
    kept = min(rank, len(s))
    root = np.sqrt(s[:kept])
    left[:, :kept], right[:kept] = u[:, :kept] * root, root[:, None] * v[:kept]
    return left, right
