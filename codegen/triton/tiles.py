"""Constants, shapes and reductions as Triton expressions."""

from __future__ import annotations

import math
import re

import numpy as np

from tilec.codegen.triton.pointwise import from_f32
from tilec.codegen.triton.printer import Printer, bare, dtype_of, spread
from tilec.ir.core import Op, Value
from tilec.ir.dtype import DType, i8, promote
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent
from tilec.ir.ops import reduce, shape
from tilec.ir.types import Tile

ZERO = "0.0"
_SIMPLE = re.compile(r"[\w.]*")


def is_atom(text: str) -> bool:
    """Whether an expression needs no parentheses beside operators: names, calls, indexing."""
    outside, depth = "", 0
    for c in text:
        depth -= c in ")]"
        outside += c if depth == 0 and c not in "([)]" else ""
        depth += c in "(["
    return _SIMPLE.fullmatch(outside) is not None


def literal(op: shape.Full) -> str:
    """A constant's number."""
    value = op.dtype.round(op.dtype.carrier(op.value)).item()  # type: ignore[arg-type]
    if isinstance(value, float) and op.dtype.bits <= 32 and math.isfinite(value):
        value = float(str(np.float32(value)))  # the shortest text that means the same f32
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return f"({value})" if not isinstance(value, bool) and value < 0 else str(value)


def full(p: Printer, op: shape.Full) -> str:
    """A tile of one number."""
    if not op.shape:
        return literal(op)
    t = op.result.type
    assert isinstance(t, Tile)
    if op.value == 0:
        return f"tl.zeros({p.shape(t)}, {dtype_of(op.dtype)})"
    return f"tl.full({p.shape(t)}, {literal(op)}, {dtype_of(op.dtype)})"


def stretched(op: shape.Broadcast, source: str) -> str:
    """The operand with the axes that a broadcast adds in front."""
    t, out = op.a.type, op.result.type
    assert isinstance(t, Tile)
    assert isinstance(out, Tile)
    if not t.rank or t.rank == out.rank:
        return source
    return f"{source}[{', '.join(['None'] * (out.rank - t.rank) + [':'] * t.rank)}]"


def reduction(p: Printer, op: reduce.Reduction, a: str) -> str:
    """A reduction whose padding is neutral; narrow floats are reduced as float32."""
    t = op.a.type
    assert isinstance(t, Tile)
    narrow = t.dtype.is_float and t.dtype.bits < 32
    a = f"{a}.to(tl.float32)" if narrow else a
    narrow = t.dtype.bits < 32  # Triton's reductions of narrow integers are of 32 bits
    a = without(p, op, op.axis, op.name.removeprefix("arg"), a)
    if isinstance(op, reduce.Argmax):
        if t.dtype.is_float:  # Triton's own leaves NaN out
            wide = max(32, t.dtype.bits)
            a = f"ordered({bare(a)}, tl.int{wide}, {(1 << wide - 1) - 1})"
        return f"tl.argmax({a}, {op.axis})"
    if t.dtype.is_float and not isinstance(op, reduce.Sum):  # Triton's own leave NaN out
        text = f"tl.reduce({bare(a)}, {op.axis}, nan_{op.name})"
    else:
        text = f"tl.{op.name}({a}, {op.axis})"
    if not narrow:
        return text
    return from_f32(t.dtype, text) if t.dtype.is_float else f"{text}.to({dtype_of(t.dtype)})"


def without(p: Printer, op: Op, axis: int, kind: str, a: str) -> str:
    """An op's operand; in its padding along an axis is what changes no sum, max or min."""
    t = _tile(op.operands[0])
    mask = p.axis(t.shape[axis]).mask
    if not mask:
        return a
    at = ", ".join(":" if i == axis else "None" for i in range(t.rank))
    inside = f"{mask}[{at}]" if t.rank > 1 else mask
    return f"tl.where({inside}, {a}, {_neutral(kind, t.dtype)})"


