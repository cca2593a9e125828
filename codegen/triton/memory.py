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
    inside: Sequence[bool], masks: Sequence[str],
) -> tuple[list[Place], int]:  # fmt: skip
    """Where each index stands in the tile, and the tile's rank; `inside` ones need no check, and
    `masks` are those of spans."""
    found: list[Place] = []
    axis, joint = 0, -1
    for v, text, dim, sure, mask in zip(indices, texts, dims, inside, masks, strict=True):
        if isinstance(v.type, Span):
            found.append(Place(text, (axis,), (mask,) if mask else ()))
            axis += 1
            continue
        assert isinstance(v.type, Tile)
        rank = v.type.rank
        if rank and joint < 0:
            joint, axis = axis, axis + rank
        axes = tuple(range(joint, joint + rank)) if rank else ()
        own = [spread(m, (i,), rank) for i, d in enumerate(v.type.shape) if (m := p.axis(d).mask)]
        low_high = f"({text} >= 0) & ({text} < {number(dim)})"
        checks = [] if sure or _lies_in(text, dim) else [low_high]
        if checks and text.isidentifier():  # own masks of a tile of rank 1 join
            whole = " & ".join([*checks, *own] if rank < 2 else checks)
            name = _aside(p, f"mask_{p.bases.get(text, text)}", whole)
            checks, own = [name], own if rank > 1 else []
        elif checks and rank:  # to be spread as one
            checks = [f"({checks[0]})"]
        found.append(Place(text, axes, (*checks, *own)))
    return found, axis


def _lies_in(text: str, dim: Extent) -> bool:
    """Whether an index is a number that every tensor of this extent has."""
    return text.isdecimal() and isinstance(dim, int) and int(text) < dim


def _aside(p: Printer, name: str, text: str) -> str:
    """The name of what may be computed before a loop that does not change it."""
    name = p.fresh(name)
    p.movable.add(name)
    p.line(f"{name} = {text}")
    return name


def number(e: Extent, cdiv: str = "tl.cdiv") -> str:
    """An extent as a kernel computes it, or with another division that rounds up."""
    if isinstance(e, int) or e.is_name:
        return str(e)
    if groups := GROUPS.fullmatch(e.text):
        return f"{cdiv}({groups[1]}, {groups[2]})"
    raise TileError(f"triton: no code for the extent {e}", hint="give its dimensions numbers")


def _mask(found: list[Place], rank: int) -> str:
    """What lies inside. Triton's interpreter joins no number with a tile of bits."""
    tiles = " & ".join(dict.fromkeys(spread(m, f.axes, rank)
                                     for f in found if f.axes for m in f.mask))  # fmt: skip
    numbers = " & ".join(dict.fromkeys(m for f in found if not f.axes for m in f.mask))
    if not numbers or not tiles:
        return tiles or numbers
    return f"tl.where({numbers}, {tiles}, False)"


def _terms(p: Printer, t: Memory, found: list[Place], rank: int, last: str = "") -> list[str]:
    """What makes up the number of an element; `last` is the pitch of rows of packed bytes, whose
    own number is not among them."""
    known = [d for d in t.shape if isinstance(d, int)]
    wide = len(known) < len(t.shape) or prod(known) >= LARGEST
    terms: list[str] = []
    dims = list(t.shape)
    for i, f in enumerate(found[: -1 if last else None]):
        text = spread(f.text, f.axes, rank)
        rest = dims[i + 1 : -1] if last else dims[i + 1 :]
        stride = " * ".join([*map(number, rest), *([last] if last else [])])
        if wide and stride and not f.axes and text not in p.tensors:
            text = f"tl.cast({text}, tl.int64)"  # a number of Python's has no methods
        elif wide and stride and "tl.arange" not in text:
            text = f"{text}.to(tl.int64)"
        if f.text != "0":
            terms.append(f"{text} * {stride}" if stride else text)
    return terms


def _pointer(p: Printer, mem: str, t: Memory, found: list[Place], rank: int) -> str:
    """Where the elements of a tile lie: in rows, which get a name, and along the last axis."""
    terms = _terms(p, t, found, rank)
    if len(terms) < 2:
        return " + ".join([mem, *terms])
    return f"{_rows(p, mem, terms[:-1], found[:-1])} + {terms[-1]}"


def _rows(p: Printer, mem: str, terms: list[str], found: list[Place]) -> str:
    """The name of where rows start."""
    name = f"{mem}_rows" if any(f.axes for f in found) else f"{mem}_row"
    return _aside(p, name, " + ".join([mem, *terms])) if terms else mem


