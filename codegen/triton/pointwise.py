"""Elementwise ops as Triton expressions."""

from __future__ import annotations

from collections.abc import Callable

from tilec.codegen.triton.printer import bare, dtype_of
from tilec.ir.core import Op
from tilec.ir.dtype import DType, f32, i64, promote
from tilec.ir.errors import TileError
from tilec.ir.ops import arith
from tilec.ir.ops.cast import Bitcast, Cast
from tilec.ir.types import Tile

INFIX: dict[type[Op], str] = {
    arith.Add: "+", arith.Sub: "-", arith.Mul: "*", arith.And: "&", arith.Or: "|",
    arith.Xor: "^", arith.Shl: "<<", arith.Shr: ">>", arith.Eq: "==", arith.Ne: "!=",
    arith.Lt: "<", arith.Le: "<=",
}  # fmt: skip
# Functions that Triton computes for floats of 32 and 64 bits only.
CALLS: dict[type[Op], str] = {
    arith.Exp: "tl.exp({})", arith.Exp2: "tl.exp2({})", arith.Log: "tl.log({})",
    arith.Log2: "tl.log2({})", arith.Sqrt: "tl.sqrt({})", arith.Rsqrt: "tl.rsqrt({})",
    arith.Sin: "tl.sin({})", arith.Cos: "tl.cos({})", arith.Erf: "tl.erf({})",
    arith.Floor: "tl.floor({})", arith.Ceil: "tl.ceil({})",
    arith.Tanh: "tanh({})", arith.Rint: "rint({})",
}  # fmt: skip
PLAIN: dict[type[Op], str] = {
    arith.Div: "{} / {}", arith.Fma: "tl.fma({}, {}, {})", arith.Neg: "-{}",
    arith.Abs: "tl.abs({})", arith.Where: "tl.where({}, {}, {})",
}  # fmt: skip
# Ops whose operands stand beside operators or methods; those of others stand between commas.
_BESIDE = (arith.Div, arith.FloorDiv, arith.Mod, arith.Neg, arith.Not, Cast, Bitcast)


def dtype(op: Op) -> DType:
    """The dtype of an op's result."""
    assert isinstance(op.result.type, Tile)
    return op.result.type.dtype


def source_dtype(op: Op) -> DType:
    """The dtype of an op's first operand."""
    t = op.operands[0].type
    assert isinstance(t, Tile)
    return t.dtype


def emit(op: Op, args: list[str]) -> str:
    """The expression of an elementwise op; `args` are atoms. Raises TileError if there is none."""
    if type(op) not in INFIX and not isinstance(op, _BESIDE):
        args = [bare(a) for a in args]
    t = source_dtype(op)
    if t.is_float and t.bits == 8 and type(op) not in (Cast, Bitcast, arith.Where, *CALLS):
        raise TileError(f"triton: no arithmetic on {t}", op.loc, hint="cast to f32 first")
    if type(op) in INFIX:
        return f"{args[0]} {INFIX[type(op)]} {args[1]}"
    if type(op) in CALLS:
        return _wide(dtype(op), args[0], CALLS[type(op)].format)
    if type(op) in PLAIN:
        return PLAIN[type(op)].format(*args)
    return _other(op, args)


def _other(op: Op, args: list[str]) -> str:
    match op:
        case arith.FloorDiv() | arith.Mod():
            return _floor(op, *args)
        case arith.Maximum() | arith.Minimum():
            return _extreme(op, *args)
        case arith.Not():
            return f"{args[0]} == 0" if dtype(op).kind == "bool" else f"~{args[0]}"
        case Cast():
            return _cast(op, args[0])
        case Bitcast():
            return f"{args[0]}.to({dtype_of(op.dtype)}, bitcast=True)"
        case _:
            raise TileError(f"triton: no code for {op.name}", op.loc)


def _extreme(op: Op, a: str, b: str) -> str:
    nan = ", propagate_nan=tl.PropagateNan.ALL" if dtype(op).is_float else ""
    return f"tl.{op.name}({a}, {b}{nan})"


