"""What expressions mean: promotion, broadcasting, indexing. Writes ops through a Builder.

A literal is weak: it takes the dtype of the tile that it meets. Two dtypes promote as in torch.
"""

# What a program names can be anything until it is looked at.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

from tilec.ir.core import Builder, Op, Value
from tilec.ir.dtype import DType, boolean, f32, i32, promote
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym
from tilec.ir.ops import arith, memory, reduce, shape
from tilec.ir.ops import cast as casts
from tilec.ir.types import Memory, Span, Tile

Literal = bool | int | float
Operand = Value | Literal

BINARY: dict[str, type[Op]] = {
    "Add": arith.Add, "Sub": arith.Sub, "Mult": arith.Mul, "Div": arith.Div,
    "FloorDiv": arith.FloorDiv, "Mod": arith.Mod, "BitAnd": arith.And, "BitOr": arith.Or,
    "BitXor": arith.Xor, "LShift": arith.Shl, "RShift": arith.Shr,
    "Eq": arith.Eq, "NotEq": arith.Ne, "Lt": arith.Lt, "LtE": arith.Le,
}  # fmt: skip
FOLDED: dict[str, Callable[[Literal, Literal], Literal]] = {
    "Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "Div": operator.truediv,
    "FloorDiv": operator.floordiv, "Mod": operator.mod, "Pow": operator.pow,
    "Eq": operator.eq, "NotEq": operator.ne, "Lt": operator.lt, "LtE": operator.le,
    "Gt": operator.gt, "GtE": operator.ge, "BitAnd": operator.and_, "BitOr": operator.or_,
    "BitXor": operator.xor, "LShift": operator.lshift, "RShift": operator.rshift,
}  # fmt: skip


def tile_type(v: object, what: str) -> Tile:
    """The type of a value that has to be a tile."""
    if not isinstance(v, Value):
        raise TileError(f"{what}: expected a tile, not {shown(v)}")
    if isinstance(v.type, Memory):
        raise TileError(
            f"{what}: expected a tile, not the tensor `{v.hint}`", hint="index it first: x[m, n]"
        )
    if not isinstance(v.type, Tile):
        raise TileError(f"{what}: expected a tile, not {v.type}", hint="its coordinates are .index")
    return v.type


def shown(x: object) -> str:
    """Something that is not a value of the program, as the user wrote it."""
    match x:
        case Value():
            return f"`{x.hint}`, {x.type}" if x.hint else str(x.type)
        case str():
            return f"the name {x!r}"
        case None:
            return "nothing"
        case tuple():
            return f"({', '.join(map(shown, x))})"
        case bool() | int() | float() | DType() | Sym():
            return str(x)
        case _ if x is ...:
            return "`...`"
        case _:
            return f"the function `{getattr(x, 'name', '?')}`"


def literal(x: object, dtype: DType) -> Literal:
    """A number of the program as an element of `dtype`. Raises TileError if it is none."""
    if not isinstance(x, (bool, int, float)):
        raise TileError(f"expected a number, not {shown(x)}")
    if isinstance(x, float) and not dtype.is_float:
        raise TileError(f"{x} is not a whole number, which {dtype} needs", hint="cast it")
    return bool(x) if dtype == boolean else x


def number(b: Builder, x: object, dtype: DType | None = None) -> Value:
    """A literal as a scalar: of `dtype`, or i32, f32, bool."""
    if isinstance(x, Value):
        return x
    if not isinstance(x, (bool, int, float)):
        hint = f"size({x}) is its extent" if isinstance(x, str) else ""
        raise TileError(f"expected a tile or a number, not {shown(x)}", hint=hint)
    own = boolean if isinstance(x, bool) else i32 if isinstance(x, int) else f32
    return b(shape.Full((), literal(x, dtype or own), dtype or own))


