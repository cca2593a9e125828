"""Elements that no code times a scale gives: each read of them becomes the ops that decode them."""

from __future__ import annotations

from tilec.ir.codebook import Codebook
from tilec.ir.coded import Coded
from tilec.ir.core import Block, Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import f32, i32, i64
from tilec.ir.errors import TileError
from tilec.ir.format import Dense
from tilec.ir.grid import BLOCK, OCTET, SHIFT, Grid
from tilec.ir.ops import arith, memory, shape
from tilec.ir.planes import Planes
from tilec.ir.seeded import AHEAD, MIDDLE, TAPS, Seeded
from tilec.ir.signs import Signs
from tilec.ir.types import Memory, Span, Tile
from tilec.passes import codebook, coded, planes
from tilec.passes.pipeline import register
from tilec.passes.reader import Reader


@register("decode-elements")
def decode_elements(func: Func) -> Func:
    """Replace each parameter of codebooks, grids, seeds, stacks of signs, coded exponents or planes
    by its components, dense ones and scales that have formats of their own.

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
        reader = Reader(b, parts[op.mem], op.indices, op.result.type.shape)
        to[op.result] = _decoded(_format(op.mem), reader)
        return True

    body = rebuild(func.body, {}, change)
    params = [v for p in func.params for v in (parts[p].values() if p in parts else (p,))]
    return func.replaced(Block(tuple(params), body.ops))


def _format(p: Value) -> Codebook | Grid | Seeded | Signs | Coded | Planes | None:
    found = p.type.format if isinstance(p.type, Memory) else None
    return found if isinstance(found, Codebook | Grid | Seeded | Signs | Coded | Planes) else None


def _components(p: Value) -> dict[str, Value]:
    assert isinstance(p.type, Memory)
    if isinstance(p.type.format, Planes):
        return planes.memories(p.type.format, p)
    return {c.name: Value(Memory(c.shape, Dense(c.dtype)), f"{p.hint}.{c.name}")
            for c in p.type.format.components(p.type.shape)}  # fmt: skip


def _decoded(format: object, r: Reader) -> Value:
    match format:
        case Codebook():
            return codebook.decoded(format, r)
        case Grid():
            return _grid(format, r)
        case Seeded():
            return _seeded(format, r)
        case Signs():
            return _signs(format, r)
        case Coded():
            return coded.decoded(format, r)
        case Planes():
            return planes.decoded(format, r)
        case _:
            raise TileError(f"decode-elements: no elements of {format}")


def _grid(format: Grid, r: Reader) -> Value:
    """(scale * (2 * step + 1)) * (sign(entry) + shift)."""
    out = r.cast(r.b(memory.Load(r.mems["table"], (codebook.entry(format, r),))), f32)
    if format.signs != "none":
        out = r.chosen(_sign(format, r), r.b(arith.Neg(out)), out)
    if format.shift:
        bit = r.read("shift", r.over(format.shift))
        out = r.op(arith.Add, out, r.chosen(bit, r.constant(-SHIFT), r.constant(SHIFT)))
    steps = r.op(arith.Mul, r.read("steps", r.over(format.piece)), 2)
    odd = r.cast(r.op(arith.Add, steps, 1), f32)
    scale = r.op(arith.Mul, r.read("scale", r.over(BLOCK), f32), odd)
    return r.op(arith.Mul, scale, out)


def _sign(format: Grid, r: Reader) -> Value:
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


def _seeded(format: Seeded, r: Reader) -> Value:
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


def _word(format: Seeded, r: Reader) -> Value:
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


def _signs(format: Signs, r: Reader) -> Value:
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
