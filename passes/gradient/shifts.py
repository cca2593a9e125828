"""Maxima that results do not depend on, although they are computed with them.

softmax subtracts a maximum and divides by a sum that has it too; log-sum-exp adds it again. Every
value is followed by how it depends on such an m: v + rate * m, v * exp(rate * m), or else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

from tilec.ir.core import Op, Value
from tilec.ir.ops import arith, memory, reduce, scan, shape
from tilec.ir.ops.arith import tile
from tilec.ir.ops.cast import Cast
from tilec.passes.gradient.rules import smooth

SMALL = 1e-12  # a rate that is none but for rounding: of exp2(x * log2(e)), say


@dataclass(frozen=True)
class Shift:
    """A value is v + rate * m or v * exp(rate * m), v being the same for every m.

    `axes` has the axis of m that each of the value's axes is, None where m is the same along it.
    """

    kind: Literal["sum", "factor", "else"]
    rate: float = 0.0
    axes: tuple[int | None, ...] = ()


ELSE = Shift("else")
Found = Shift | None  # None: it does not depend on m
Rule = Callable[[Any, list[Found], "_Shifts"], Found]
RULES: dict[type[Op], Rule] = {}


def unmoved(ops: Sequence[Op], results: Set[Value]) -> set[Value]:
    """The results of max and min that what is stored to memories does not depend on."""
    made = {v: op for op in ops for v in op.results}
    extremes = [i for i, op in enumerate(ops) if isinstance(op, reduce.Max | reduce.Min)]
    return {ops[i].result for i in extremes
            if _Shifts(made, ops[i].result).free(ops[i + 1 :], results)}  # fmt: skip


class _Shifts:
    """How values depend on m."""

    def __init__(self, made: Mapping[Value, Op], m: Value) -> None:
        self.made = made
        axes = tuple(None if n == 1 else i for i, n in enumerate(tile("max", m).shape))
        self.of: dict[Value, Shift] = {m: Shift("sum", 1.0, axes)}

    def free(self, ops: Sequence[Op], results: Set[Value]) -> bool:
        """Whether no value that these ops store to a result depends on m."""
        for op in ops:
            given = [self.of.get(v) for v in op.operands]
            if not any(given):
                continue
            if isinstance(op, memory.Write):
                if op.mem in results:
                    return False
                continue
            rule = RULES.get(type(op))
            known = rule is not None and ELSE not in given
            found = rule(op, given, self) if rule is not None and known else ELSE
            if found is not None and not (found.kind != "else" and abs(found.rate) < SMALL):
                self.of.update(dict.fromkeys(op.results, found))
        return True

    def constant(self, v: Value) -> float | None:
        """The number that every element is, if that is known."""
        op = self.made.get(v)
        while isinstance(op, shape.Broadcast | shape.Reshape | shape.Transpose | Cast):
            op = self.made.get(op.a)
        return float(op.value) if isinstance(op, shape.Full) else None


def _rule(*classes: type[Op]) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(classes, rule))
        return rule

    return add


@_rule(arith.Neg)
def _neg(op: arith.Neg, given: list[Found], s: _Shifts) -> Found:
    (a,) = given
    assert a is not None
    return replace(a, rate=-a.rate) if a.kind == "sum" else a


@_rule(arith.Add, arith.Sub)
def _add(op: arith.Add | arith.Sub, given: list[Found], s: _Shifts) -> Found:
    a, b = given
    if "factor" in {x.kind for x in given if x is not None}:
        return _alike(op, given, s, 0.0)
    if b is not None and isinstance(op, arith.Sub):
        b = replace(b, rate=-b.rate)
    return _joined(a, b)


def _joined(a: Found, b: Found) -> Found:
    """Two of one kind, whose rates are added."""
    if a is None or b is None:
        return a or b
    return replace(a, rate=a.rate + b.rate) if a.axes == b.axes and a.kind == b.kind else ELSE


def _alike(op: Op, given: list[Found], s: _Shifts, neutral: float) -> Found:
    """Operands that depend on m in one way, or are a number that is not changed by m."""
    kinds = {x for x in given if x is not None}
    free = [v for v, x in zip(op.operands, given, strict=True) if x is None]
    same = len(kinds) == 1 and all(s.constant(v) == neutral for v in free)
    return kinds.pop() if same else ELSE


@_rule(arith.Mul, arith.Div)
def _mul(op: arith.Mul | arith.Div, given: list[Found], s: _Shifts) -> Found:
    a, b = given
    divided = isinstance(op, arith.Div)
    if (a is not None and a.kind == "sum") or (b is not None and b.kind == "sum"):
        return _multiple(op, a, b, s)
    if b is not None and divided:
        b = replace(b, rate=-b.rate)
    return _joined(a, b)


def _multiple(op: arith.Mul | arith.Div, a: Found, b: Found, s: _Shifts) -> Found:
    """A sum times, or divided by, a number."""
    if a is not None and b is not None:
        return ELSE
    number = s.constant(op.b if a is not None else op.a)
    if number is None or not math.isfinite(number) or not number:
        return ELSE
    if isinstance(op, arith.Div):
        return ELSE if a is None else replace(a, rate=a.rate / number)
    found = a or b
    return found and replace(found, rate=found.rate * number)


def _into(kind: Literal["sum", "factor"], to: Literal["sum", "factor"], by: float) -> Rule:
    def rule(op: Op, given: list[Found], s: _Shifts) -> Found:
        (a,) = given
        assert a is not None
        return replace(a, kind=to, rate=a.rate * by) if a.kind == kind else ELSE

    return rule


RULES[arith.Exp] = _into("sum", "factor", 1.0)
RULES[arith.Exp2] = _into("sum", "factor", math.log(2.0))
RULES[arith.Log] = _into("factor", "sum", 1.0)
RULES[arith.Log2] = _into("factor", "sum", 1.0 / math.log(2.0))
RULES[arith.Sqrt] = _into("factor", "factor", 0.5)
RULES[arith.Rsqrt] = _into("factor", "factor", -0.5)


@_rule(Cast)
def _cast(op: Cast, given: list[Found], s: _Shifts) -> Found:
    return given[0] if smooth(op.dtype) and not op.saturate else ELSE


@_rule(arith.Where)
def _where(op: arith.Where, given: list[Found], s: _Shifts) -> Found:
    condition, *sides = given
    found = next((x for x in sides if x is not None), None)
    if condition is not None or found is None:
        return ELSE
    other = op.a if sides[0] is None else op.b
    infinite = s.constant(other) in (math.inf, -math.inf)
    if found.kind == "sum" and None in sides:
        return found if infinite else ELSE
    return _alike_sides(sides, found, s, other)


def _alike_sides(sides: list[Found], found: Shift, s: _Shifts, other: Value) -> Found:
    if None in sides:
        return found if s.constant(other) == 0.0 else ELSE
    return found if sides[0] == sides[1] else ELSE


@_rule(arith.Lt, arith.Le, arith.Eq, arith.Ne)
def _sign(op: arith.Comparison, given: list[Found], s: _Shifts) -> Found:
    """A factor's sign is the same for every m."""
    found = _alike(op, given, s, 0.0)
    return None if found is not None and found.kind == "factor" and None in given else ELSE