def _neutral(kind: str, t: DType) -> str:
    match kind:
        case "sum":
            return "0"
        case "max":
            return 'float("-inf")' if t.is_float else str(t.low)
        case "min":
            return 'float("inf")' if t.is_float else str(t.high)
        case _:
            raise TileError(f"triton: no code for {kind}")


def common(op: reduce.Dot) -> DType:
    """The dtype in which both operands of a product are exact, if Triton has products of it."""
    assert isinstance(op.a.type, Tile)
    assert isinstance(op.b.type, Tile)
    a, b = op.a.type.dtype, op.b.type.dtype
    if all(t.is_integer and i8.low <= t.low and t.high <= i8.high for t in (a, b)):
        return i8
    found = promote(a, b)
    if found.is_integer:
        raise TileError(f"triton: no code for products of {a} and {b}", op.loc,
                        hint="cast both to i8, or to f16")  # fmt: skip
    return found


def emit(p: Printer, op: Op, args: list[str]) -> str:
    """A tile from nothing, or in another shape."""
    match op:
        case shape.Iota():
            return f"tl.arange(0, {p.axis(op.size).block})"
        case shape.Size():
            return str(op.dim)
        case shape.Transpose():
            turned = op.order == (1, 0)
            return f"tl.trans({args[0]})" if turned else f"tl.permute({args[0]}, {op.order})"
        case shape.Reshape():
            return _reshape(p, op, args[0])
        case shape.Slice():
            return _picked(p, args[0], op.a, op.result, op.axis, f"{op.start} + ")
        case shape.Join():
            return _joined(p, op, args)
        case shape.RandomBits():
            return f"tl.philox({args[0]}, {args[1]}, 0, 0, 0)[0]"
        case _:
            raise TileError(f"triton: no code for {op.name}", op.loc)


def _picked(p: Printer, a: str, source: Value, to: Value, axis: int, place: str) -> str:
    """Elements of a tile in the shape of another: those at `place` and the index along an axis."""
    t, out = _tile(source), _tile(to)
    index = f"{place}tl.arange(0, {p.axis(out.shape[axis]).block})".removeprefix("0 + ")
    inside = f"tl.minimum(tl.maximum({index}, 0), {p.axis(t.shape[axis]).block} - 1)"
    picked = f"tl.broadcast_to({spread(inside, (axis,), out.rank)}, {p.shape(out)})"
    if t.dtype.kind != "bool":
        return f"tl.gather({a}, {picked}, {axis})"
    return f"(tl.gather({a}.to(tl.int8), {picked}, {axis}) != 0)"


def _joined(p: Printer, op: shape.Join, args: list[str]) -> str:
    """Each part where it stands, the last one everywhere behind the others."""
    out = _tile(op.result)
    here = spread(f"tl.arange(0, {p.axis(out.shape[op.axis]).block})", (op.axis,), out.rank)
    first: Extent = 0
    starts = [first := first + _tile(v).shape[op.axis] for v in op.parts[:-1]]
    text = ""
    for v, a, start in reversed(list(zip(op.parts, args, [0, *starts], strict=True))):
        own = _picked(p, a, v, op.result, op.axis, f"-({start}) + " if start else "0 + ")
        stop = start + _tile(v).shape[op.axis]
        text = f"tl.where({here} < {stop}, {own}, {text})" if text else own
    return text


def _tile(v: Value) -> Tile:
    assert isinstance(v.type, Tile)
    return v.type


def _reshape(p: Printer, op: shape.Reshape, a: str) -> str:
    t, out = op.a.type, op.result.type
    assert isinstance(t, Tile)
    assert isinstance(out, Tile)
    if tuple(d for d in t.shape if d != 1) == tuple(d for d in out.shape if d != 1):
        if t.rank < out.rank and 1 not in t.shape:
            index = ", ".join("None" if d == 1 else ":" for d in out.shape)
            return f"{a}[{index}]"
        return f"tl.reshape({a}, {p.shape(out)})"
    if any(p.axis(d).mask for d in (*t.shape, *out.shape)):
        raise TileError(f"triton: {t} is padded, so its elements can't be in another shape")
    return f"tl.reshape({a}, {p.shape(out)})"