def weak(x: Literal, other: DType) -> DType:
    """The dtype of a literal beside a tile."""
    if isinstance(x, bool):
        return other
    if isinstance(x, float) and not other.is_float:
        return f32
    return i32 if other == boolean else other


def to_dtype(b: Builder, v: Value, dtype: DType) -> Value:
    """v rounded to a dtype."""
    return v if tile_type(v, "cast").dtype == dtype else b(casts.Cast(v, dtype))


def to_shape(b: Builder, v: Value, target: tuple[Extent, ...]) -> Value:
    """v stretched to a shape."""
    return v if tile_type(v, "broadcast").shape == target else b(shape.Broadcast(v, target))


def common_shape(what: str, types: Sequence[Tile]) -> tuple[Extent, ...]:
    """numpy's broadcasting rule on extents, which are equal by identity or 1."""
    out: list[Extent] = []
    for i in range(-max(t.rank for t in types), 0):
        met = [t.shape[i] for t in types if -i <= t.rank and t.shape[i] != 1]
        extents = list(dict.fromkeys(met))  # a set's order would change from run to run
        if len(extents) > 1:
            shown = " and ".join(map(str, types))
            raise TileError(
                f"{what}: {shown} do not broadcast: {' is not '.join(map(str, extents))}",
                hint=_elsewhere(types, i),
            )
        out.append(extents.pop() if extents else 1)
    return tuple(out)


def _elsewhere(types: Sequence[Tile], axis: int) -> str:
    """Where a tile of fewer axes would fit: axes meet from the last one on, not by their names."""
    low, high = sorted(types, key=lambda t: t.rank)[:: len(types) - 1 or 1][:2]
    if low.rank == high.rank or low.shape[axis] not in high.shape:
        return ""
    places = [i for i, d in enumerate(high.shape) if d == low.shape[axis]]
    dims = " or ".join(str(i) for i in places)
    return f"{low.shape[axis]} is axis {dims} of {high}: add axes of 1 behind it with [..., None]"


def matched(b: Builder, what: str, operands: Sequence[Operand]) -> list[Value]:
    """The operands as tiles of one dtype and shape."""
    types = [tile_type(x, what) for x in operands if isinstance(x, Value)]
    dtype = None
    for t in types:
        dtype = t.dtype if dtype is None else promote(dtype, t.dtype)
    for x in operands:
        if not isinstance(x, Value) and dtype is not None:
            dtype = promote(dtype, weak(x, dtype))
    if dtype is None:  # literals alone
        for x in operands:
            own = boolean if isinstance(x, bool) else i32 if isinstance(x, int) else f32
            dtype = own if dtype is None else promote(dtype, own)
    values = [number(b, x, dtype) for x in operands]
    target = common_shape(what, [tile_type(v, what) for v in values])
    return [to_shape(b, to_dtype(b, v, dtype) if dtype else v, target) for v in values]


def binary(b: Builder, name: str, x: Operand, y: Operand) -> Operand:
    """x . y by the name that Python's ast gives the operator."""
    if not isinstance(x, Value) and not isinstance(y, Value):
        if name not in FOLDED:
            raise TileError(f"the operator {name} does not apply to two numbers")
        return FOLDED[name](x, y)
    if name in ("Gt", "GtE"):
        return binary(b, {"Gt": "Lt", "GtE": "LtE"}[name], y, x)
    if name == "Pow":
        return power(b, x, y)
    if name not in BINARY:
        raise TileError(f"tiles have no operator {name}", hint="dot(a, b) is the matrix product")
    left, right = matched(b, name.lower(), (x, y))
    cls = BINARY[name]
    if cls is arith.Div and not tile_type(left, "div").dtype.is_float:
        left, right = to_dtype(b, left, f32), to_dtype(b, right, f32)
    return b(cls(left, right))  # type: ignore[call-arg]


