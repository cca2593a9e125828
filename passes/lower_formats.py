"""Scaled operands become their components: codes, scales and zeros, with the arithmetic to decode.

Where a product reads a scaled operand whose scales are constant over the step of its k loop, the
codes take part in it as whole numbers and the scale multiplies the accumulator instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilec.ir.core import Block, Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import DType, bf16, e4m3, e5m2, f16, f32, i32, i64
from tilec.ir.extent import divides
from tilec.ir.format import Dense
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.remark import Remark
from tilec.ir.scaled import Scaled
from tilec.ir.types import Memory, Shape, Span, Tile
from tilec.passes.pipeline import register


@register("lower-formats")
def lower_formats(func: Func) -> Func:
    """Replace each scaled parameter `w` by `w.codes`, `w.scale` and `w.zero`, and decode loads.

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
class _Decoded:
    """A load of scaled memory: where, and its codes."""

    mem: Value
    format: Scaled
    indices: tuple[Value, ...]
    codes: Value


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
            to[op.result] = self._values(load, _tile(op.result), b)
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

    def _values(self, load: _Decoded, out: Tile, b: Builder) -> Value:
        """(codes - zero) * scale, as the format says, for every element of a tile."""
        format = load.format
        value = b(Cast(load.codes, f32))
        if format.zero in ("mid", "shift") and format.mid:
            value = b(arith.Sub(value, b(shape.Full(out.shape, format.mid, f32))))
        if format.zero in ("int", "float"):
            value = b(arith.Sub(value, self._block(load, "zero", out, b)))
        value = b(arith.Mul(value, self._block(load, "scale", out, b)))
        if format.zero == "shift":
            value = b(arith.Add(value, self._block(load, "zero", out, b)))
        outside = [i for i in load.indices if not isinstance(i.type, Span)]
        return value if format.zero == "none" or not outside else self._inside(load, value, b)

    def _block(self, load: _Decoded, name: str, out: Tile, b: Builder) -> Value:
        """A component of every element's block, as f32 of the shape of the tile."""
        mem = self.parameters[load.mem][name]
        if load.format.block == "tensor":
            return b(shape.Broadcast(_as_f32(b, b(memory.Load(mem, ()))), out.shape))
        *rows, k = load.indices
        if load.format.block == "channel":
            return self._along(b(memory.Load(mem, tuple(rows))), load, out, b)
        group = self._group(load, b)
        if isinstance(group.type, Tile) and group.type.shape and isinstance(k.type, Span):
            if any(_is_tile(i) for i in rows):  # one joint shape for all index tiles: the result's
                every = tuple(_spread(i, load.indices, out, b) for i in (*rows, group))
                return _as_f32(b, b(memory.Load(mem, every)))
            return _as_f32(b, b(memory.Load(mem, (*rows, group))))
        value = b(memory.Load(mem, (*rows, group)))
        if value.type == Tile(out.shape, mem.type.dtype):  # type: ignore[union-attr]
            return _as_f32(b, value)
        return self._along(value, load, out, b)

    def _along(self, value: Value, load: _Decoded, out: Tile, b: Builder) -> Value:
        """A number for each row, for every element of the row."""
        rank = len(out.shape) - _tile(value).rank
        one = b(shape.Reshape(_as_f32(b, value), (*_tile(value).shape, *[1] * rank)))
        return b(shape.Broadcast(one, out.shape))

    def _group(self, load: _Decoded, b: Builder) -> Value:
        """The number of the group of each k, or of all of them."""
        assert load.format.group is not None
        k = load.indices[-1]
        if self._steady(load):
            return _divided(b, b(shape.Start(k)), load.format.group)
        if isinstance(k.type, Span):
            return _divided(b, b(shape.Coordinates(k)), load.format.group)
        return _divided(b, k, load.format.group)

    def _steady(self, load: _Decoded) -> bool:
        """Whether all elements of a row of the tile share one scale."""
        k, group = load.indices[-1], load.format.group
        if group is None:
            return True
        tile = self.tiles.get(k)
        whole = isinstance(k.type, Span) and isinstance(k.type.dim, int) and k.type.dim <= group
        return whole or (tile is not None and divides(tile, group))

    def _inside(self, load: _Decoded, value: Value, b: Builder) -> Value:
        """A coordinate outside the memory reads 0, whatever code 0 means."""
        assert isinstance(load.mem.type, Memory)
        out = _tile(value)
        for index, dim in zip(load.indices, load.mem.type.shape, strict=True):
            if isinstance(index.type, Span):
                continue
            wide = b(Cast(_spread(index, load.indices, out, b), i64))
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
        a, dtype = _exact_operand(op.a, b)
        columns = (_tile(op.acc).shape[1],)
        codes = b(Cast(load.codes, dtype))
        if load.format.zero != "none" and load.format.mid:
            mid = b(shape.Full(_tile(codes).shape, load.format.mid, dtype))
            codes = b(arith.Sub(codes, mid))
        scale = self._columns(load, "scale", columns, b)
        turned = b(shape.Transpose(codes, (1, 0)))
        out = b(reduce.Dot(a, turned, op.acc, scale))
        self._remark(op, f"{what}: codes in {dtype}, the scale on the accumulator")
        return self._corrected(op, load, out, scale, b)

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
        if not self._steady(load):
            tile = self.tiles.get(load.indices[-1])
            step = "all of k" if tile is None else f"{tile}"
            return f"a step of k that divides the group of {load.format.group}; it is {step}"
        return ""

    def _columns(self, load: _Decoded, name: str, out: Shape, b: Builder) -> Value:
        """A component for each column of the product, as f32."""
        mem = self.parameters[load.mem][name]
        if load.format.block == "tensor":
            return b(shape.Broadcast(_as_f32(b, b(memory.Load(mem, ()))), out))
        rows = load.indices[:-1]
        if load.format.block == "channel":
            return _as_f32(b, b(memory.Load(mem, rows)))
        return _as_f32(b, b(memory.Load(mem, (*rows, self._group(load, b)))))

    def _corrected(
        self, op: reduce.Dot, load: _Decoded, out: Value, scale: Value, b: Builder
    ) -> Value:
        """out + sum_k a[i, k] * offset[j], for zeros other than the middle."""
        if load.format.zero not in ("int", "float", "shift"):
            return out
        t = _tile(out)
        zero = self._columns(load, "zero", t.shape[1:], b)
        if load.format.zero == "shift":
            offset = zero
        else:
            mid = b(shape.Full(t.shape[1:], load.format.mid, f32))
            offset = b(arith.Mul(b(arith.Sub(mid, zero)), scale))
        total = b(reduce.Sum(_as_f32(b, op.a), 1))
        left = b(shape.Broadcast(b(shape.Reshape(total, (t.shape[0], 1))), t.shape))
        return b(arith.Add(out, b(arith.Mul(left, b(shape.Broadcast(offset, t.shape))))))

    def _remark(self, op: Op, message: str, missing: str = "") -> None:
        self.remarks.append(Remark("lower-formats", message, op.loc, missing))


