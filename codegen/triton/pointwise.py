"""Elementwise ops as Triton expressions."""

from __future__ import annotations

from collections.abc import Callable

from tilec.codegen.triton.printer import bare, dtype_of
from tilec.ir.core import Op
from tilec.ir.dtype import DType
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
    arith.Tanh: "(1.0 - 2.0 / (tl.exp(2.0 * {}) + 1.0))",
}  # fmt: skip
PLAIN: dict[type[Op], str] = {
    arith.Div: "{} / {}", arith.Fma: "tl.fma({}, {}, {})", arith.Neg: "-{}",
    arith.Abs: "tl.abs({})", arith.Where: "tl.where({}, {}, {})",
}  # fmt: skip
# Ops whose operands stand beside operators or methods; those of others stand between commas.
_BESIDE = (arith.Div, arith.FloorDiv, arith.Mod, arith.Neg, arith.Not, arith.Tanh, Cast, Bitcast)
UNSUPPORTED: dict[type[Op], str] = {
    arith.Rint: "Triton has no rounding to whole numbers outside libdevice",
}


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
    if type(op) in UNSUPPORTED:
        raise TileError(f"triton: no code for {op.name}: {UNSUPPORTED[type(op)]}", op.loc)
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
    if op.rounding == "stochastic":
        raise TileError("triton: no code for stochastic rounding", op.loc)
    if source.is_float and not to.is_float and to.kind != "bool" and op.rounding == "nearest":
        raise TileError("triton: floats become integers toward zero only", op.loc,
                        hint='cast(x, i32, rounding="toward_zero")')  # fmt: skip
    if op.saturate and not (source.is_float and to.is_float and to.bits == 8):
        high, low = to.high, to.low
        a = f"tl.minimum(tl.maximum({a}, {low}), {high})"
    if to.kind == "bool":
        return f"{a} != 0"
    narrow = to.is_integer and to.bits < 8
    if narrow and not op.saturate and not (source.is_integer and source.bits <= to.bits):
        raise TileError(f"triton: no code for a cast to {to} that wraps", op.loc)
    if op.rounding == "toward_zero" and to.is_float:
        raise TileError("triton: floats become narrower floats by nearest rounding only", op.loc)
    if not isinstance(op.a.type, Tile) or not op.a.type.rank:  # may be a number of Python's
        return f"tl.cast({bare(a)}, {dtype_of(to)})"
    return f"{a}.to({dtype_of(to)})"
