"""The elements of scaled memory: codes, scales and zeros, and the arithmetic that decodes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.core import Builder, Op, Value
from tilec.ir.dtype import f32, i32, i64
from tilec.ir.dynamic import Dynamic
from tilec.ir.extent import divides
from tilec.ir.format import Dense, Format
from tilec.ir.granularity import Granularity
from tilec.ir.ops import arith, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.ops.packed import Groups
from tilec.ir.ops.sparse import Expand
from tilec.ir.scaled import ADDED, Scaled
from tilec.ir.types import Memory, Shape, Span, Tile
from tilec.passes.parts import as_f32, tile

Components = dict[str, Value]


def components(p: Value) -> Components:
    """A parameter for each component of the format of one."""
    assert isinstance(p.type, Memory)
    return {
        c.name: Value(Memory(c.shape, Dense(c.dtype)), f"{p.hint}.{c.name}")
        for c in p.type.format.components(p.type.shape)
    }


@dataclass(frozen=True)
class Along:
    """A value whose axes are these of the tile that is decoded; a scalar has none."""

    value: Value
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Decoded:
    """A load of scaled memory: where, and its codes."""

    mem: Value
    format: Scaled
    indices: tuple[Value, ...]
    codes: Value

    def along(self) -> list[Along]:
        """Which axes of the tile each index spans; index tiles have their axes in common."""
        out: list[Along] = []
        axis, joint = 0, ()
        for v in self.indices:
            rank = 1 if isinstance(v.type, Span) else tile(v).rank
            if isinstance(v.type, Span) or (rank and not joint):
                axes = tuple(range(axis, axis + rank))
                axis += rank
                joint = joint if isinstance(v.type, Span) else axes
            else:
                axes = joint if rank else ()
            out.append(Along(v, axes))
        return out


class Elements:
    """The decoding of loads, given the components of each parameter and the tiles of spans."""

    def __init__(self, parameters: dict[Value, Components], tiles: dict[Value, int | None]) -> None:
        self.parameters, self.tiles = parameters, tiles

    def loaded(self, op: Op, b: Builder) -> Decoded | None:
        """The codes of a tile of scaled memory, None for any other op. What is left out of a sparse
        matrix has a code of 0, which stands for 0."""
        match op:
            case memory.Load():
                format, indices = _scaled(op.mem), op.indices
            case Expand():
                format, indices = op.format, (op.rows, op.columns)
            case _:
                return None
        if not isinstance(format, Scaled):
            return None
        mem = op.operands[0]
        codes = b(op.rebuilt({mem: self.parameters[mem]["codes"]}))
        return Decoded(mem, format, indices, codes)

    def values(self, load: Decoded, b: Builder) -> Value:
        """(codes - zero) * scale, as the format says, for every element of a tile."""
        out = tile(load.codes).shape
        indices = load.along()
        codes = Along(load.codes, tuple(range(len(out))))
        value = self._decode(load, load.format, "", codes, indices, b).value
        outside = [i for i in indices if not isinstance(i.value.type, Span)]
        plain = load.format.zero == "none" and float(load.format.codes.round(np.zeros(()))) == 0
        return value if plain or not outside else self._inside(load, value, b)

    def _decode(self, load: Decoded, format: Scaled, name: str, codes: Along,
                indices: list[Along], b: Builder) -> Along:  # fmt: skip
        """The values of codes that were read at these indices of a scaled tensor."""
        out = tile(load.codes).shape

        def number(which: str, beside: Along) -> tuple[Value, Value, tuple[int, ...]]:
            """A number of every block and a value, both for all the axes of either."""
            inner = format.numbers()[which]
            found = self.number_of(load, inner, f"{name}{which}", format.block, indices, b)
            axes = tuple(sorted({*found.axes, *beside.axes}))
            return spread(beside, axes, out, b), spread(found, axes, out, b), axes

        value = Along(as_f32(b, codes.value), codes.axes)
        if format.centre:
            middle = b(shape.Full(tile(value.value).shape, format.centre, f32))
            value = Along(b(arith.Sub(value.value, middle)), value.axes)
        if format.zero in ("int", "float"):
            left, right, axes = number("zero", value)
            value = Along(b(arith.Sub(left, right)), axes)
        left, right, axes = number("scale", value)
        value = Along(b(arith.Mul(left, right)), axes)
        if format.zero in ADDED:
            left, right, axes = number("zero", value)
            value = Along(b(arith.Add(left, right)), axes)
        return value

    def number_of(self, load: Decoded, format: Format, name: str, block: Granularity,
                indices: list[Along], b: Builder) -> Along:  # fmt: skip
        """The scale or zero of each block that elements at these indices are in, as f32."""
        coarse = self._coarse(block, indices, b)
        mems = self.parameters[load.mem]
        if isinstance(format, Scaled):
            codes = self._load(load, mems[f"{name}.codes"], coarse, b)
            return self._decode(load, format, f"{name}.", codes, coarse, b)
        found = self._load(load, mems[name], coarse, b)
        return Along(as_f32(b, found.value), found.axes)

    def stored(self, load: Decoded, name: str, block: Granularity, b: Builder) -> Along:
        """The element of a component that each block has, as it is stored."""
        coarse = self._coarse(block, load.along(), b)
        return self._load(load, self.parameters[load.mem][name], coarse, b)

    def _coarse(self, block: Granularity, indices: list[Along], b: Builder) -> list[Along]:
        """The indices of blocks, from those of elements."""
        if block.rows is None:
            return []
        rows = indices[:-1]
        if block.rows > 1:
            rows = [*rows[:-1], self._divided(rows[-1], block.rows, b)]
        if block.columns is None:
            return rows
        return [*rows, self._divided(indices[-1], block.columns, b)]

    def _divided(self, index: Along, by: int, b: Builder) -> Along:
        """The number of the block of each coordinate, or of all of them."""
        v = index.value
        if self.steady(v, by):
            return Along(_divided(b, b(shape.Start(v)), by), ())
        if isinstance(v.type, Span):
            return Along(_divided(b, b(shape.Coordinates(v)), by), index.axes)
        return Along(_divided(b, v, by), index.axes)

    def steady(self, index: Value, block: int | None) -> bool:
        """Whether all coordinates of a span are in one block."""
        if not isinstance(index.type, Span):
            return False
        tile, dim = self.tiles.get(index), index.type.dim
        if block is None or (isinstance(dim, int) and dim <= block):
            return True
        return tile is not None and divides(tile, block)

    def parted(self, op: Groups | memory.Whole) -> None:
        """Note how far apart the groups of a span begin, or parts of a dimension as long as one."""
        if isinstance(op, memory.Whole):
            size = op.size if isinstance(op.size, int) else 0
            self.tiles[op.result] = size if size and not (op.start or 0) % size else None
            return
        step = self.tiles.get(op.span)
        self.tiles[op.result] = None if step is None or step % op.by else step // op.by

    def _load(self, load: Decoded, mem: Value, indices: list[Along], b: Builder) -> Along:
        """A component at these indices, which are spread to their common axes where those of two
        index tiles differ."""
        out = tile(load.codes).shape
        joint = {i.axes for i in indices if _is_tile(i.value)}
        axes = tuple(a for i in indices if isinstance(i.value.type, Span) for a in i.axes)
        if len(joint) > 1:
            axes = tuple(sorted({*axes, *(a for one in joint for a in one)}))
            values = [spread(_coordinates(i, b), axes, out, b) for i in indices]
            return Along(b(memory.Load(mem, tuple(values))), axes)
        found = b(memory.Load(mem, tuple(i.value for i in indices)))
        return Along(found, tuple(sorted({*axes, *(a for one in joint for a in one)})))

    def _inside(self, load: Decoded, value: Value, b: Builder) -> Value:
        """A coordinate outside the memory reads 0, whatever code 0 means."""
        assert isinstance(load.mem.type, Memory)
        out = tile(value)
        every = tuple(range(out.rank))
        for index, dim in zip(load.along(), load.mem.type.shape, strict=True):
            if isinstance(index.value.type, Span):
                continue
            wide = b(Cast(spread(index, every, out.shape, b), i64))
            least = b(shape.Full(out.shape, 0, i64))
            most = b(shape.Broadcast(b(Cast(b(shape.Size(dim)), i64)), out.shape))
            within = b(arith.And(b(arith.Le(least, wide)), b(arith.Lt(wide, most))))
            value = b(arith.Where(within, value, b(shape.Full(out.shape, 0.0, f32))))
        return value


def of_one_matrix(load: Decoded) -> bool:
    """Whether a tile is rows and columns of one matrix; if a number says of which, whether one
    outside the memory reads 0."""
    *numbers, rows, columns = load.indices
    if not (isinstance(rows.type, Span) and isinstance(columns.type, Span)):
        return False
    if all(isinstance(i.type, Span) for i in numbers):
        return True
    return _zero_outside(load.format) and not any(tile(i).rank for i in numbers)


def of_rows(load: Decoded) -> bool:
    """Whether a tile is rows of memory, which one index picks one by one or as a span; if some are
    outside the memory, whether these read 0."""
    spans = all(isinstance(i.type, Span) for i in load.indices)
    *rows, columns = load.along()
    own = [i.axes for i in rows if i.axes]
    return spans or (own == [(0,)] and columns.axes == (1,) and _zero_outside(load.format))


def _zero_outside(format: Scaled) -> bool:
    """Whether what is read outside of memory is 0 by its codes or by the scale alone."""
    by_code = format.zero == "none" and format.codes.round(np.zeros(())) == 0 == format.centre
    inner = format.numbers().values()
    by_scale = format.block.rows is not None and all(isinstance(f, Dense) for f in inner)
    return by_code or by_scale


def _scaled(v: Value) -> Format:
    """The format of what a parameter has codes of."""
    assert isinstance(v.type, Memory)
    format = v.type.format
    return format.inner if isinstance(format, Dynamic) else format


def _is_tile(v: Value) -> bool:
    return isinstance(v.type, Tile) and bool(v.type.shape)


def _divided(b: Builder, v: Value, by: int) -> Value:
    """v // by, in at least 32 bits."""
    t = tile(v)
    dtype = t.dtype if t.dtype.bits >= 32 else i32
    wide = v if dtype == t.dtype else b(Cast(v, dtype))
    return b(arith.FloorDiv(wide, b(shape.Full(t.shape, by, dtype))))


def _coordinates(i: Along, b: Builder) -> Along:
    """An index as numbers."""
    return Along(b(shape.Coordinates(i.value)), i.axes) if isinstance(i.value.type, Span) else i


def spread(x: Along, axes: tuple[int, ...], out: Shape, b: Builder) -> Value:
    """A value for every place along these axes of a tile of shape `out`."""
    if x.axes == axes:
        return x.value
    own, full = tile(x.value).shape, tuple(out[a] for a in axes)
    if not own:
        return b(shape.Broadcast(x.value, full))
    sizes = dict(zip(x.axes, own, strict=True))
    return b(shape.Broadcast(b(shape.Reshape(x.value, tuple(sizes.get(a, 1) for a in axes))), full))
