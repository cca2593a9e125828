"""Elementwise ops as C++ expressions on carriers, and the C++ types of elements.

Every op is one expression of its operands' carriers; it may have more bits than the dtype of the
result. Rounding (and the wrapping of whole numbers) is where a value is kept: `Share::set` does
it for tiles, and `rounded` prints it for scalars and for expressions that are read where they are
written. What the functions mean is in include/numbers.cuh.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tilec.codegen.cuda import codes
from tilec.ir.core import Op
from tilec.ir.dtype import DType, bf16, boolean, f16, f32, f64, i32, i64, tf32, u32
from tilec.ir.errors import TileError
from tilec.ir.ops import arith
from tilec.ir.ops.cast import Bitcast, Cast
from tilec.ir.ops.packed import Term
from tilec.ir.ops.shape import RandomBits
from tilec.ir.types import Tile

INFIX: dict[type[Op], str] = {
    arith.And: "&", arith.Or: "|", arith.Xor: "^", arith.Eq: "==", arith.Ne: "!=",
    arith.Lt: "<", arith.Le: "<=",
}  # fmt: skip
SHORT = {"maximum": "max", "minimum": "min", "sum": "add"}
AS_THEY_ARE = (f32, f64, boolean, i32, u32, i64)
# Ops whose results are numbers of their dtype: on all dtypes, and on floats.
EXACT = (arith.Maximum, arith.Minimum, arith.Where, arith.Comparison, arith.And, arith.Or,
         arith.Xor, arith.Shr, Bitcast)  # fmt: skip
EXACT_ON_FLOATS = (arith.Neg, arith.Abs, arith.Floor, arith.Ceil, arith.Rint)
EXACT_IN_F32 = 24  # bits of whole numbers
ENDINGS = {u32: "u", i64: "ll"}  # of literals


def cpp_type(t: DType) -> str:
    """The C++ type of elements of a tile."""
    if not t.is_integer:
        return t.name
    signed = t.kind == "int"
    if t.bits < 8:
        return f"Int<{t.bits}, {str(signed).lower()}>"
    return f"{'s' if signed else 'u'}{t.bits}"


def stored_type(t: DType) -> str:
    """The C++ type of what a pointer to elements in memory points to."""
    if (t.bits < 8 and t != boolean) or t.kind == "code":
        return "u8"
    return "f32" if t == tf32 else cpp_type(t)


def carrier(t: DType) -> str:
    """The C++ type in which elements are computed."""
    if t.is_integer:
        return "s64" if t == i64 else "u32" if t == u32 else "s32"
    return "bool" if t == boolean else "f64" if t == f64 else "f32"


def literal(value: float | int | bool, t: DType) -> str:
    """A number, rounded to a type, in its carrier."""
    number = t.round(np.asarray(value, t.carrier))[()]
    if t == boolean:
        return str(bool(number)).lower()
    if t.is_integer:
        if t in (i32, i64) and number == t.low:  # its size is no number of the type
            return f"({literal(int(t.low) + 1, t)} - 1)"
        return f"{number}{ENDINGS.get(t, '')}"
    if t == f64:
        finite = np.isfinite(number)
        return repr(float(number)) if finite else f"f64_of_bits({number.view(np.uint64):#x})"
    return codes.number(float(number))


def prelude(dtypes: Iterable[DType]) -> list[str]:
    """What a kernel of these types needs before it: the definitions of codes."""
    found = sorted({t.name: t for t in dtypes if t.kind == "code"}.items())
    lines = [line for _, t in found for line in codes.definition(t)]
    return [*lines, ""] if lines else []


def rounded(op: Op, text: str) -> str:
    """An op's expression, rounded to the dtype of its result."""
    t = _dtype(op)
    plain = _exact(op) or t in AS_THEY_ARE
    return text if plain else f"Number<{cpp_type(t)}>::rounded({text})"


def _exact(op: Op) -> bool:
    """Whether an expression gives numbers of the dtype as it is."""
    if isinstance(op, Cast):
        return _holds(op.dtype, _source(op))
    return isinstance(op, EXACT) or (_dtype(op).is_float and isinstance(op, EXACT_ON_FLOATS))


