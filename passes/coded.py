"""Elements of coded exponents: their bits from sign, mantissa and table, or those of an escape."""

from __future__ import annotations

from tilec.ir.coded import BLOCK, LOW, Coded
from tilec.ir.core import Value
from tilec.ir.dtype import i32, integer
from tilec.ir.ops import arith, memory
from tilec.ir.ops.cast import Bitcast
from tilec.passes.reader import Reader

OUTSIDE = -1  # a coordinate at which there is nothing to read


def decoded(format: Coded, r: Reader) -> Value:
    """sign | table[code] | mantissa, or escapes[start + number]."""
    t = format.element
    codes, low = r.here("codes"), r.here("low")
    rest = low
    if format.high:
        rest = r.op(arith.Or, r.op(arith.Shl, r.here("high"), LOW), low)
    exponent = r.cast(r.b(memory.Load(r.mems["table"], (codes,))), i32)
    sign = r.op(arith.Shl, r.op(arith.Shr, rest, t.mantissa), t.bits - 1)
    mantissa = r.op(arith.And, rest, (1 << t.mantissa) - 1)
    body = r.op(arith.Or, r.op(arith.Shl, exponent, t.mantissa), mantissa)
    whole = r.op(arith.Or, sign, body)
    escaped = r.op(arith.Eq, codes, format.escape)
    place = r.op(arith.Add, r.read("start", r.over(BLOCK)), low)
    place = r.b(arith.Where(escaped, place, r.constant(OUTSIDE, i32)))
    escape = r.cast(r.b(memory.Load(r.mems["escapes"], (place,))), i32)
    bits = r.b(arith.Where(escaped, escape, whole))
    return r.b(Bitcast(r.cast(bits, integer(t.bits, signed=False)), t))