def of_extents(name: str, x: object, y: object) -> Extent:
    """A sum, difference, product or whole quotient of extents."""
    known = ("Add", "Sub", "Mult", "FloorDiv")
    if name not in known or not (isinstance(x, Sym | int) and isinstance(y, Sym | int)):
        raise TileError(f"extents have +, -, * and floor division with whole numbers and extents, "
                        f"not {name} of {shown(x)} and {shown(y)}",
                        hint="size(extent) is a number")  # fmt: skip
    return FOLDED[name](x, y)  # type: ignore[arg-type]


def power(b: Builder, x: Operand, n: Operand) -> Value:
    """x**n for a whole literal n >= 1."""
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= 16:
        raise TileError(
            "**: expected a whole number from 1 to 16 as exponent", hint="exp(log(x) * y)"
        )
    value = number(b, x)
    out = value
    for _ in range(n - 1):
        out = b(arith.Mul(out, value))
    return out


def dot(b: Builder, x: Value, y: Value, acc: Value | None) -> Value:
    """x @ y, added to acc where that has the accumulator's type."""
    tx, ty = tile_type(x, "dot"), tile_type(y, "dot")
    if tx.rank != 2 or ty.rank != 2:
        raise TileError(f"dot: expected two matrices, not {tx} and {ty}")
    dtype = reduce.accumulator(tx.dtype, ty.dtype)
    out = Tile((tx.shape[0], ty.shape[1]), dtype)
    if acc is not None and acc.type == out:
        return b(reduce.Dot(x, y, acc))
    product = b(reduce.Dot(x, y, b(shape.Full(out.shape, 0, dtype))))
    if acc is None:
        return product
    value = binary(b, "Add", acc, product)
    assert isinstance(value, Value)
    return value


def indices(b: Builder, mem: Value, parts: Sequence[object]) -> tuple[Value, ...]:
    """The index of each dimension of a memory: spans, scalars, index tiles, `:`."""
    assert isinstance(mem.type, Memory)
    dims = mem.type.shape
    if len(parts) != len(dims):
        raise TileError(
            f"`{mem.hint}` has {len(dims)} dimensions, but {len(parts)} indices are given"
        )
    out: list[Value] = []
    for axis, (part, dim) in enumerate(zip(parts, dims, strict=True)):
        match part:
            case Value():
                out.append(part)
            case bool() | float() | None:
                raise TileError(
                    f"index {axis} of `{mem.hint}` is {shown(part)}, not a span or integers"
                )
            case int():
                out.append(number(b, part))
            case slice(start=None, stop=None, step=None):
                out.append(b(memory.Whole(dim)))
            case _:
                raise TileError(f"index {axis} of `{mem.hint}` is not a span, integers or `:`",
                                hint="slice the tile after loading it")  # fmt: skip
    return tuple(out)


def load(b: Builder, mem: Value, parts: Sequence[object]) -> Value:
    """mem[parts]."""
    return b(memory.Load(mem, indices(b, mem, parts)))


def write(
    b: Builder, cls: type[memory.Write], mem: Value, parts: Sequence[object], x: Operand
) -> None:
    """mem[parts] = x, or += x: rounded to the memory's dtype and stretched to the shape."""
    at = indices(b, mem, parts)
    assert isinstance(mem.type, Memory)
    value = number(b, x, mem.type.dtype)
    tile_type(value, cls.name)
    target = memory.accessed(cls.name, mem, at)
    own = tile_type(value, cls.name)
    if own.shape != target and own.rank <= len(target):
        common = common_shape(cls.name, (own, Tile(target, own.dtype)))
        value = to_shape(b, value, target) if common == target else value
    b.add(cls(mem, at, to_dtype(b, value, mem.type.dtype)))


def coincide(grid: Sequence[Value], parts: Sequence[object]) -> bool:
    """Whether an access may meet a place twice: by an index tile, or in another task of a grid over
    these spans."""
    tiles = (p.type for p in parts if isinstance(p, Value) and isinstance(p.type, Tile))
    return any(t.rank for t in tiles) or not all(any(p is s for p in parts) for s in grid)


