"""Where a product's operands lie in memory: rows, rows of packed codes, one matrix of a stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import gcd

from tilec.codegen.cpu.atoms import Rows
from tilec.codegen.cpu.llvm import V, constant
from tilec.codegen.cpu.places import Picked, address, picked, strides, surely_inside
from tilec.codegen.cpu.tiles import Coordinates, Lazy, Tensor, Writer, fixed


def rows(w: Writer, mem: Tensor, indices: tuple[object, ...], stride: int) -> Rows | None:
    """The rows mem[indices], if they surely are there and the last of the indices is a span."""
    places = [p for p in indices if isinstance(p, Coordinates | Lazy)]
    *outer, last = places
    if len(places) != len(indices) or not isinstance(last, Coordinates):
        return None
    if not all(isinstance(p, Lazy) and not p.shape for p in outer):
        return None
    known = picked(w, mem, tuple(outer))
    if not all(map(surely_inside, known)):
        return None
    at = tuple(p.at for p in known if isinstance(p, Picked))
    return Rows(address(w, mem, (*at, last.start, 0)), stride)


def code_row(w: Writer, mem: Tensor, indices: Sequence[object]) -> V | None:
    """Where the first of the rows of packed codes mem[indices] begins, if it is surely there and
    the last two indices are spans."""
    *outer, rows, k = indices
    if not (isinstance(rows, Coordinates) and isinstance(k, Coordinates)):
        return None
    known = picked(w, mem, tuple(p for p in outer if isinstance(p, Lazy) and not p.shape))
    if len(known) < len(outer) or not all(map(surely_inside, known)):
        return None
    bits, depth = mem.dtype.bits, fixed(mem.shape[-1], "rows of codes")
    steps = strides(w, depth * bits // 8, mem.shape[:-1])
    at = (*(p.at for p in known if isinstance(p, Picked)), rows.start)
    first = w.f.divided(w.f.times(k.start, bits), 8)[0]
    return w.address(mem.at, (*at, first), (*steps, 1))


def matrix(w: Writer, mem: Tensor, indices: tuple[object, ...]
           ) -> tuple[Coordinates, Coordinates] | None:  # fmt: skip
    """The rows and columns of a tile of a matrix, or of one that a number chooses of a stack of
    them, as rows of them all. There are no columns where the number is of none."""
    places = [p for p in indices if isinstance(p, Coordinates | Lazy)]
    *outer, n, k = places if len(places) == len(indices) > 1 else (None, None)
    if not (isinstance(n, Coordinates) and isinstance(k, Coordinates)) or len(outer) > 1:
        return None
    if not outer:
        return n, k
    (place,), rows = picked(w, mem, tuple(outer)), mem.shape[1]
    if not isinstance(place, Picked) or not isinstance(rows, int):
        return None
    start = w.f.plus(w.f.times(place.at, rows), n.start)
    size = k.size
    if place.inside is not None:
        size = w.f.select(place.inside, w.f.number(size), constant("i64", 0))
    return replace(n, start=start, multiple=gcd(n.multiple, rows)), replace(k, size=size)