def _wide(t: DType, arg: str, call: Callable[[str], str]) -> str:
    if t.bits >= 32:
        return call(arg)
    atom = arg if arg.isidentifier() else f"({arg})"
    return f"{call(f'{atom}.to(tl.float32)')}.to({dtype_of(t)})"


def _floor(op: Op, a: str, b: str) -> str:
    """Triton's // and % round toward zero; these round down."""
    if dtype(op).kind == "uint":
        return f"{a} {'//' if isinstance(op, arith.FloorDiv) else '%'} {b}"
    rest = f"(({a} % {b} != 0) & (({a} < 0) != ({b} < 0)))"
    if isinstance(op, arith.FloorDiv):
        return f"{a} // {b} - {rest}.to({dtype_of(dtype(op))})"
    return f"{a} % {b} + tl.where({rest}, {b}, 0)"


def _cast(op: Cast, a: str) -> str:
    source, to = source_dtype(op), op.dtype
    if to.kind == "bool":
        return f"{a} != 0"
    _check(op)
    if source.is_float and to.is_float:
        return _float(op, a)
    if source.is_float:
        return _integer(op, a)
    if op.saturate and source.kind != "bool":
        a = f"tl.maximum({a}, {int(to.low)})" if source.low < to.low else a
        a = f"tl.minimum({a}, {int(to.high)})" if source.high > to.high else a
    elif to.is_integer and to.bits < 8 and not to.low <= source.low <= source.high <= to.high:
        raise TileError(f"triton: no code for a cast to {to} that wraps", op.loc)
    return _to(op, a, to)


def _check(op: Cast) -> None:
    """Refuse the types and the roundings that Triton has not."""
    source, to = source_dtype(op), op.dtype
    dtype_of(source)
    dtype_of(to)
    if op.rounding == "stochastic":
        raise TileError("triton: no code for stochastic rounding", op.loc)
    exact = source.exponent <= to.exponent and source.mantissa <= to.mantissa
    if source.is_integer:
        exact = source.bits - (source.kind == "int") <= to.mantissa + 1
    if op.rounding == "toward_zero" and to.is_float and not exact:
        raise TileError("triton: numbers become narrower floats by nearest rounding only", op.loc)


def _float(op: Cast, a: str) -> str:
    """A float as another one. Saturation clips where all values of both can be told apart."""
    source, to = source_dtype(op), op.dtype
    if not op.saturate or to.bits == 64:
        return _to(op, a, to)
    a = _to(op, a, promote(promote(source, to), f32))
    for name, bound in (("maximum", to.low), ("minimum", to.high)):
        a = f"tl.{name}({a}, {bound}, propagate_nan=tl.PropagateNan.ALL)"
    return _to(op, a, to)


def _integer(op: Cast, a: str) -> str:
    """A float as an integer, by way of one that holds it: what lies beyond that is undefined."""
    source, to = source_dtype(op), op.dtype
    a = _to(op, a, f32) if source.bits < 32 else a
    a = f"rint({bare(a)})" if op.rounding == "nearest" else a
    if not op.saturate:
        if to.bits < 8:
            raise TileError(f"triton: no code for a cast to {to} that wraps", op.loc)
        return _to(op, _to(op, a, i64), to)
    if to.bits <= 16:
        return _to(op, f"clip({bare(a)}, {to.low}, {to.high})", to)
    if to.bits == 64:
        raise TileError(f"triton: no code for casts that saturate to {to}", op.loc)
    a = _to(op, f"clip({bare(a)}, {-(2.0**62)}, {2.0**62})", i64)
    return _to(op, f"tl.minimum(tl.maximum({a}, {to.low}), {to.high})", to)


def _to(op: Cast, a: str, t: DType) -> str:
    assert isinstance(op.a.type, Tile)
    if not op.a.type.rank:  # it may be a number of Python's
        return f"tl.cast({bare(a)}, {dtype_of(t)})"
    return f"{a}.to({dtype_of(t)})"
