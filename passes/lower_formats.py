"""Scaled operands become their components: codes, scales and zeros, with the arithmetic to decode.

Where a product reads a scaled operand whose scales are constant over the step of its k loop, the
codes take part in it as whole numbers and the scale multiplies the accumulator instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ir.bits import from_raw
from tilec.ir.core import Block, Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import DType, bf16, e4m3, e5m2, f16, f32, i8, i16, i32, i64, u8
from tilec.ir.extent import divides
from tilec.ir.format import Dense, Format
from tilec.ir.granularity import Granularity
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.remark import Remark
from tilec.ir.scaled import ADDED, Scaled
from tilec.ir.types import Memory, Shape, Span, Tile
from tilec.passes.pipeline import register


@register("lower-formats")
def lower_formats(func: Func) -> Func:
    """Replace each scaled parameter `w` by its components `w.codes`, `w.scale`, ..., decode loads.

    Before: tile sizes are chosen. After: every memory is dense. The value of an element is the
    same to the bit, but for products: there sum_k a * ((q - z) * s) becomes s * sum_k a * (q - mid)
    plus s * (mid - z) * sum_k a, which is exact arithmetic rounded elsewhere. It stays within the
    error of a sum in the accumulator's dtype over the products |a| * |q - mid| * |s| and
    |a| * |mid - z| * |s|.
    """
    parameters = {p: _components(p) for p in func.params if _scaled(p) is not None}
    if not parameters:
        return func
    lowering = _Lowering(parameters, _tiles(func))
    body = rebuild(func.body, {}, lowering.change)
    params: list[Value] = []
    for p in func.params:
        params += parameters[p].values() if p in parameters else [p]
    return func.replaced(Block(tuple(params), body.ops, body.results), *lowering.remarks)


Components = dict[str, Value]


def _scaled(v: Value) -> Scaled | None:
    format = v.type.format if isinstance(v.type, Memory) else None
    return format if isinstance(format, Scaled) else None


def _components(p: Value) -> Components:
    assert isinstance(p.type, Memory)
    return {
        c.name: Value(Memory(c.shape, Dense(c.dtype)), f"{p.hint}.{c.name}")
        for c in p.type.format.components(p.type.shape)
    }


def _tiles(func: Func) -> dict[Value, int | None]:
    """The tile size of every span that a grid or loop makes."""
    found: dict[Value, int | None] = {}
    for op in func.walk():
        match op:
            case control.Grid():
                found.update(zip(op.body.params, op.tiles, strict=True))
            case control.For():
                found[op.body.params[0]] = op.tile
            case _:
                pass
    return found


@dataclass(frozen=True)
class _Along:
    """A value whose axes are these of the tile that is decoded; a scalar has none."""

    value: Value
    axes: tuple[int, ...]


@dataclass(frozen=True)
class _Decoded:
    """A load of scaled memory: where, and its codes."""

    mem: Value
    format: Scaled
    indices: tuple[Value, ...]
    codes: Value

    def along(self) -> list[_Along]:
        """Which axes of the tile each index spans; index tiles have their axes in common."""
        out: list[_Along] = []
        axis, joint = 0, ()
        for v in self.indices:
            rank = 1 if isinstance(v.type, Span) else _tile(v).rank
            if isinstance(v.type, Span) or (rank and not joint):
                axes = tuple(range(axis, axis + rank))
                axis += rank
                joint = joint if isinstance(v.type, Span) else axes
            else:
                axes = joint if rank else ()
            out.append(_Along(v, axes))
        return out


class _Lowering:
    """The rewriting of one function; `change` is the rule for `rebuild`."""

    def __init__(self, parameters: dict[Value, Components], tiles: dict[Value, int | None]) -> None:
        self.parameters, self.tiles = parameters, tiles
        self.decoded: dict[Value, _Decoded] = {}
        self.made: dict[Value, Op] = {}
        self.remarks: list[Remark] = []

    def change(self, op: Op, to: dict[Value, Value], b: Builder) -> bool:
        """Replace loads of scaled memory, and products of what they load."""
        format = _scaled(op.mem) if isinstance(op, memory.Load) else None
        if isinstance(op, memory.Load) and format is not None:
            codes = b(memory.Load(self.parameters[op.mem]["codes"], op.indices))
            load = _Decoded(op.mem, format, op.indices, codes)
            to[op.result] = self._values(load, b)
            self.decoded[to[op.result]] = load
            return True
        if isinstance(op, reduce.Dot):
            hoisted = self._product(op, b)
            if hoisted is not None:
                to[op.result] = hoisted
                return True
        self.made.update(dict.fromkeys(op.results, op))
        return False

    # -- decoding an element --

    def _values(self, load: _Decoded, b: Builder) -> Value:
        """(codes - zero) * scale, as the format says, for every element of a tile."""
        out = _tile(load.codes).shape
        indices = load.along()
        codes = _Along(load.codes, tuple(range(len(out))))
        value = self._decode(load, load.format, "", codes, indices, b).value
        outside = [i for i in indices if not isinstance(i.value.type, Span)]
        return value if load.format.zero == "none" or not outside else self._inside(load, value, b)

    def _decode(self, load: _Decoded, format: Scaled, name: str, codes: _Along,
                indices: list[_Along], b: Builder) -> _Along:  # fmt: skip
        """The values of codes that were read at these indices of a scaled tensor."""
        out = _tile(load.codes).shape

        def number(which: str, beside: _Along) -> tuple[Value, Value, tuple[int, ...]]:
            """A number of every block and a value, both for all the axes of either."""
            inner = format.numbers()[which]
            found = self._number(load, inner, f"{name}{which}", format.block, indices, b)
            axes = tuple(sorted({*found.axes, *beside.axes}))
            return _spread(beside, axes, out, b), _spread(found, axes, out, b), axes

        value = _Along(_as_f32(b, codes.value), codes.axes)
        if format.centre:
            middle = b(shape.Full(_tile(value.value).shape, format.centre, f32))
            value = _Along(b(arith.Sub(value.value, middle)), value.axes)
        if format.zero in ("int", "float"):
            left, right, axes = number("zero", value)
            value = _Along(b(arith.Sub(left, right)), axes)
        left, right, axes = number("scale", value)
        value = _Along(b(arith.Mul(left, right)), axes)
        if format.zero in ADDED:
            left, right, axes = number("zero", value)
            value = _Along(b(arith.Add(left, right)), axes)
        return value

    def _number(self, load: _Decoded, format: Format, name: str, block: Granularity,
                indices: list[_Along], b: Builder) -> _Along:  # fmt: skip
        """The scale or zero of each block that elements at these indices are in, as f32."""
        coarse = self._coarse(block, indices, b)
        mems = self.parameters[load.mem]
        if isinstance(format, Scaled):
            codes = self._load(load, mems[f"{name}.codes"], coarse, b)
            return self._decode(load, format, f"{name}.", codes, coarse, b)
        found = self._load(load, mems[name], coarse, b)
        return _Along(_as_f32(b, found.value), found.axes)

    def _coarse(self, block: Granularity, indices: list[_Along], b: Builder) -> list[_Along]:
        """The indices of blocks, from those of elements."""
        if block.rows is None:
            return []
        rows = indices[:-1]
        if block.rows > 1:
            rows = [*rows[:-1], self._divided(rows[-1], block.rows, b)]
        if block.columns is None:
            return rows
        return [*rows, self._divided(indices[-1], block.columns, b)]

    def _divided(self, index: _Along, by: int, b: Builder) -> _Along:
        """The number of the block of each coordinate, or of all of them."""
        v = index.value
        if self._steady(v, by):
            return _Along(_divided(b, b(shape.Start(v)), by), ())
        if isinstance(v.type, Span):
            return _Along(_divided(b, b(shape.Coordinates(v)), by), index.axes)
        return _Along(_divided(b, v, by), index.axes)

    def _steady(self, index: Value, block: int | None) -> bool:
        """Whether all coordinates of a span are in one block."""
        if not isinstance(index.type, Span):
            return False
        tile, dim = self.tiles.get(index), index.type.dim
        if block is None or (isinstance(dim, int) and dim <= block):
            return True
        return tile is not None and divides(tile, block)

    def _load(self, load: _Decoded, mem: Value, indices: list[_Along], b: Builder) -> _Along:
        """A component at these indices, which are spread to their common axes where those of two
        index tiles differ."""
        out = _tile(load.codes).shape
        joint = {i.axes for i in indices if _is_tile(i.value)}
        axes = tuple(a for i in indices if isinstance(i.value.type, Span) for a in i.axes)
        if len(joint) > 1:
            axes = tuple(sorted({*axes, *(a for one in joint for a in one)}))
            values = [_spread(_coordinates(i, b), axes, out, b) for i in indices]
            return _Along(b(memory.Load(mem, tuple(values))), axes)
        found = b(memory.Load(mem, tuple(i.value for i in indices)))
        return _Along(found, tuple(sorted({*axes, *(a for one in joint for a in one)})))

    def _inside(self, load: _Decoded, value: Value, b: Builder) -> Value:
        """A coordinate outside the memory reads 0, whatever code 0 means."""
        assert isinstance(load.mem.type, Memory)
        out = _tile(value)
        every = tuple(range(out.rank))
        for index, dim in zip(load.along(), load.mem.type.shape, strict=True):
            if isinstance(index.value.type, Span):
                continue
            wide = b(Cast(_spread(index, every, out.shape, b), i64))
            least = b(shape.Full(out.shape, 0, i64))
            most = b(shape.Broadcast(b(Cast(b(shape.Size(dim)), i64)), out.shape))
            within = b(arith.And(b(arith.Le(least, wide)), b(arith.Lt(wide, most))))
            value = b(arith.Where(within, value, b(shape.Full(out.shape, 0.0, f32))))
        return value

    # -- a product --

    def _product(self, op: reduce.Dot, b: Builder) -> Value | None:
        """The product with whole codes, the scale on the accumulator; None where it can't be."""
        load = self._operand(op)
        if load is None:
            return None
        what = f"`{load.mem.hint}` ({load.format})"
        problem = self._obstacle(op, load)
        if problem:
            self._remark(op, f"{what} is decoded element by element", problem)
            return None
        beside = self._whole_operand(op, load.format)
        if beside is None:
            a, dtype = _exact_operand(op.a, load.format, b)
            codes, row_scale = _centred_codes(load, dtype, b), None
        else:
            a, row_scale = self._whole(beside, b)
            dtype = _byte(load.format)
            assert dtype is not None
            codes = _centred_codes(load, dtype, b)
        scale = self._along_axis(load, "scale", _tile(op.acc).shape[1:], b)
        turned = b(shape.Transpose(codes, (1, 0)))
        out = b(reduce.Dot(a, turned, op.acc, scale, row_scale))
        self._remark(op, f"{what}: codes in {dtype}, the scale on the accumulator")
        return self._corrected(op, load, out, scale, b)

    def _whole_operand(self, op: reduce.Dot, format: Scaled) -> _Decoded | Value | None:
        """The first operand as whole numbers of 8 bits, if both can be multiplied as such."""
        load = self.decoded.get(op.a)
        if _byte(format) is None or (load is None and not reduce.whole_bytes(_tile(op.a).dtype)):
            return None
        if load is None:
            return op.a
        ready = load.format.zero in ("none", "mid") and _byte(load.format) is not None
        ready = ready and all(isinstance(i.type, Span) for i in load.indices)
        return load if ready and self._steady(load.indices[-1], load.format.group) else None

    def _whole(self, a: _Decoded | Value, b: Builder) -> tuple[Value, Value | None]:
        """Whole numbers, and the scale of each row of them."""
        if isinstance(a, Value):
            return a, None
        dtype = _byte(a.format)
        assert dtype is not None
        codes = _centred_codes(a, dtype, b)
        return codes, self._along_axis(a, "scale", _tile(codes).shape[:1], b)

    def _operand(self, op: reduce.Dot) -> _Decoded | None:
        """The scaled operand of a product, if its codes can take part as they are."""
        turned = self.made.get(op.b)
        if isinstance(turned, shape.Transpose) and turned.a in self.decoded:
            return self.decoded[turned.a]
        for side, name in ((op.a, "first"), (op.b, "second")):
            if side in self.decoded:
                mem = self.decoded[side].mem
                missing = (
                    f"k along its rows: it is the {name} operand as it lies; write dot(x, w.T)"
                )
                self._remark(op, f"`{mem.hint}` is decoded element by element", missing)
        return None

    def _obstacle(self, op: reduce.Dot, load: _Decoded) -> str:
        """Why the scale can't move to the accumulator, or nothing."""
        if op.scale is not None:
            return "an accumulator without a scale of its own"
        if _tile(op.acc).dtype != f32 or _tile(op.a).dtype not in (*_EXACT, f32, f16):
            small = _tile(op.a).dtype
            if not (_tile(op.acc).dtype == f32 and small.is_integer and small.bits <= 8):
                return f"an operand in which codes are exact, beside {small}"
        if not all(isinstance(i.type, Span) for i in load.indices):
            return "spans as indices; gathered rows have scales of their own"
        if not self._steady(load.indices[-1], load.format.group):
            tile = self.tiles.get(load.indices[-1])
            step = "all of k" if tile is None else f"{tile}"
            group = load.format.group
            return f"a step of k that divides the group of {group}; it is {step}"
        return ""

    def _along_axis(self, load: _Decoded, name: str, out: Shape, b: Builder) -> Value:
        """A number for each index of the operand's first axis, as f32."""
        format = load.format
        found = self._number(load, format.numbers()[name], name, format.block, load.along(), b)
        return _spread(found, (0,), out, b)

    def _corrected(
        self, op: reduce.Dot, load: _Decoded, out: Value, scale: Value, b: Builder
    ) -> Value:
        """out + sum_k a[i, k] * offset[j], for zeros other than the middle."""
        if load.format.zeros is None:
            return out
        t = _tile(out)
        offset = self._along_axis(load, "zero", t.shape[1:], b)
        if load.format.zero not in ADDED:
            mid = b(shape.Full(t.shape[1:], load.format.mid, f32))
            offset = b(arith.Mul(b(arith.Sub(mid, offset)), scale))
        total = b(reduce.Sum(_as_f32(b, op.a), 1))
        left = b(shape.Broadcast(b(shape.Reshape(total, (t.shape[0], 1))), t.shape))
        return b(arith.Add(out, b(arith.Mul(left, b(shape.Broadcast(offset, t.shape))))))

    def _remark(self, op: Op, message: str, missing: str = "") -> None:
        self.remarks.append(Remark("lower-formats", message, op.loc, missing))


