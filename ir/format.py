"""Formats: how the elements of a tensor argument are stored.

A format names its components (arrays with a dtype and a shape) and says how they decode: `values`
is the meaning, in numpy. `ir.fit` rounds dense values to components.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.dtype import Array, DType
from tilec.ir.extent import Extent


@dataclass(frozen=True)
class Component:
    """One stored array of a format, its extents in the tensor's own."""

    name: str
    dtype: DType
    shape: tuple[Extent, ...]


def prefixed(prefix: str, parts: dict[str, Array]) -> dict[str, Array]:
    """The components of a part, by the names that they have in the whole."""
    return {inside(prefix, name): x for name, x in parts.items()}


def inside(prefix: str, name: str) -> str:
    """A component's name in the whole: that of the part alone, where its component has none."""
    return f"{prefix}.{name}" if name else prefix


@dataclass(frozen=True)
class Format:
    """The base of the algebra; a format is a frozen value, equal by structure."""

    @property
    def value(self) -> DType:
        """The dtype that a decoded element has."""
        raise NotImplementedError

    @property
    def group(self) -> int | None:
        """Elements along the last axis that share a scale, where that is not all of them."""
        return None

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        """The arrays that store a tensor of this shape."""
        raise NotImplementedError

    def values(self, parts: dict[str, Array], shape: tuple[int, ...]) -> Array:
        """The exact dense values that components (in their carriers) stand for."""
        raise NotImplementedError

    @property
    def writable(self) -> bool:
        """Whether kernels may store to such tensors."""
        return False

    def fitted(self, x: Array) -> Format:
        """The format with as much room as a tensor needs; itself where its shape says it all."""
        return self

    def check(self, parts: dict[str, Array], shape: tuple[int, ...]) -> None:
        """Raise TileError where components contradict each other or point outside the tensor."""

    def bits(self, shape: tuple[int, ...]) -> int:
        """Bits of storage of a tensor of this shape."""
        total = 0
        for part in self.components(shape):
            size = 1
            for d in part.shape:
                size *= int(str(d))
            total += size * part.dtype.bits
        return total


@dataclass(frozen=True)
class Dense(Format):
    """Every element stored as itself: `f16`, or `u3` packed three bits an element."""

    dtype: DType

    def __str__(self) -> str:
        return str(self.dtype)

    @property
    def value(self) -> DType:
        return self.dtype

    @property
    def writable(self) -> bool:
        return True

    def components(self, shape: tuple[Extent, ...]) -> tuple[Component, ...]:
        return (Component("", self.dtype, shape),)

    def values(self, parts: dict[str, Array], shape: tuple[int, ...]) -> Array:
        return parts[""]
