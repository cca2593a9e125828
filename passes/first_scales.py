"""Products whose second operand is codes as they lie, with a scale for each of its rows: the scales
multiply the first operand."""

from __future__ import annotations

from tilec.ir.core import Builder, Value
from tilec.ir.dtype import f32
from tilec.ir.ops import arith, reduce, shape
from tilec.passes.parts import as_f32, tile
from tilec.passes.scaled import Decoded, Elements, spread
from tilec.passes.whole import centred


def suits(elements: Elements, op: reduce.Dot, load: Decoded) -> bool:
    """Whether codes are all that is special of an element, and a row of a step has one scale."""
    plain = load.format.zero in ("none", "mid") and op.scale is None and op.row_scale is None
    floats = tile(op.a).dtype.is_float and tile(op.a).dtype.bits <= 32
    return plain and floats and tile(op.acc).dtype == f32 \
        and elements.steady(load.indices[-1], load.format.block.columns)  # fmt: skip


def product(elements: Elements, op: reduce.Dot, load: Decoded, b: Builder) -> Value:
    """acc + sum_k (a[i, k] * scale[k]) * code[k, j], in f32."""
    a = as_f32(b, op.a)
    numbers, format = load.format.numbers(), load.format
    found = elements.number_of(load, numbers["scale"], "scale", format.block, load.along(), b)
    scale = spread(found, (0,), tile(a).shape[1:], b)
    by = b(shape.Broadcast(scale, tile(a).shape))
    return b(reduce.Dot(b(arith.Mul(a, by)), centred(load.codes, format, f32, b), op.acc))