_EXACT = (bf16, e4m3, e5m2)  # beside these, codes are bf16: whole numbers up to 256 are exact


def _exact_operand(a: Value, format: Scaled, b: Builder) -> tuple[Value, DType]:
    """The other operand, and the dtype in which codes stand beside it, each exact."""
    t = _tile(a).dtype
    wanted = bf16 if t.is_integer or t in _EXACT else t
    dtype = wanted if _exact(format, wanted) else f32
    return (a if dtype == wanted and not t.is_integer else b(Cast(a, dtype))), dtype


def _centred_codes(load: _Decoded, dtype: DType, b: Builder) -> Value:
    """The codes of a load, less their middle if they have one, in a dtype that has them all."""
    if not _centred(load.format):
        return b(Cast(load.codes, dtype))
    wide = i16 if dtype.is_integer else dtype
    codes = b(Cast(load.codes, wide))
    codes = b(arith.Sub(codes, b(shape.Full(_tile(codes).shape, load.format.mid, wide))))
    return codes if dtype == wide else b(Cast(codes, dtype))


def _byte(format: Scaled) -> DType | None:
    """The dtype of 8 bits that has the values of all codes of a format, less their middle."""
    return next((t for t in (i8, u8) if _exact(format, t)), None)


def _centred(format: Scaled) -> bool:
    """Whether codes are centred on their middle in a product, which keeps sums small."""
    return bool(format.mid) and format.zero not in ("none", "min")


