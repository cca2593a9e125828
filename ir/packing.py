"""Layouts: how the components of a format lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tilec.ir.bits import restored, stored
from tilec.ir.composed import Experts, Mixed, Permuted, Plus, part
from tilec.ir.dtype import Array
from tilec.ir.format import Component, Format, prefixed
from tilec.ir.lanes import Lanes, Slabs
from tilec.ir.masked import Masked
from tilec.ir.scaled import Parts
from tilec.ir.stream import Records, Stream


@dataclass(frozen=True)
class Place:
    """Where a component is: in which array, and by what name in which records if in a stream."""

    array: int
    name: str
    records: Records | Masked | Slabs | None = None


@dataclass(frozen=True)
class Plain:
    """Every component an array of its own, row by row."""

    def arrays(self, format: Format, shape: tuple[int, ...]) -> int:
        """How many arrays there are."""
        return len(format.components(shape))

    def place(self, format: Format, shape: tuple[int, ...], component: str) -> Place:
        """Where a component is."""
        names = [c.name for c in format.components(shape)]
        return Place(names.index(component), component)

    def pack(self, format: Format, parts: Parts, shape: tuple[int, ...]) -> list[Array]:
        """Components in their carriers as bytes."""
        return [stored(c, parts[c.name]) for c in format.components(shape)]

    def unpack(self, format: Format, arrays: list[Array], shape: tuple[int, ...]) -> Parts:
        """The components again."""
        return {c.name: restored(c, a)
                for c, a in zip(format.components(shape), arrays, strict=True)}  # fmt: skip


@dataclass(frozen=True)
class Each:
    """The parts of a composed format, each in the layout of CPU code for itself."""

    def _parts(self, format: Format, shape: tuple[int, ...]) -> Iterator[_Part]:
        """The parts: their prefix, format, shape and layout; what belongs to none is plain."""
        for i, (inner, size) in enumerate(composed(format, shape)):
            yield _Part(str(i), inner, size, default_layout(inner, size))

    def arrays(self, format: Format, shape: tuple[int, ...]) -> int:
        """How many arrays there are."""
        parts = sum(p.layout.arrays(p.format, p.shape) for p in self._parts(format, shape))
        return parts + len(_own(format, shape))

    def place(self, format: Format, shape: tuple[int, ...], component: str) -> Place:
        """Where a component is, and how it lies there if in a stream."""
        own = [c.name for c in _own(format, shape)]
        if component in own:
            return Place(own.index(component), component)
        prefix, _, name = component.partition(".")
        at = len(own)
        for p in self._parts(format, shape):
            if p.prefix == prefix:
                found = place(p.layout, p.format, p.shape, name)
                return replace(found, array=at + found.array)
            at += p.layout.arrays(p.format, p.shape)
        raise KeyError(component)

    def pack(self, format: Format, parts: Parts, shape: tuple[int, ...]) -> list[Array]:
        """Components in their carriers as bytes."""
        out = [stored(c, parts[c.name]) for c in _own(format, shape)]
        for p in self._parts(format, shape):
            out += p.layout.pack(p.format, part(parts, p.prefix), p.shape)
        return out

    def unpack(self, format: Format, arrays: list[Array], shape: tuple[int, ...]) -> Parts:
        """The components again."""
        own = _own(format, shape)
        parts = {c.name: restored(c, a) for c, a in zip(own, arrays, strict=False)}
        rest = arrays[len(own) :]
        for p in self._parts(format, shape):
            count = p.layout.arrays(p.format, p.shape)
            inner = p.layout.unpack(p.format, rest[:count], p.shape)
            parts |= prefixed(p.prefix, inner)
            rest = rest[count:]
        return parts


@dataclass(frozen=True)
class _Part:
    prefix: str
    format: Format
    shape: tuple[int, ...]
    layout: Layout


def composed(format: Format, shape: tuple[int, ...]) -> list[tuple[Format, tuple[int, ...]]]:
    """The formats that a format is made of, and the shapes that they hold."""
    match format:
        case Plus(parts=parts):
            return [(p, shape) for p in parts]
        case Permuted(inner=inner):
            return [(inner, shape)]
        case Mixed() | Experts():
            return [(p, tuple(int(str(d)) for d in size)) for p, size in format.split(shape)]
        case _:
            return []


def _own(format: Format, shape: tuple[int, ...]) -> list[Component]:
    """The components of a composed format that belong to none of its parts."""
    own = {"0.rows", "1.rows"} if isinstance(format, Mixed) else {"order", "place"}
    composed_ = isinstance(format, Mixed | Permuted | Experts)
    return [c for c in format.components(shape) if composed_ and c.name in own]


Layout = Plain | Stream | Lanes | Each


def default_layout(format: Format, shape: tuple[int, ...]) -> Layout:
    """The layout of CPU code for a tensor."""
    if isinstance(format, (Plus, Mixed, Permuted, Experts)):
        return Each()
    if Lanes.fits(format, shape):
        return Lanes()
    return Stream() if Stream.fits(format, shape) else Plain()


def place(layout: Layout, format: Format, shape: tuple[int, ...], component: str) -> Place:
    """Where a component is, and how it lies there if that is a stream."""
    if isinstance(layout, Lanes):
        order = layout.order(format, shape, component)
        return Place(layout.place(format, component), component, order)
    if not isinstance(layout, Stream):
        return layout.place(format, shape, component)
    index = layout.place(format, component)
    return Place(index, component, layout.records(format, shape, component))
