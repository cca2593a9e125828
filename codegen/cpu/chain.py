"""Elementwise ops between a load and the operand of a product: run elsewhere, or tabulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tilec.codegen.cpu import numbers, pointwise
from tilec.codegen.cpu.llvm import V, constant
from tilec.codegen.cpu.tiles import Index, Lazy, Writer
from tilec.ir.bits import from_raw
from tilec.ir.core import Op, Trait, Value
from tilec.ir.dtype import Array, DType
from tilec.ir.ops.memory import Load
from tilec.ir.ops.shape import Full
from tilec.ir.types import Tile

Made = Mapping[Value, Op]


@dataclass(frozen=True)
class Link:
    """An elementwise op of one tile; its other operands are numbers, None stands for the tile."""

    op: Op
    operands: tuple[float | int | bool | None, ...]

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for links that do the same."""
        return type(self.op), *map(str, self.op.attributes.values()), *map(repr, self.operands)

    @property
    def type(self) -> Tile:
        """The tile that it makes."""
        return _tile(self.op.result)


def chain(v: Value, made: Made) -> tuple[Load, tuple[Link, ...]] | None:
    """The load of which a tile is made by elementwise ops with numbers, and those ops in order."""
    found = origin(v, made)
    return (found[0], found[1]) if found is not None and isinstance(found[0], Load) else None


def origin(v: Value, made: Made) -> tuple[Op, tuple[Link, ...]] | None:
    """The op, itself no such one, of which a tile is made by elementwise ops with numbers, and
    those in order."""
    links: list[Link] = []
    op = made.get(v)
    while op is not None and Trait.ELEMENTWISE in op.traits:
        numbers_ = [_number(made.get(x)) for x in op.operands]
        if numbers_.count(None) != 1:
            return None
        links.append(Link(op, tuple(numbers_)))
        op = made.get(op.operands[numbers_.index(None)])
    return None if op is None else (op, tuple(reversed(links)))


def _number(op: Op | None) -> float | int | bool | None:
    if not isinstance(op, Full):
        return None
    return op.dtype.round(op.dtype.carrier(op.value)).item()


def tabulated(source: Op, links: tuple[Link, ...]) -> Array:
    """What the ops make of every code of the memory, in carriers."""
    return of_codes(_tile(source.result).dtype, links)


def of_codes(t: DType, links: tuple[Link, ...]) -> Array:
    """What the ops make of every code of a dtype, in carriers."""
    out = from_raw(t, np.arange(1 << t.bits))
    for link in links:
        given = (_tile(v).dtype.carrier(n) if n is not None else out
                 for v, n in zip(link.op.operands, link.operands, strict=True))  # fmt: skip
        with np.errstate(all="ignore"):
            out = link.type.dtype.round(np.asarray(link.op.evaluate(*given)))
    return out


def run(w: Writer, links: tuple[Link, ...], x: Lazy) -> Lazy:
    """The tile that the ops make of another."""
    for link in links:
        x = _linked(w, link, x)
    return x


def _linked(w: Writer, link: Link, x: Lazy) -> Lazy:
    kinds = [numbers.register(_tile(v).dtype) for v in link.op.operands]

    def at(index: Index, lanes: int) -> V:
        given = [x.at(index, lanes) if n is None else constant(kind, n, lanes)
                 for n, kind in zip(link.operands, kinds, strict=True)]  # fmt: skip
        return pointwise.emit(w.f, link.op, given)

    return replace(x, dtype=link.type.dtype, at=at, buffer=None, across=None, words=None,
                   below=0, plain=False)  # fmt: skip


def _tile(v: Value) -> Tile:
    assert isinstance(v.type, Tile)
    return v.type
