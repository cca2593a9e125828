"""Loads and stores: pointers, masks, and codes of less than a byte."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tilec.codegen.triton.printer import Printer, dtype_of, spread
from tilec.ir.core import Value
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.types import Memory, Span, Tile

LARGEST = 1 << 31
GROUPS = re.compile(r"ceiling\((\w+)/(\d+)\)")  # the groups of a dimension, as an extent says it


@dataclass(frozen=True)
class Place:
    """One index: the text of its coordinates, the axes of the tile they run along, its mask."""

    text: str
    axes: tuple[int, ...]
    mask: tuple[str, ...]


def places(
    p: Printer, indices: Sequence[Value], texts: Sequence[str], dims: Sequence[Extent],
    inside: Sequence[bool],
) -> tuple[list[Place], int]:  # fmt: skip
    """Where each index stands in the tile, and the tile's rank; `inside` ones need no check."""
    found: list[Place] = []
    axis, joint = 0, -1
    for v, text, dim, sure in zip(indices, texts, dims, inside, strict=True):
        if isinstance(v.type, Span):
            mask = p.axis(v.type.size).mask
            found.append(Place(text, (axis,), (mask,) if mask else ()))
            axis += 1
            continue
        assert isinstance(v.type, Tile)
        rank = v.type.rank
        if rank and joint < 0:
            joint, axis = axis, axis + rank
        axes = tuple(range(joint, joint + rank)) if rank else ()
        own = [spread(m, (i,), rank) for i, d in enumerate(v.type.shape) if (m := p.axis(d).mask)]
        checks = () if sure else (f"({text} >= 0)", f"({text} < {_number(dim)})")
        found.append(Place(text, axes, (*checks, *own)))
    return found, axis


def _number(e: Extent) -> str:
    """An extent as Triton computes it."""
    if isinstance(e, int) or e.is_name:
        return str(e)
    if groups := GROUPS.fullmatch(e.text):
        return f"tl.cdiv({groups[1]}, {groups[2]})"
    raise TileError(f"triton: no code for the extent {e}", hint="give its dimensions numbers")


def _mask(found: list[Place], rank: int) -> str:
    parts = dict.fromkeys(spread(m, f.axes, rank) for f in found for m in f.mask)
    return " & ".join(parts)


def _offset(t: Memory, found: list[Place], rank: int, last: str = "") -> str:
    """The number of an element, row by row; `last` is the pitch of rows of packed bytes."""
    known = [d for d in t.shape if isinstance(d, int)]
    wide = len(known) < len(t.shape) or prod(known) >= LARGEST
    terms: list[str] = []
    dims = list(t.shape)
    for i, f in enumerate(found[: -1 if last else None]):
        text = spread(f.text, f.axes, rank)
        rest = dims[i + 1 : -1] if last else dims[i + 1 :]
        stride = " * ".join([*map(_number, rest), *([last] if last else [])])
        if wide and stride and not f.axes:  # a number may be one of Python's, which has no methods
            text = f"tl.cast({text}, tl.int64)"
        elif wide and stride and "tl.arange" not in text:
            text = f"{text}.to(tl.int64)"
        terms.append(f"{text} * {stride}" if stride else text)
    return " + ".join(terms)


def load(p: Printer, mem: str, t: Memory, found: list[Place], rank: int) -> str:
    """The expression of a tile in memory; what lies outside reads 0."""
    mask = _mask(found, rank)
    dtype_of(t.dtype)  # refuses what has no values here
    if t.dtype.is_integer and t.dtype.bits < 8:
        return _codes(mem, t, found, rank, mask)
    pointer = f"{mem} + {_offset(t, found, rank)}" if found else mem
    zero = "0.0" if t.dtype.is_float else "0"
    text = f"tl.load({pointer}, mask={mask}, other={zero})" if mask else f"tl.load({pointer})"
    return f"({text} != 0)" if t.dtype.kind == "bool" else text


def _codes(mem: str, t: Memory, found: list[Place], rank: int, mask: str) -> str:
    """Codes of less than a byte: little-endian bits along the last axis, rows of whole bytes."""
    bits, k = t.dtype.bits, t.shape[-1] if t.shape else 1
    pitch = str(-(-k * bits // 8)) if isinstance(k, int) else f"(({k} * {bits} + 7) // 8)"
    at = spread(found[-1].text, found[-1].axes, rank) if found else "0"
    row = _offset(t, found, rank, pitch) if len(found) > 1 else ""
    start = f"{mem} + {row} + " if row else f"{mem} + "
    given = f", mask={mask}, other=0" if mask else ""
    code = f"(tl.load({start}({at}) * {bits} // 8{given}).to(tl.int32) >> (({at}) * {bits} % 8))"
    if 8 % bits:  # a code may end in the next byte
        over = f"(({at}) * {bits} % 8 > {8 - bits})"
        inside = f"{mask} & {over}" if mask else over
        code = (f"({code} | (tl.load({start}({at}) * {bits} // 8 + 1, mask={inside}, other=0)"
                f".to(tl.int32) << (8 - ({at}) * {bits} % 8)))")  # fmt: skip
    return signed(t.dtype, f"({code} & {(1 << bits) - 1})")


def signed(t: DType, code: str) -> str:
    """The value of an integer of few bits."""
    if t.kind == "uint":
        return f"{code}.to({dtype_of(t)})"
    half = 1 << t.bits - 1
    return f"(({code} ^ {half}) - {half}).to({dtype_of(t)})"


def store(mem: str, t: Memory, found: list[Place], rank: int, value: str) -> str:
    """The statement that writes a tile, where it lies inside."""
    mask = _mask(found, rank)
    pointer = f"{mem} + {_offset(t, found, rank)}" if found else mem
    return f"tl.store({pointer}, {value}, mask={mask})" if mask else f"tl.store({pointer}, {value})"
