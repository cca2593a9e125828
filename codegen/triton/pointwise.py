"""Elementwise ops as Triton expressions."""

from __future__ import annotations

import re
from collections.abc import Callable

from tilec.codegen.triton.printer import bare, dtype_of
from tilec.ir.core import Op
from tilec.ir.dtype import DType, f32, i32, i64, promote, u8
from tilec.ir.errors import TileError
from tilec.ir.ops import arith
from tilec.ir.ops.cast import Bitcast, Cast
from tilec.ir.ops.packed import Term
from tilec.ir.types import Tile

INFIX: dict[type[Op], str] = {
    arith.Add: "+", arith.Sub: "-", arith.Mul: "*", arith.And: "&", arith.Or: "|",
    arith.Xor: "^", arith.Shl: "<<", arith.Shr: ">>", arith.Eq: "==", arith.Ne: "!=",
    arith.Lt: "<", arith.Le: "<=",
}  # fmt: skip
# Functions that Triton computes for floats of 32 and 64 bits only.
CALLS: dict[type[Op], str] = {
    arith.Exp: "tl.exp({})", arith.Exp2: "tl.exp2({})", arith.Log: "tl.log({})",
    arith.Log2: "tl.log2({})", arith.Sqrt: "tl.sqrt_rn({})", arith.Rsqrt: "tl.rsqrt({})",
    arith.Sin: "tl.sin({})", arith.Cos: "tl.cos({})", arith.Erf: "tl.erf({})",
    arith.Floor: "tl.floor({})", arith.Ceil: "tl.ceil({})",
    arith.Tanh: "tanh({})", arith.Rint: "rint({})",
}  # fmt: skip
PLAIN: dict[type[Op], str] = {
    arith.Div: "{} / {}", arith.Fma: "tl.fma({}, {}, {})", arith.Neg: "-{}",
    arith.Abs: "tl.abs({})", arith.Popcount: "popcount({})", arith.Where: "tl.where({}, {}, {})",
}  # fmt: skip
NUMBER = re.compile(r"\(?-?[1-9][0-9]*\)?")  # but 0
WIDE = 1 << 20  # beyond every float of 8 bits, and exact in 32
# Ops whose operands stand beside operators or methods; those of others stand between commas.
_BESIDE = (arith.Div, arith.FloorDiv, arith.Mod, arith.Neg, arith.Not, Cast, Bitcast)


_BITS = (arith.FloorDiv, arith.Mod, arith.Shl, arith.Shr)


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
    t = source_dtype(op)
    if isinstance(op, _BITS) and t.kind == "bool":  # a bit of what whole numbers give
        text = _text(op, i32, [f"{a}.to(tl.int32)" for a in args])
        return f"(({text}) & 1) != 0"
    if not _narrow(t) or isinstance(op, (Cast, Bitcast, arith.Where)) or type(op) in CALLS:
        return _text(op, t, args)
    text = _text(op, f32, [f"{a}.to(tl.float32)" for a in args])
    return from_f32(dtype(op), f"({text})") if _narrow(dtype(op)) else text


def _text(op: Op, t: DType, args: list[str]) -> str:
    """An op on operands of a dtype."""
    if type(op) not in INFIX and not isinstance(op, _BESIDE):
        args = [bare(a) for a in args]
    if type(op) in INFIX:
        return f"{args[0]} {INFIX[type(op)]} {args[1]}"
    if isinstance(op, arith.Div) and t == f32:  # Triton's own / and sqrt are a few units off
        return f"tl.div_rn({bare(args[0])}, {bare(args[1])})"
    if isinstance(op, arith.Sqrt) and t.bits == 64:
        return f"tl.sqrt({args[0]})"
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
        case Bitcast() if op.dtype.kind == "code" and source_dtype(op) == u8:
            return args[0]  # codes are held as their bits
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
    return from_f32(t, call(f"{atom}.to(tl.float32)"))


def from_f32(t: DType, text: str) -> str:
    """A float32 as a narrower float; an expression beside which methods may stand."""
    return f"to_{t}({bare(text)})" if _narrow(t) else f"{text}.to({dtype_of(t)})"


def term(op: Term, a: str) -> str:
    """A term of numbers, by taking those before it."""
    kind, found = dtype_of(op.dtype), f"{a}.to(tl.float32)"
    for _ in range(op.index):
        found = f"({found} - {found}.to({kind}).to(tl.float32))"
    return f"{found}.to({kind})"


def _floor(op: Op, a: str, b: str) -> str:
    """Triton's // and % round toward zero and leave x / 0 open; these round down, x / 0 is 0."""
    name, sign = ("floor_div", "//") if isinstance(op, arith.FloorDiv) else ("floor_mod", "%")
    if not NUMBER.fullmatch(b):
        return f"{name}({bare(a)}, {bare(b)})"
    if dtype(op).kind == "uint":
        return f"{a} {sign} {b}"
    beyond = f"{a} % {b} {'>' if '-' in b else '<'} 0"  # a remainder of the other sign
    if sign == "//":
        return f"{a} // {b} - ({beyond}).to({dtype_of(dtype(op))})"
    return f"{a} % {b} + tl.where({beyond}, {b}, 0)"


def _cast(op: Cast, a: str) -> str:
    source, to = source_dtype(op), op.dtype
    if _narrow(source) and to.bits != 32:  # Triton's other ways from fp8 lose infinities
        a = _to(op, a, f32)
    if to.kind == "bool":
        return f"{a} != 0"
    _check(op)
    if _narrow(to):
        return _fp8(op, a)
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


def _narrow(t: DType) -> bool:
    return t.is_float and t.bits == 8


def _fp8(op: Cast, a: str) -> str:
    """A number as a float of 8 bits. Triton's own conversion saturates; whole numbers are first
    brought to where a float32 holds them."""
    source, to = source_dtype(op), op.dtype
    if source.is_integer and source.bits > 16:
        a = f"tl.minimum(tl.maximum({a}, {-WIDE}), {WIDE})" if source.kind == "int" else \
            f"tl.minimum({a}, {WIDE})"  # fmt: skip
    a = a if source == f32 else _to(op, a, f32)
    return _to(op, a, to) if op.saturate else from_f32(to, a)


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
    if _narrow(to) and source.is_float and source.bits == 64:
        raise TileError(f"triton: no code for casts of {source} to {to} that round once", op.loc)


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
    """A float as an integer, by way of one that holds it: what lies beyond an i64 is 0 there."""
    source, to = source_dtype(op), op.dtype
    a = _to(op, a, f32) if source.bits < 32 else a
    a = f"rint({bare(a)})" if op.rounding == "nearest" else a
    if not op.saturate:
        if to.bits < 8:
            raise TileError(f"triton: no code for a cast to {to} that wraps", op.loc)
        return _to(op, f"whole({bare(a)})", to)
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
