"""The functions of the language, by name. Each takes the walker's builder and its arguments."""

# What a program names can be anything until it is looked at.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilec.ir.core import Builder, Op, Value
from tilec.ir.dtype import DType, f32, promote, u32
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import arith, memory, reduce, scan, shape
from tilec.ir.ops import cast as casts
from tilec.ir.ops import top as rankings
from tilec.ir.types import Span
from tilec.lang import semantics, tensors
from tilec.lang.semantics import Operand

BUILTINS: dict[str, Callable[..., Any]] = {}


def builtin(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the language, under its own name (a trailing underscore aside)."""
    BUILTINS[fn.__name__.rstrip("_")] = fn
    return fn


def _extents(given: object) -> tuple[Extent, ...]:
    items: Sequence[object] = given if isinstance(given, (tuple, list)) else (given,)
    out: list[Extent] = []
    for item in items:
        match item:
            case Value(type=Span(size=size)):
                out.append(size)
            case bool():
                raise TileError("an extent is a span, a whole number or a dimension's name")
            case int() if item >= 1:
                out.append(item)
            case Sym():
                out.append(item)
            case str():
                out.append(Sym(item))
            case _:
                known = "an extent is a span, a whole number from 1 or a dimension's name"
                raise TileError(f"{known}, not {semantics.shown(item)}")
    return tuple(out)


def _one(given: object) -> Extent:
    extents = _extents(given)
    if len(extents) != 1:
        raise TileError(f"expected one extent, not {len(extents)}")
    return extents[0]


def _dtype(t: object) -> DType:
    if not isinstance(t, DType):
        raise TileError(f"expected a dtype such as f32, not {semantics.shown(t)}")
    return t


@builtin
def full(b: Builder, size: Any, value: Any, dtype: Any = f32) -> Value:
    """A tile with one number everywhere: full((m, n), 1.5, f32), or the dtype first."""
    if isinstance(size, DType):
        size, value, dtype = value, dtype, size
    if isinstance(value, Value):
        return semantics.to_shape(b, semantics.to_dtype(b, value, _dtype(dtype)), _extents(size))
    return b(shape.Full(_extents(size), semantics.literal(value, _dtype(dtype)), _dtype(dtype)))


@builtin
def zeros(b: Builder, size: Any, dtype: Any = f32) -> Value:
    """A tile of zeros: zeros((m, n), f32) or zeros(f32, (m, n))."""
    if isinstance(size, DType):
        size, dtype = dtype, size
    return b(shape.Full(_extents(size), 0, _dtype(dtype)))


@builtin
def arange(b: Builder, size: object) -> Value:
    """0, 1, ... as i32."""
    return b(shape.Iota(_one(size)))


@builtin
def index(b: Builder, dim: object) -> Value:
    """The coordinates of all of a dimension, 0, 1, ... as i32: of rows and columns for masks."""
    return b(shape.Coordinates(b(memory.Whole(_one(dim)))))


@builtin
def extent(b: Builder, dim: object) -> Extent:
    """The extent of a named dimension, for slices and shapes: x[:, : extent("D") // 2]."""
    return _one(dim)


@builtin
def empty(b: Builder, *dims: object) -> Value:
    """A tensor of a program's own, which a kernel writes: empty("M", "N", f16)."""
    raise TileError("a kernel has no tensors of its own", hint="zeros((m, n), f32) is a tile")


@builtin
def einsum(b: Builder, spec: Any, *operands: Any) -> Value:
    """The sum of products that letters say: einsum("bmd,bnd->bmn", q, k)."""
    if not isinstance(spec, str) or not operands:
        raise TileError("einsum: letters come first, then operands",
                        hint='einsum("bmd,bnd->bmn", q, k)')  # fmt: skip
    return tensors.einsum(b, spec, [semantics.number(b, x) for x in operands])


@builtin
def wide(b: Builder, x: Operand) -> Value:
    """x in f32, or in f64 if it is that: what sums and functions are computed in."""
    value = semantics.number(b, x)
    return semantics.to_dtype(b, value, promote(semantics.tile_type(value, "wide").dtype, f32))


@builtin
def size(b: Builder, dim: object) -> Value:
    """The extent of a named dimension as a number (i32)."""
    return b(shape.Size(_one(dim)))


@builtin
def dot(b: Builder, a: Value, c: Value, acc: Value | None = None) -> Value:
    """The matrix product, exact products summed in f32 (floats) or i32 (integers)."""
    return semantics.dot(b, a, c, acc)


@builtin
def floordiv(b: Builder, x: Operand, y: Operand) -> Operand:
    """floor(x / y) of whole numbers; Python also spells it `//`, which is a comment in `.tile`."""
    return semantics.binary(b, "FloorDiv", x, y)


@builtin
def where(b: Builder, condition: Value, x: Operand, y: Operand) -> Value:
    """x where the condition holds, else y."""
    left, right = semantics.matched(b, "where", (x, y))
    types = [semantics.tile_type(v, "where") for v in (condition, left)]
    target = semantics.common_shape("where", types)
    values = (semantics.to_shape(b, v, target) for v in (condition, left, right))
    return b(arith.Where(*values))


@builtin
def cast(b: Builder, x: Operand, dtype: Any, rounding: Any = "nearest", saturate: bool = False,
         random: Value | None = None) -> Value:  # fmt: skip
    """x rounded to a dtype: to nearest-even, toward_zero or (with random bits) stochastic."""
    value = semantics.number(b, x)
    if rounding == "nearest" and semantics.tile_type(value, "cast").dtype == _dtype(dtype):
        return value
    return b(casts.Cast(value, _dtype(dtype), rounding, saturate, random))


@builtin
def bitcast(b: Builder, x: Value, dtype: Any) -> Value:
    """The bits of x read as another dtype of the same width."""
    return b(casts.Bitcast(semantics.number(b, x), _dtype(dtype)))


@builtin
def fma(b: Builder, x: Operand, y: Operand, z: Operand) -> Value:
    """x * y + z, rounded once."""
    return b(arith.Fma(*semantics.matched(b, "fma", (x, y, z))))


@builtin
def popcount(b: Builder, x: Value) -> Value:
    """The number of ones among the bits of an i32 or u32."""
    return b(arith.Popcount(semantics.number(b, x)))


@builtin
def join(b: Builder, parts: Any, axis: int = 0) -> Value:
    """Tiles one after the other along an axis."""
    if not isinstance(parts, (tuple, list)) or not parts:
        raise TileError("join: expected several tiles", hint="join([a, b], axis=0)")
    ranks = [semantics.tile_type(p, "join").rank for p in parts]
    return b(shape.Join(tuple(parts), axis + ranks[0] if axis < 0 else axis))


@builtin
def reshape(b: Builder, x: Value, to: object) -> Value:
    """The elements in row-major order in another shape."""
    return b(shape.Reshape(semantics.number(b, x), _extents(to)))


@builtin
def squeeze(b: Builder, x: Value, axis: Any = -1) -> Value:
    """x without an axis of one element."""
    return tensors.without(b, semantics.number(b, x), axis)


@builtin
def transpose(b: Builder, x: Value, order: Any) -> Value:
    """The axes in another order."""
    if not isinstance(order, (tuple, list)):
        raise TileError(
            f"transpose: expected an order of axes such as (1, 0), not {semantics.shown(order)}"
        )
    return b(shape.Transpose(x, tuple(order)))


@builtin
def random_bits(b: Builder, seed: Operand, offset: Value) -> Value:
    """Philox4x32-10's first word for a u32 seed at u32 offsets."""
    key = semantics.to_dtype(b, semantics.number(b, seed, u32), u32)
    return b(shape.RandomBits(key, semantics.to_dtype(b, offset, u32)))


def _unary(cls: type[Op]) -> Callable[..., Value]:
    def apply(b: Builder, x: Operand) -> Value:
        value = semantics.number(b, x)
        t = semantics.tile_type(value, cls.name)
        if cls is not arith.Abs and t.dtype.is_integer:
            value = semantics.to_dtype(b, value, f32)
        return b(cls(value))  # type: ignore[call-arg]

    apply.__doc__ = cls.__doc__
    return apply


def _pair(cls: type[Op]) -> Callable[..., Value]:
    def apply(b: Builder, x: Operand, y: Operand) -> Value:
        return b(cls(*semantics.matched(b, cls.name, (x, y))))

    apply.__doc__ = cls.__doc__
    return apply


def _reduced(cls: type[Op]) -> Callable[..., Value]:
    def apply(b: Builder, x: Value, axis: int | None = None, keepdims: bool = False) -> Value:
        return semantics.reduction(b, cls, x, axis, keepdims)

    apply.__doc__ = cls.__doc__
    return apply


def _ranked(cls: type[rankings.Ranking]) -> Callable[..., Value]:
    def apply(b: Builder, x: Operand, count: object) -> Value:
        return b(cls(semantics.number(b, x), _one(count)))

    apply.__doc__ = cls.__doc__
    return apply


def _scanned(cls: type[scan.Scan]) -> Callable[..., Value]:
    def apply(b: Builder, x: Value, axis: int | None = None, reverse: object = False) -> Value:
        axis = semantics.axis_of(semantics.tile_type(x, cls.name), axis, cls.name)
        if not isinstance(reverse, bool):
            raise TileError(f"{cls.name}: reverse is true or false, not {semantics.shown(reverse)}")
        return b(cls(x, axis, reverse))

    apply.__doc__ = cls.__doc__
    return apply


UNARY = (
    arith.Abs, arith.Exp, arith.Exp2, arith.Log, arith.Log2, arith.Sqrt, arith.Rsqrt,
    arith.Sin, arith.Cos, arith.Tanh, arith.Erf, arith.Floor, arith.Ceil, arith.Rint,
)  # fmt: skip
BUILTINS.update({cls.name: _unary(cls) for cls in UNARY})
BUILTINS.update({cls.name: _pair(cls) for cls in (arith.Maximum, arith.Minimum)})
BUILTINS.update(
    {cls.name: _reduced(cls) for cls in (reduce.Sum, reduce.Max, reduce.Min, reduce.Argmax)}
)
BUILTINS.update({cls.name: _ranked(cls) for cls in (rankings.Top, rankings.Argtop)})
BUILTINS.update({cls.name: _scanned(cls) for cls in (scan.Cumsum, scan.Cummax, scan.Cummin)})
