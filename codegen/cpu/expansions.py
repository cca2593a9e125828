"""Streams of values and their places, as products read them or as tiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tilec.codegen.cpu import chain, lanes
from tilec.codegen.cpu.chain import Link
from tilec.codegen.cpu.filled import filled
from tilec.codegen.cpu.tiles import Coordinates, Lazy, Tensor, Writer
from tilec.ir.bits import from_raw
from tilec.ir.core import Value
from tilec.ir.errors import TileError
from tilec.ir.masked import Masked
from tilec.ir.ops.sparse import Expand
from tilec.ir.types import Tile

Env = Mapping[Value, Lazy | Coordinates | Tensor]


def plain(op: Expand, links: tuple[Link, ...]) -> bool:
    """Whether what is made of a stream's elements is their values."""
    if not links:
        return True
    assert isinstance(op.result.type, Tile)
    t = op.result.type.dtype
    own = from_raw(t, np.arange(1 << t.bits)) if t.bits <= 8 else None
    return own is not None and np.array_equal(own, chain.tabulated(op, links), equal_nan=True)


@dataclass(frozen=True)
class Expansion:
    """What an `expand` reads: values and their places, at rows and columns."""

    tensors: tuple[Tensor, Tensor]
    places: tuple[Coordinates, Coordinates]

    @property
    def missing(self) -> str:
        """What would make it a step that lies in one piece, or nothing."""
        return lanes.scattered(self.tensors[0], *self.places)


def expansion(op: Expand, env: Env) -> Expansion:
    """What an `expand` reads. Raises TileError for what is no stream of values and bits."""
    values, places, n, k = (env[v] for v in op.operands)
    if not (isinstance(values, Tensor) and isinstance(places, Tensor)):
        raise TileError(f"cpu: expand of {op.values.type} that is no argument")
    if not (isinstance(n, Coordinates) and isinstance(k, Coordinates)):
        raise TileError("cpu: expand at no spans")
    if not isinstance(values.records, Masked):
        raise TileError("cpu: expand reads a stream of values and bits, the layout Lanes()")
    return Expansion((values, places), (n, k))


def expand(w: Writer, op: Expand, env: Env, alone: bool) -> Lazy:
    """A tile of a stream of values. Where nothing but a product reads it (`alone`), it stays in the
    stream until then if it lies there in one piece."""
    found = expansion(op, env)
    if alone and not found.missing:
        return lanes.waiting(w, op)
    if found.missing:
        w.remark(op, f"`{op.values.hint}` is expanded into memory", found.missing)
    assert isinstance(op.result.type, Tile)
    return filled(w, found.tensors, found.places, op.result.type)
