"""What numbers a value may be: all of them where it is made of few bits, else how many bits."""

from __future__ import annotations

from collections.abc import Mapping
from math import frexp

import numpy as np

from tilec.ir.bits import from_raw
from tilec.ir.core import Op, Trait, Value
from tilec.ir.dtype import Array, DType
from tilec.ir.ops import arith, memory, shape
from tilec.ir.ops.cast import Cast
from tilec.passes.parts import tile

CODE = 8  # bits of a code at most
ENUMERATED = 12  # bits of all codes that are tried together
VIEWS = (shape.Transpose, shape.Reshape, shape.Broadcast)


class Possible:
    """Questions about values by what made them."""

    def __init__(self, made: Mapping[Value, Op]) -> None:
        self.made = made

    def decoded(self, v: Value) -> bool:
        """Whether codes of at most 8 bits take part in a value, and nothing but loads does."""
        loads = self._loads(v)
        return bool(loads) and any(tile(x).dtype.bits <= CODE for x in loads)

    def _loads(self, v: Value) -> list[Value]:
        """The loads that a value is computed of, element by element; none where there is more."""
        op = self.made.get(v)
        if isinstance(op, memory.Load):
            return [v]
        if isinstance(op, shape.Full):
            return []
        if op is None or not (isinstance(op, VIEWS) or Trait.ELEMENTWISE in op.traits):
            return []
        found = [self._loads(x) for x in op.operands]
        constant = (isinstance(self.made.get(x), shape.Full) for x in op.operands)
        if not all(f or c for f, c in zip(found, constant, strict=True)):
            return []
        return [x for f in found for x in f]

    def values(self, v: Value) -> Array | None:
        """Every number that an element may be; None where codes are too many to try them all."""
        while isinstance(op := self.made.get(v), VIEWS):
            v = op.operands[0]
        codes: dict[Value, int] = {}
        if not self._codes(v, codes) or sum(codes.values()) > ENUMERATED:
            return None
        known: dict[Value, Array] = {}
        count = 1 << sum(codes.values())
        left = np.arange(count)
        for code, bits in codes.items():
            known[code] = from_raw(tile(code).dtype, left & (1 << bits) - 1)
            left >>= bits
        with np.errstate(all="ignore"):
            return self._value(v, known, count)

    def _codes(self, v: Value, found: dict[Value, int]) -> bool:
        """Whether a value is made of codes and constants in the same place; note the codes."""
        op = self.made.get(v)
        if isinstance(op, memory.Load):
            found[v] = tile(v).dtype.bits
            return found[v] <= CODE
        if isinstance(op, shape.Full):
            return True
        plain = op is not None and Trait.ELEMENTWISE in op.traits
        plain = plain and not (isinstance(op, Cast) and op.rounding == "stochastic")
        return op is not None and plain and all(self._codes(x, found) for x in op.operands)

    def _value(self, v: Value, known: dict[Value, Array], count: int) -> Array:
        if v not in known:
            op, t = self.made[v], tile(v).dtype
            if isinstance(op, shape.Full):
                known[v] = t.round(op.evaluate((count,)))
            else:
                known[v] = t.round(op.evaluate(*(self._value(x, known, count)
                                                 for x in op.operands)))  # fmt: skip
        return known[v]

    def exact(self, v: Value, t: DType) -> bool:
        """Whether every number that an element may be is one of a float type's."""
        found = self.values(v)
        return found is not None and np.array_equal(t.round(found), found, equal_nan=True)

    def bits(self, v: Value) -> int:
        """The most bits of an element from its first one to its last."""
        own = _width(tile(v).dtype)
        found = self.values(v)
        if found is not None:
            return min(own, significant(found))
        op = self.made.get(v)
        match op:
            case Cast():
                return min(own, self.bits(op.a))
            case arith.Mul():
                a, b = self.bits(op.a), self.bits(op.b)
                return min(own, a + b if min(a, b) > 1 else max(a, b))
            case arith.Where():
                return min(own, max(self.bits(op.a), self.bits(op.b)))
            case shape.Transpose() | shape.Reshape() | shape.Broadcast() | arith.Neg():
                return min(own, self.bits(op.operands[0]))
            case _:
                return own


def _width(t: DType) -> int:
    """The most bits of a number of a type from its first one to its last."""
    if t.table is not None:
        return significant(t.table.values)
    return t.mantissa + 1 if t.is_float else t.bits


def significant(x: Array) -> int:
    """The most bits of numbers from the first one to the last."""
    finite = np.unique(np.abs(np.asarray(x, np.float64)))
    return max((_bits(float(v)) for v in finite[np.isfinite(finite)] if v), default=1)


def _bits(x: float) -> int:
    whole = int(frexp(x)[0] * 2.0**53)
    return 53 - ((whole & -whole).bit_length() - 1)
