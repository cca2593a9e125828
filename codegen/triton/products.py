"""Products: operands of one dtype, with zeros where they are padded along k."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tilec.codegen.triton import tiles
from tilec.codegen.triton.pointwise import Cast
from tilec.codegen.triton.printer import LEAST_DOT, Printer, dtype_of
from tilec.ir.core import Func, Op, Value
from tilec.ir.dtype import f32, f64, i32
from tilec.ir.ops import memory, reduce, shape
from tilec.ir.types import Tile

WIDE = (f32, f64, i32)  # what `tl.dot` adds in unless it is told
Written = Callable[[Value], str]


def least(func: Func) -> dict[str, int]:
    """The least block of each extent that a product of a function has."""
    found: dict[str, int] = {}
    dots = [op for op in func.walk() if isinstance(op, reduce.Dot)]
    for op in dots:
        for v in (op.a, op.b):
            found |= {str(d): LEAST_DOT for d in _tile(v).shape}
    for op in dots:
        if tiles.common(op).bits == 8:
            found[str(_tile(op.a).shape[1])] = 2 * LEAST_DOT
    return found


def product(p: Printer, op: reduce.Dot, made: Mapping[Value, Op], operand: Written) -> str:
    """The expression of a product. Padding along k must be 0 in both operands: only loads are sure
    to have it so."""
    sides: list[str] = []
    for v, axis in ((op.a, 1), (op.b, 0)):
        text = operand(v)
        mask = p.axis(_tile(v).shape[axis]).mask
        if mask and not _zero_outside(v, made):
            text = f"tl.where({mask}[{'None, :' if axis else ':, None'}], {text}, 0)"
        sides.append(text)
    common = tiles.common(op)
    sides = [s if _tile(v).dtype == common else f"{s}.to({dtype_of(common)})"
             for s, v in zip(sides, (op.a, op.b), strict=True)]  # fmt: skip
    exact = ', input_precision="ieee"' if common.is_float and common.bits == 32 else ""
    acc = operand(op.acc)
    zero = made.get(op.acc)
    if op.scale is None and op.row_scale is None:
        known = isinstance(zero, shape.Full) and str(zero.value) in ("0", "0.0")
        fresh = known and _tile(op.acc).dtype in WIDE
        kept = "" if fresh else f", {acc}"
        return f"tl.dot({sides[0]}, {sides[1]}{kept}{exact})"
    text = f"tl.dot({sides[0]}, {sides[1]}{exact})"
    text += "" if common.is_float else ".to(tl.float32)"
    scales = [f"{operand(v)}[{place}]" for v, place in
              ((op.row_scale, ":, None"), (op.scale, "None, :")) if v is not None]  # fmt: skip
    if len(scales) == 2:
        text += f" * {scales[0]}"
    return f"tl.fma({text}, {scales[-1]}, {acc})"


def _zero_outside(v: Value, made: Mapping[Value, Op]) -> bool:
    op = made.get(v)
    if isinstance(op, (shape.Transpose, Cast)):
        return _zero_outside(op.a, made)
    return isinstance(op, memory.Load)


def _tile(v: Value) -> Tile:
    assert isinstance(v.type, Tile)
    return v.type