def load(p: Printer, mem: str, t: Memory, found: list[Place], rank: int) -> str:
    """The expression of a tile in memory; what lies outside reads 0."""
    mask = _mask(found, rank)
    dtype_of(t.dtype)  # refuses what has no values here
    if t.dtype.is_integer and t.dtype.bits < 8:
        return _codes(p, mem, t, found, rank, mask)
    pointer = _pointer(p, mem, t, found, rank)
    zero = "0.0" if t.dtype.is_float else "0"
    text = f"tl.load({pointer}, mask={mask}, other={zero})" if mask else f"tl.load({pointer})"
    return f"({text} != 0)" if t.dtype.kind == "bool" else text


def raw(p: Printer, mem: str, t: Memory, found: list[Place], rank: int) -> str:
    """The bytes that hold a tile of codes; of codes in pairs the last place counts the pairs."""
    mask = _mask(found, rank)
    if t.dtype.bits < 8:
        rows = _rows(p, mem, _terms(p, t, found, rank, _pitch(t)), found[:-1])
        pointer = f"{rows} + {spread(found[-1].text, found[-1].axes, rank)}"
    else:
        pointer = _pointer(p, mem, t, found, rank)
    zero = "0.0" if t.dtype.is_float else "0"
    return f"tl.load({pointer}, mask={mask}, other={zero})" if mask else f"tl.load({pointer})"


def _pitch(t: Memory) -> str:
    """The bytes of a row of codes."""
    bits, k = t.dtype.bits, t.shape[-1] if t.shape else 1
    return str(-(-k * bits // 8)) if isinstance(k, int) else f"(({k} * {bits} + 7) // 8)"


def _codes(p: Printer, mem: str, t: Memory, found: list[Place], rank: int, mask: str) -> str:
    """Codes of less than a byte: little-endian bits along the last axis, rows of whole bytes."""
    bits, given = t.dtype.bits, f", mask={mask}, other=0" if mask else ""
    at = spread(found[-1].text, found[-1].axes, rank) if found else "0"
    rows = _rows(p, mem, _terms(p, t, found, rank, _pitch(t)) if found else [], found[:-1])
    if not 8 % bits:
        code = f"tl.load({rows} + ({at}) // {8 // bits}{given}).to(tl.int32)"
        return signed(t.dtype, f"(({code} >> (({at}) % {8 // bits} * {bits})) & {(1 << bits) - 1})")
    bit, low, high = (p.fresh(f"{mem}_{name}") for name in ("bit", "low", "high"))
    over = f"({bit} % 8 > {8 - bits})"  # a code may end in the next byte
    p.line(f"{bit} = ({at}) * {bits}")
    p.line(f"{low} = tl.load({rows} + {bit} // 8{given}).to(tl.int32)")
    over = f"{mask} & {over}" if mask else over
    p.line(f"{high} = tl.load({rows} + {bit} // 8 + 1, mask={over}, other=0).to(tl.int32)")
    return signed(t.dtype, f"((({low} | {high} << 8) >> ({bit} % 8)) & {(1 << bits) - 1})")


def signed(t: DType, code: str) -> str:
    """The value of an integer of few bits."""
    if t.kind == "uint":
        return f"{code}.to({dtype_of(t)})"
    half = 1 << t.bits - 1
    return f"(({code} ^ {half}) - {half}).to({dtype_of(t)})"


def store(
    p: Printer, mem: str, t: Memory, found: list[Place], rank: int, value: str, where: str = ""
) -> str:
    """The statement that writes a tile, where it lies inside and the mask `where` is true."""
    return f"tl.store({_written(p, mem, t, found, rank, value, where)})"


def accumulate(
    p: Printer, mem: str, t: Memory, found: list[Place], rank: int, value: str, where: str = ""
) -> str:
    """The statement that adds a tile to what is in memory. Triton has atomic sums of whole numbers
    of 32 bits and more, and of floats of 16 bits and more."""
    if t.dtype.bits < (16 if t.dtype.is_float else 32):
        raise TileError(f"triton: no code for sums of {t.dtype} in memory",
                        hint="add in i32 or f32")  # fmt: skip
    return f'tl.atomic_add({_written(p, mem, t, found, rank, value, where)}, sem="relaxed")'


def _written(
    p: Printer, mem: str, t: Memory, found: list[Place], rank: int, value: str, where: str
) -> str:
    """Where a tile goes, the tile, and the mask of what lies inside."""
    mask = " & ".join(filter(None, (_mask(found, rank), where)))
    pointer = _pointer(p, mem, t, found, rank)
    return f"{pointer}, {value}, mask={mask}" if mask else f"{pointer}, {value}"