def part(b: Builder, v: Value, keys: Sequence[object]) -> Value:
    """A slice of a tile: `:`, `a:b`, a whole number, None for a new axis."""
    axis = 0
    for key in keys:
        t = tile_type(v, "slice")
        if key is None:
            v = b(shape.Reshape(v, (*t.shape[:axis], 1, *t.shape[axis:])))
            axis += 1
            continue
        if axis >= t.rank:
            raise TileError(f"too many indices for {t}")
        size = t.shape[axis]
        match key:
            case slice(start=None, stop=None, step=None):
                axis += 1
            case slice(start=start, stop=stop, step=None):
                v = b(shape.Slice(v, axis, _bound(start, 0, size), _bound(stop, size, size)))
                axis += 1
            case int():
                v = b(shape.Slice(v, axis, _bound(key, 0, size), _bound(key, 0, size) + 1))
                v = b(shape.Reshape(v, (*t.shape[:axis], *t.shape[axis + 1 :])))
            case _:
                raise TileError(
                    f"a tile is sliced by whole numbers, not {shown(key)}",
                    hint="gather from a tensor",
                )
    return v


def _bound(x: object, missing: Extent, size: Extent) -> Extent:
    if x is None:
        return missing
    if isinstance(x, Sym):
        return x
    if not isinstance(x, int) or isinstance(x, bool):
        raise TileError("a tile is sliced between whole numbers that are known when it is compiled")
    return size + x if x < 0 else x


def axis_of(t: Tile, axis: object, what: str) -> int:
    """An axis of a tile, counted from the end if negative; a vector has only one."""
    if axis is None:
        if t.rank != 1:
            raise TileError(f"{what}: which axis of {t}?", hint="say axis=0, axis=1, ...")
        return 0
    if not isinstance(axis, int) or not -t.rank <= axis < t.rank:
        raise TileError(f"{what}: {t} has no axis {shown(axis)}")
    return axis % t.rank


def reduction(b: Builder, cls: type[Op], x: Value, axis: object, keepdims: bool) -> Value:
    """A reduction along one axis, or along several, one after the other."""
    if isinstance(axis, tuple):
        own = tile_type(x, cls.name)
        for a in sorted({axis_of(own, a, cls.name) for a in axis}, reverse=True):
            x = reduction(b, cls, x, a, keepdims)
        return x
    axis = axis_of(tile_type(x, cls.name), axis, cls.name)
    out = b(cls(x, axis))  # type: ignore[call-arg]
    if not keepdims:
        return out
    own = tile_type(out, cls.name)
    return b(shape.Reshape(out, (*own.shape[:axis], 1, *own.shape[axis:])))


def attribute(b: Builder, v: Value, name: str) -> object:
    """`.T`, `.dtype`, `.shape` of tiles; `.index`, `.start`, `.stop` of spans.

    `.T` has the last two axes in each other's place.
    """
    match v.type, name:
        case Tile(), "T":
            lead = tuple(range(v.type.rank))
            return b(shape.Transpose(v, (*lead[:-2], *lead[:-3:-1])))
        case ((Tile() | Memory()), "dtype"):
            return v.type.dtype
        case ((Tile() | Memory()), "shape"):
            return v.type.shape
        case Span(), "index":
            return b(shape.Coordinates(v))
        case Span(), "start":
            return b(shape.Start(v))
        case Span(size=size), "stop":
            return b(arith.Add(b(shape.Start(v)), b(shape.Size(size))))
        case _:
            known = {"Tile": ".T, .dtype, .shape, .to(dtype)", "Span": ".index, .start, .stop",
                     "Memory": ".dtype, .shape"}  # fmt: skip
            kind = type(v.type).__name__
            raise TileError(f"{v.type} has no attribute .{name}; it has {known[kind]}")
