"""What a value of the IR can be: a tile of elements, a span of coordinates, or memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.ir.dtype import DType
from tilec.ir.extent import Extent, Sym, substitute
from tilec.ir.format import Dense, Format

Shape = tuple[Extent, ...]


def show_shape(shape: Shape) -> str:
    """`[M, 64]`, and nothing for a scalar."""
    return f"[{', '.join(map(str, shape))}]" if shape else ""


@dataclass(frozen=True)
class Tile:
    """A dense rectangle of elements; rank 0 is a scalar. At a dimension's edge it is clipped."""

    shape: Shape
    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype}{show_shape(self.shape)}"

    @property
    def rank(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class Span:
    """`size` consecutive coordinates along a dimension of `dim` elements, fewer at its end."""

    dim: Extent
    size: Extent

    def __str__(self) -> str:
        return f"span[{self.dim}, {self.size}]"


@dataclass(frozen=True)
class Memory:
    """A tensor argument: its extents, and the format in which its elements are stored."""

    shape: Shape
    format: Format

    def __str__(self) -> str:
        return f"*{self.format}{show_shape(self.shape)}"

    @property
    def dtype(self) -> DType:
        """The element type of a tile loaded from here."""
        return self.format.value


Type = Tile | Span | Memory


def memory(dtype: DType, *shape: Extent) -> Memory:
    """Dense memory."""
    return Memory(shape, Dense(dtype))


def symbols(t: Type) -> list[Extent]:
    """Every extent that a type names."""
    return [t.dim, t.size] if isinstance(t, Span) else list(t.shape)


def specialise(t: Type, known: Mapping[str, Extent]) -> Type:
    """The type with symbols replaced by what is known of them."""
    match t:
        case Span():
            return Span(substitute(t.dim, known), substitute(t.size, known))
        case Tile():
            return Tile(tuple(substitute(d, known) for d in t.shape), t.dtype)
        case Memory():
            return Memory(tuple(substitute(d, known) for d in t.shape), t.format)


__all__ = ["Extent", "Memory", "Shape", "Span", "Sym", "Tile", "Type", "memory", "show_shape",
           "specialise", "symbols"]  # fmt: skip
