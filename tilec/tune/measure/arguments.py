"""Random arguments of a kernel, made of a seed: the same wherever they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from math import prod
from typing import Any

import numpy as np

from tilec.ir import fit
from tilec.ir.core import Func, Value
from tilec.ir.dtype import Array, DType
from tilec.ir.errors import TileError
from tilec.ir.format import Dense, Format
from tilec.ir.sparse import Sparse
from tilec.ir.types import Memory, Tile
from tilec.runtime.tensor import PackedTensor, packed

FULLEST, THINNER, LEAST = 0.98, 0.8, 1e-4  # parts of a sparse tensor that are tried, and steps
Argument = Array | PackedTensor | int | float | bool


def arguments(func: Func, seed: int) -> list[Argument]:
    """An argument for each of the user's parameters of a kernel whose extents are numbers.

    Floats are normal; whole numbers are places along the shortest axis of any tensor, so that they
    can be indices. Raises TileError for formats that random data can't fill.
    """
    random = np.random.default_rng(seed)
    given = [p for p in func.params if "." not in p.hint]
    shortest = min((n for p in given for n in _shape(p) if n > 1), default=2)
    return [_argument(p, shortest, random) for p in given]


def _shape(p: Value) -> tuple[int, ...]:
    return tuple(int(str(d)) for d in p.type.shape) if isinstance(p.type, Memory) else ()


def _argument(p: Value, shortest: int, random: np.random.Generator) -> Argument:
    shape = _shape(p)
    match p.type:
        case Memory(format=Dense(dtype=dtype)):
            return dtype.to_storage(_values(dtype, shape, shortest, random))
        case Memory(format=Sparse() as format):
            return _sparse(format, shape, random)
        case Memory(format=format):
            parts = fit.encode(format, random.standard_normal(shape), fit.Fit(False, "range"))
            return packed(format, parts, shape)
        case Tile(dtype=dtype):
            return _values(dtype, (), shortest, random).item()
        case _:
            raise TileError(f"`{p.hint}` is no argument: {p.type}")


def _values(t: DType, shape: Sequence[int], shortest: int, random: np.random.Generator) -> Array:
    if t.is_float:
        return t.round(random.standard_normal(shape))
    if t.kind == "bool":
        return random.integers(0, 2, shape).astype(bool)
    return random.integers(0, min(int(t.high), shortest - 1) + 1, shape)


def _sparse(format: Sparse, shape: tuple[int, ...], random: np.random.Generator) -> PackedTensor:
    """A tensor as full as its format has room for. Raises TileError where none is found."""
    values = random.standard_normal(shape)
    if "room" not in {f.name for f in fields(format)}:
        return packed(format, _encoded(format, values), shape)
    density = min(1.0, FULLEST * _stored(format, shape))
    while density > LEAST:
        pruned = format.pruned(values, density)
        try:
            return packed(format, _encoded(format, pruned), shape)
        except TileError:
            density *= THINNER
    raise TileError(f"no random data for a tensor of {format}{list(shape)}",
                    hint="only formats that values can be rounded to can be tuned")  # fmt: skip


def _encoded(format: Format, values: Array) -> dict[str, Array]:
    return fit.encode(format, values, fit.Fit(False, "range"))


def _stored(format: Sparse, shape: tuple[int, ...]) -> float:
    """The part of a tensor's elements that its format has room for."""
    found: Any = format.stored(shape)
    return prod(int(str(n)) for n in found) / prod(shape)
