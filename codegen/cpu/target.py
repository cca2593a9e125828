"""What products are added to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tilec.codegen.cpu.llvm import Function, Number, V, constant
from tilec.codegen.cpu.tiles import At, Buffer, Index, Lazy, Writer


@dataclass(frozen=True)
class Target:
    """What products are added to, after scaling: a buffer of whole vectors a row, or `start`, and
    the buffer is written then. Scales of columns that are read but once are a tile that is
    evaluated there."""

    buffer: Buffer
    kind: str  # of its elements
    scale: Buffer | Lazy | None = None  # of columns
    row_scale: Buffer | None = None
    start: Lazy | None = None

    def scales(self, w: Writer, column: int, size: int) -> V | None:
        """The scales of a vector of columns, elements of `size` bytes."""
        if isinstance(self.scale, Lazy):
            return self.scale.at((column,), w.lanes)
        if self.scale is None:
            return None
        return w.f.load(self.kind, w.lanes, w.f.pointer(self.scale.at, column * size))

    def few(self, w: Writer, column: Number, lanes: int) -> V | None:
        """The scales of some columns, as floats."""
        if self.scale is None or isinstance(self.scale, Lazy):
            return None if self.scale is None else self.scale.at((column,), lanes)
        return w.f.load("float", lanes, w.address(self.scale.at, (column,), (4,)), 4)

    def of_row(self, w: Writer, row: Number, lanes: int) -> V | None:
        """The scale of a row, as floats."""
        if self.row_scale is None:
            return None
        return w.f.splat(w.f.load("float", 1, w.address(self.row_scale.at, (row,), (4,)), 4), lanes)

    def beyond(self, w: Writer, column: V, size: int) -> Target:
        """The same from a column on, elements of `size` bytes."""
        offset = w.f.times(column, size)
        scale, start = self.scale, self.start
        if isinstance(scale, Lazy):
            scale = replace(scale, at=_later(w, scale, column))
        elif scale is not None:
            scale = replace(scale, at=w.f.pointer(scale.at, offset))
        if start is not None:
            start = replace(start, at=_later(w, start, column))
        buffer = replace(self.buffer, at=w.f.pointer(self.buffer.at, offset))
        return replace(self, buffer=buffer, scale=scale, start=start)


def _later(w: Writer, x: Lazy, column: V) -> At:
    """How elements of a row or a matrix are read, from a column on."""

    def at(index: Index, lanes: int) -> V:
        return x.at((*index[:-1], w.f.plus(index[-1], column)), lanes)

    return at


def scaled(f: Function, made: str, kind: str, before: V, v: V, scale: V | None,
           row: V | None) -> V:  # fmt: skip
    """before + v * scale * row, in the accumulator's kind; v is of the kind that is `made`."""
    whole = kind in ("i32", "i64")
    if made != kind:
        v = f.convert("sitofp", v, kind)
    if row is not None:
        v = f.binary("mul" if whole else "fmul", v, row)
    if scale is None and not whole and before == constant(kind, 0, before.lanes):
        return v
    if scale is None:
        return f.binary("add" if whole else "fadd", before, v)
    if whole:
        return f.binary("add", before, f.binary("mul", v, scale))
    return f.intrinsic("fma", v, scale, before)