@_rule(shape.Broadcast)
def _broadcast(op: shape.Broadcast, given: list[Found], s: _Shifts) -> Found:
    (a,) = given
    assert a is not None
    return replace(a, axes=(*(None,) * (len(op.shape) - len(a.axes)), *a.axes))


@_rule(shape.Reshape)
def _reshape(op: shape.Reshape, given: list[Found], s: _Shifts) -> Found:
    """Extents of 1 that come or go."""
    (a,) = given
    assert a is not None
    before = [(n, i) for n, i in zip(tile("reshape", op.a).shape, a.axes, strict=True) if n != 1]
    after = [n for n in op.shape if n != 1]
    if [n for n, _ in before] != after:
        return ELSE if any(i is not None for i in a.axes) else (
            replace(a, axes=(None,) * len(op.shape)))  # fmt: skip
    left = iter([i for _, i in before])
    return replace(a, axes=tuple(None if n == 1 else next(left) for n in op.shape))


@_rule(shape.Transpose)
def _transpose(op: shape.Transpose, given: list[Found], s: _Shifts) -> Found:
    (a,) = given
    assert a is not None
    return replace(a, axes=tuple(a.axes[i] for i in op.order))


@_rule(shape.Slice, scan.Cumsum)
def _along(op: shape.Slice | scan.Cumsum, given: list[Found], s: _Shifts) -> Found:
    (a,) = given
    assert a is not None
    summed = isinstance(op, scan.Cumsum) and a.kind == "sum"
    return ELSE if a.axes[op.axis] is not None or summed else a


@_rule(reduce.Sum, reduce.Max, reduce.Min)
def _reduced(op: reduce.Reduction, given: list[Found], s: _Shifts) -> Found:
    (a,) = given
    assert a is not None
    if a.axes[op.axis] is not None or (isinstance(op, reduce.Sum) and a.kind == "sum"):
        return ELSE
    return replace(a, axes=(*a.axes[: op.axis], *a.axes[op.axis + 1 :]))


@_rule(reduce.Dot)
def _dot(op: reduce.Dot, given: list[Found], s: _Shifts) -> Found:
    a, b, *others = given
    found = a or b
    if any(others) or found is None or found.kind != "factor" or (a and b):
        return ELSE
    if s.constant(op.acc) != 0 or len(op.operands) != 3:
        return ELSE
    *lead, rows, columns = found.axes
    summed, kept = (columns, (rows, None)) if a else (rows, (None, columns))
    return ELSE if summed is not None else replace(found, axes=(*lead, *kept))