_EXACT = (bf16, e4m3, e5m2)  # beside these, codes are bf16: whole numbers up to 256 are exact


def _exact_operand(a: Value, b: Builder) -> tuple[Value, DType]:
    """The other operand, and the dtype in which codes stand beside it."""
    t = _tile(a).dtype
    if t.is_integer:
        return b(Cast(a, bf16)), bf16
    return a, bf16 if t in _EXACT else t


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


def _spread(index: Value, indices: tuple[Value, ...], out: Tile, b: Builder) -> Value:
    """An index (or what was made of the last one) for every element of the tile it picks."""
    source = index if index in indices else indices[-1]
    value = b(shape.Coordinates(index)) if isinstance(index.type, Span) else index
    own = _tile(value).shape
    after = _axes_after(source, indices)
    return b(shape.Broadcast(b(shape.Reshape(value, (*own, *[1] * after))), out.shape))


def _axes_after(source: Value, indices: tuple[Value, ...]) -> int:
    """How many axes of the picked tile come after an index's own."""
    at = indices.index(source)
    tiles = [i for i, v in enumerate(indices) if _is_tile(v)]
    if _is_tile(source):
        at = tiles[0]
    rest = [v for i, v in enumerate(indices) if i > at and isinstance(v.type, Span)]
    joint = [indices[tiles[0]]] if tiles and tiles[0] > at else []
    return len(rest) + sum(_tile(v).rank for v in joint)
