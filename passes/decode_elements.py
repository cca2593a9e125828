"""Elements that no code times a scale gives: each read of them becomes the ops that decode them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tilec.ir.core import Block, Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import DType, f32, i32, i64
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.grid import BLOCK, OCTET, SHIFT, Grid
from tilec.ir.ops import arith, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.seeded import AHEAD, MIDDLE, TAPS, Seeded
from tilec.ir.signs import Signs
from tilec.ir.types import Memory, Shape, Span, Tile
from tilec.passes.pipeline import register


@register("decode-elements")
def decode_elements(func: Func) -> Func:
    """Replace each parameter of grids, seeds or stacks of signs by dense ones, its components.

    Before: extents are numbers, tile sizes may be open. After: every format is dense or scaled (or
    made of those); each load is ops for the elements at its coordinates, equal to the bit.
    """
    parts = {p: _components(p) for p in func.params if _format(p) is not None}
    if not parts:
        return func

    def change(op: Op, to: dict[Value, Value], b: Builder) -> bool:
        if not isinstance(op, memory.Load) or op.mem not in parts:
            return False
        if not all(isinstance(i.type, Span) for i in op.indices):
            raise TileError(
                f"{_format(op.mem)} is read by tiles of rows and columns, not by index",
                op.loc, hint="dequantize it first",
            )  # fmt: skip
        assert isinstance(op.result.type, Tile)
        reader = _Reader(b, parts[op.mem], op.indices, op.result.type.shape)
        to[op.result] = _decoded(_format(op.mem), reader)
        return True

    body = rebuild(func.body, {}, change)
    params = [v for p in func.params for v in (parts[p].values() if p in parts else (p,))]
    return func.replaced(Block(tuple(params), body.ops))


def _format(p: Value) -> Grid | Seeded | Signs | None:
    found = p.type.format if isinstance(p.type, Memory) else None
    return found if isinstance(found, Grid | Seeded | Signs) else None


def _components(p: Value) -> dict[str, Value]:
    assert isinstance(p.type, Memory)
    return {c.name: Value(Memory(c.shape, Dense(c.dtype)), f"{p.hint}.{c.name}")
            for c in p.type.format.components(p.type.shape)}  # fmt: skip


def _decoded(format: object, r: _Reader) -> Value:
    match format:
        case Grid():
            return _grid(format, r)
        case Seeded():
            return _seeded(format, r)
        case Signs():
            return _signs(format, r)
        case _:
            raise TileError(f"decode-elements: no elements of {format}")


Binary = type[arith.Binary]


@dataclass(frozen=True)
class _Reader:
    """Ops for one tile: the memory of components by name, the spans, and the tile's shape."""

    b: Builder
    mems: dict[str, Value]
    spans: tuple[Value, ...]
    shape: Shape

    @cached_property
    def k(self) -> Value:
        """The coordinates along the last dimension."""
        return self.b(shape.Coordinates(self.spans[-1]))

    def op(self, cls: Binary, a: Value, other: Value | int | float) -> Value:
        """A binary op; a number stands for a tile of it."""
        if isinstance(other, int | float):
            other = self.b(shape.Full(_tile(a).shape, other, _tile(a).dtype))
        return self.b(cls(a, other))

    def over(self, size: int) -> Value:
        """The number of the piece of so many elements that each k is in."""
        return self.op(arith.FloorDiv, self.k, size)

    def within(self, size: int) -> Value:
        """The place of each k in its piece."""
        return self.op(arith.Mod, self.k, size)

    def spread(self, v: Value) -> Value:
        """The same for every row."""
        return self.b(shape.Broadcast(v, self.shape))

    def read(self, name: str, at: Value, dtype: DType = i32) -> Value:
        """The component's elements of the tile's rows, at places along the last dimension."""
        found = self.b(memory.Load(self.mems[name], (*self.spans[:-1], at)))
        return self.cast(found, dtype)

    def cast(self, v: Value, dtype: DType) -> Value:
        """The elements in another dtype."""
        return v if _tile(v).dtype == dtype else self.b(Cast(v, dtype))

    def at(self, i: int) -> Value:
        """One index."""
        return self.b(shape.Full((), i, i32))

    def chosen(self, bit: Value, one: Value, zero: Value) -> Value:
        """`one` where a bit is 1, else `zero`."""
        return self.b(arith.Where(self.op(arith.Eq, bit, 1), one, zero))

    def constant(self, value: float) -> Value:
        """A number for every element."""
        return self.b(shape.Full(self.shape, value, f32))


