"""Elementwise ops as C++ expressions."""

from __future__ import annotations

from collections.abc import Iterable

from tilec.ir.core import Op
from tilec.ir.dtype import DType
from tilec.ir.errors import TileError
from tilec.ir.ops import arith
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Tile

_INT = {"int": "s", "uint": "u"}


def cpp_type(t: DType) -> str:
    """The C++ type of elements of a tile."""
    if t.is_integer:
        if t.bits >= 8:
            return f"{_INT[t.kind]}{t.bits}"
        return f"Int<{t.bits}, {'true' if t.kind == 'int' else 'false'}>"
    return t.name


def stored_type(t: DType) -> str:
    """The C++ type of what a pointer to elements in memory points to."""
    return "u8" if t.bits < 8 else cpp_type(t)


def carrier(t: DType) -> str:
    """The C++ type in which elements are computed."""
    return f"Number<{cpp_type(t)}>::Carrier"


def literal(value: float | int | bool, t: DType) -> str:
    """A number in the carrier of a type."""
    if t.is_float:
        return f"{float(value)!r}f"
    return str(value).lower() if t.kind == "bool" else f"{value}"


def prelude(dtypes: Iterable[DType]) -> list[str]:
    """What a kernel of these types needs before it."""
    return []


def rounded(op: Op, text: str) -> str:
    """An op's expression, rounded to the dtype of its result."""
    t = op.result.type
    assert isinstance(t, Tile)
    return f"Number<{cpp_type(t.dtype)}>::rounded({text})"


def combined(name: str, t: DType, a: str, b: str) -> str:
    """Two partial results of a reduction as one."""
    if name == "sum":
        return f"{a} + {b}"
    return f"{name}_f32({a}, {b})"


_INFIX = {arith.Add: "+", arith.Sub: "-", arith.Mul: "*", arith.Div: "/", arith.Lt: "<",
          arith.Le: "<=", arith.Eq: "==", arith.And: "&", arith.Mod: "%"}  # fmt: skip


def emit(op: Op, args: list[str]) -> str:
    """The expression of an elementwise op on these operands."""
    if type(op) in _INFIX:
        return f"({args[0]} {_INFIX[type(op)]} {args[1]})"
    match op:
        case Cast():
            return f"{carrier(op.dtype)}({args[0]})"
        case arith.Where():
            return f"({args[0]} ? {args[1]} : {args[2]})"
        case arith.FloorDiv():
            return f"({args[0]} / {args[1]})"
        case arith.Exp():
            return f"expf({args[0]})"
        case _:
            raise TileError(f"cuda: no code for {op.name}", op.loc)
