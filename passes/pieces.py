"""Copies of tiles in pieces of rows, by all threads of a block (PTX ISA, cp.async)."""

from __future__ import annotations

from tilec.ir.core import Value
from tilec.ir.format import Dense
from tilec.ir.ops import control, memory, packed
from tilec.ir.types import Memory, Span
from tilec.passes.parts import tile

WIDTHS = (16, 8, 4)  # bytes that one asynchronous copy moves


def obstacle(load: memory.Load, loop: control.For) -> str:
    """Why a load can't be copied in pieces, or nothing."""
    assert isinstance(load.mem.type, Memory)
    t, sizes = load.mem.type, tile(load.result).shape
    if not isinstance(load.indices[-1].type, Span):
        return "a span as the last index"
    if len(moving(load, loop)) != 1:
        return "one axis along which the loop goes"
    if not isinstance(t.format, Dense) or len(sizes) < 2:
        return "a matrix"
    if t.dtype.bits > 8 and t.dtype.bits & (t.dtype.bits - 1):
        return "elements of which whole ones fill 4 bytes"
    return _unknown(load, loop) or _uneven(load, loop) or _gathered(load, loop)


def _gathered(load: memory.Load, loop: control.For) -> str:
    """Why rows that a tile of indices picks can't be copied by threads that each know the rows of
    their pieces, or nothing."""
    assert isinstance(load.mem.type, Memory)
    tiles = [tile(i) for i in numbers(load) if tile(i).shape]
    if not tiles:
        return ""
    if len(tiles) > 1 or tiles[0].rank > 1 or load.indices[-1] is not loop.body.params[0]:
        return "one row of indices, and columns along which the loop goes"
    extents = (load.mem.type.shape[-1], tile(load.result).shape[-1], loop.tile or 0)
    if any(int(str(n)) * load.mem.type.dtype.bits % (8 * WIDTHS[0]) for n in extents):
        return f"rows and steps of a multiple of {WIDTHS[0]} bytes"
    return ""


def moving(load: memory.Load, loop: control.For) -> dict[int, int]:
    """The axes of memory along which a loop goes: k's of the loop for one of the axis."""
    k = loop.body.params[0]
    found = {i: 1 for i, v in enumerate(load.indices) if v is k}
    made = {o.result: o for o in loop.body.ops if isinstance(o, packed.Groups)}
    groups = {i: made[v] for i, v in enumerate(load.indices) if v in made}
    return found | {i: o.by for i, o in groups.items() if o.span is k and o.rows == 1}


def numbers(load: memory.Load) -> list[Value]:
    """The indices of a load that are no spans."""
    return [i for i in load.indices if not isinstance(i.type, Span)]


def own(load: memory.Load, loop: control.For) -> list[Value]:
    """The indices of a load that move with a loop."""
    return [load.indices[i] for i in moving(load, loop)]


def _unknown(load: memory.Load, loop: control.For) -> str:
    """Which length would have to be a number, or nothing."""
    assert isinstance(load.mem.type, Memory)
    if not isinstance(load.mem.type.shape[-1], int):
        return "rows whose length is a number"
    if loop.first is not None and not isinstance(loop.dim, int):
        return "a loop whose length is a number, or that begins with the first tile"
    return ""


def _uneven(load: memory.Load, loop: control.For) -> str:
    """Why pieces can't begin where rows and tiles do, or nothing."""
    assert isinstance(load.mem.type, Memory)
    t, sizes = load.mem.type, tile(load.result).shape
    by = moving(load, loop).get(len(t.shape) - 1)
    for extent in (t.shape[-1], sizes[-1], *([(loop.tile or 0) // by] if by else [])):
        if int(str(extent)) * t.dtype.bits % (8 * WIDTHS[-1]):
            return f"rows and steps of a multiple of {WIDTHS[-1]} bytes"
    return ""