def _grid(format: Grid, r: _Reader) -> Value:
    """(scale * (2 * step + 1)) * (sign(entry) + shift)."""
    code = r.read("codes", r.over(format.length))
    if format.width > 8:
        high = r.op(arith.Shl, r.read("high", r.over(format.length)), 8)
        code = r.op(arith.Or, code, high)
    first = r.op(arith.Mul, code, format.length)
    place = r.op(arith.Add, first, r.spread(r.within(format.length)))
    out = r.cast(r.b(memory.Load(r.mems["table"], (place,))), f32)
    if format.signs != "none":
        out = r.chosen(_sign(format, r), r.b(arith.Neg(out)), out)
    if format.shift:
        bit = r.read("shift", r.over(format.shift))
        out = r.op(arith.Add, out, r.chosen(bit, r.constant(-SHIFT), r.constant(SHIFT)))
    steps = r.op(arith.Mul, r.read("steps", r.over(format.piece)), 2)
    odd = r.cast(r.op(arith.Add, steps, 1), f32)
    scale = r.op(arith.Mul, r.read("scale", r.over(BLOCK), f32), odd)
    return r.op(arith.Mul, scale, out)


def _sign(format: Grid, r: _Reader) -> Value:
    """The bit of each element's sign."""
    signs = r.read("signs", r.over(OCTET))
    if format.signs == "even":
        odd = signs
        for by in (4, 2, 1):
            odd = r.op(arith.Xor, odd, r.op(arith.Shr, odd, by))
        last = r.op(arith.Shl, r.op(arith.And, odd, 1), 7)
        signs = r.op(arith.Or, signs, last)
    bit = r.op(arith.Shr, signs, r.spread(r.within(OCTET)))
    return r.op(arith.And, bit, 1)


def _seeded(format: Seeded, r: _Reader) -> Value:
    """(the states after the seed, less their middle) @ coefficients * (2**exponent * scale)."""
    block, word = r.over(format.length), _word(format, r)
    row = r.op(arith.Mul, r.within(format.length), format.rank)
    first = r.op(arith.Mul, block, format.rank)
    total: Value | None = None
    for p in range(format.rank):
        after = r.spread(r.cast(r.op(arith.Add, row, p + 1), i64))
        window = r.op(arith.And, r.op(arith.Shr, word, after), 0xFFFF)
        state = r.op(arith.Sub, r.cast(window, i32), MIDDLE)
        term = r.op(arith.Mul, state, r.read("coefficients", r.op(arith.Add, first, p)))
        total = term if total is None else r.op(arith.Add, total, term)
    assert total is not None
    exponents = r.read("exponents", block)
    ones = r.b(shape.Full(r.shape, 1, i32))
    power = r.cast(r.op(arith.Shl, ones, exponents), f32)
    scale = r.spread(r.b(memory.Load(r.mems["scale"], (r.at(0),))))
    return r.op(arith.Mul, r.cast(total, f32), r.op(arith.Mul, power, scale))


def _word(format: Seeded, r: _Reader) -> Value:
    """The seed and the bits that follow it, as one word: every state is a window of it."""
    word = r.read("seeds", r.over(format.length), i64)
    count = format.length * format.rank
    for start in range(0, count, AHEAD):
        last = r.op(arith.Shr, word, start)
        new = last
        for tap in TAPS[1:]:
            new = r.op(arith.Xor, new, r.op(arith.Shr, last, tap))
        new = r.op(arith.And, new, (1 << min(AHEAD, count - start)) - 1)
        word = r.op(arith.Or, word, r.op(arith.Shl, new, 16 + start))
    return word


def _signs(format: Signs, r: _Reader) -> Value:
    """The sum of the levels, each a sign times the sum of the products of its factors."""
    out: Value | None = None
    n, k = r.spans
    rows = r.shape[0]
    for i in range(format.levels):
        level, size = r.at(i), None
        for j in map(r.at, range(format.rank)):
            left = r.cast(r.b(memory.Load(r.mems["left"], (level, n, j))), f32)
            right = r.cast(r.b(memory.Load(r.mems["right"], (level, j, k))), f32)
            column = r.b(shape.Reshape(left, (rows, 1)))
            term = r.op(arith.Mul, r.spread(column), r.spread(right))
            size = term if size is None else r.op(arith.Add, size, term)
        assert size is not None
        sign = r.cast(r.b(memory.Load(r.mems["signs"], (level, n, k))), i32)
        value = r.chosen(sign, r.b(arith.Neg(size)), size)
        out = value if out is None else r.op(arith.Add, out, value)
    assert out is not None
    return out


def _tile(v: Value) -> Tile:
    assert isinstance(v.type, Tile)
    return v.type