def _exact(format: Scaled, t: DType) -> bool:
    """Whether a dtype has the values of all codes of a format, less their middle."""
    values = from_raw(format.codes, np.arange(1 << format.codes.bits)).astype(np.float64)
    centred = values - (format.mid if _centred(format) else 0)
    return bool(np.array_equal(t.round(centred), centred, equal_nan=True))


def _tile(v: Value) -> Tile:
    assert isinstance(v.type, Tile)
    return v.type


def _is_tile(v: Value) -> bool:
    return isinstance(v.type, Tile) and bool(v.type.shape)


def _as_f32(b: Builder, v: Value) -> Value:
    return v if _tile(v).dtype == f32 else b(Cast(v, f32))


def _divided(b: Builder, v: Value, by: int) -> Value:
    """v // by, in at least 32 bits."""
    t = _tile(v)
    dtype = t.dtype if t.dtype.bits >= 32 else i32
    wide = v if dtype == t.dtype else b(Cast(v, dtype))
    return b(arith.FloorDiv(wide, b(shape.Full(t.shape, by, dtype))))


def _coordinates(i: _Along, b: Builder) -> _Along:
    """An index as numbers."""
    return _Along(b(shape.Coordinates(i.value)), i.axes) if isinstance(i.value.type, Span) else i


def _spread(x: _Along, axes: tuple[int, ...], out: Shape, b: Builder) -> Value:
    """A value for every place along these axes of a tile of shape `out`."""
    if x.axes == axes:
        return x.value
    own, full = _tile(x.value).shape, tuple(out[a] for a in axes)
    if not own:
        return b(shape.Broadcast(x.value, full))
    sizes = dict(zip(x.axes, own, strict=True))
    return b(shape.Broadcast(b(shape.Reshape(x.value, tuple(sizes.get(a, 1) for a in axes))), full))