def _holds(t: DType, source: DType) -> bool:
    """Whether all numbers of a dtype are numbers of t."""
    if source.is_integer and t.is_integer:
        return t.low <= source.low <= source.high <= t.high
    if source.is_integer:
        return t.is_float and source.bits - (source.kind == "int") <= t.mantissa + 1
    floats = t.is_float and source.is_float
    return floats and source.exponent <= t.exponent and source.mantissa <= t.mantissa


def combined(name: str, t: DType, a: str, b: str) -> str:
    """Two partial results of a reduction as one."""
    return f"{_function(name, t)}({a}, {b})"


def emit(op: Op, args: list[str]) -> str:
    """The expression of an elementwise op on these operands.

    Raises TileError for other ops.
    """
    t = _source(op)
    if type(op) in INFIX:
        return f"({args[0]} {INFIX[type(op)]} {args[1]})"
    match op:
        case Cast():
            return _cast(op, args)
        case Term():
            return _term(op, args[0])
        case Bitcast():
            return f"bitcast<{cpp_type(op.dtype)}, {cpp_type(t)}>({args[0]})"
        case arith.Where():
            return f"({args[0]} ? {args[1]} : {args[2]})"
        case arith.Not():
            return f"{'!' if t == boolean else '~'}{args[0]}"
        case arith.Popcount():
            return f"{cpp_type(t)}(popc({args[0]}))"
        case arith.Neg() if t.is_float:
            return f"(-({args[0]}))" if args[0].startswith("-") else f"(-{args[0]})"
        case arith.Binary() | arith.Unary() | arith.Fma() | RandomBits():
            return f"{_called(op, t)}({', '.join(args)})"
        case _:
            raise TileError(f"cuda: no code for {op.name}", op.loc)


def _term(op: Term, text: str) -> str:
    """A number without the terms before the one that is asked for; where it is kept, it is rounded
    to that."""
    for _ in range(op.index):
        text = f"sub_f32({text}, Number<{cpp_type(op.dtype)}>::rounded({text}))"
    return text


def _called(op: Op, t: DType) -> str:
    """The function of an op on a dtype."""
    match op:
        case RandomBits():
            return "random_bits"
        case arith.Shl() | arith.Shr():
            return f"{_function(op.name, t)}<{t.bits}>"
        case arith.Fma() if t in (f16, bf16):
            return f"fma_{t}"
        case arith.Fma() if t not in (f32, f64):  # fma_f32 would round before the last rounding
            return "numbers::odd_fma_f32"
        case arith.Mul() if t == tf32:  # least products have more bits than f32 has for them
            return "numbers::odd_product_f32"
        case _:
            return _function(op.name, t)


def _function(name: str, t: DType) -> str:
    """The function of a name on the carrier of a dtype; bools are whole numbers to it."""
    return f"{SHORT.get(name, name)}_{'s32' if t == boolean else carrier(t)}"


def _cast(op: Cast, args: list[str]) -> str:
    """A value of another dtype: a conversion of C++ where that rounds as it should."""
    source, to = _source(op), op.dtype
    if to == boolean:
        return args[0] if source == boolean else f"({args[0]} != 0)"
    if _plain(op, source):
        same = carrier(source) == carrier(to)
        return args[0] if same else f"{carrier(to)}({args[0]})"
    words = [cpp_type(to)]
    if op.rounding != "nearest" or op.saturate:
        words.append(f"Rounding::{op.rounding}")
    if op.saturate:
        words.append("true")
    return f"cast<{', '.join(words)}>({', '.join(args)})"


def _plain(op: Cast, source: DType) -> bool:
    """Whether C++'s conversion of carriers leaves nothing but rounding to the nearest, or wrapping,
    to the place where the result is kept."""
    to, whole = op.dtype, source.is_integer or source == boolean
    if op.saturate or (op.rounding != "nearest" and not (whole and to.is_integer)):
        return False
    if to.is_integer:
        return whole
    if whole:
        return to in (f32, f64) or source.bits <= EXACT_IN_F32
    return source != f64 or to in (f32, f64)


def _source(op: Op) -> DType:
    """The dtype of an op's first operand."""
    t = op.operands[0].type
    assert isinstance(t, Tile)
    return t.dtype


def _dtype(op: Op) -> DType:
    """The dtype of an op's result."""
    assert isinstance(op.result.type, Tile)
    return op.result.type.dtype
