"""Factors that all k's of a step have in common: out of the product, onto its sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.ir.core import Builder, Func, Op, Value, rebuild
from tilec.ir.dtype import f32, i32
from tilec.ir.ops import arith, control, memory, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.remark import Remark
from tilec.ir.types import Span
from tilec.passes.parts import as_f32, tile
from tilec.passes.pipeline import register

LEAST = 32  # k's of a group that is worth a step
SMALL = 2.0**32  # more than f16, codes and numbers of an index are, less than bf16
KEEPING = (Cast, arith.Add, arith.Sub, arith.Mul, arith.Neg, shape.Broadcast, shape.Reshape)


@register("factor-scales")
def factor_scales(func: Func) -> Func:
    """Make dot(a, (b * s).T), where s has one number for each row of b in a step of k, dot(a, b.T)
    times s: in f32, a multiply for each result instead of one for each element.

    Before: tile sizes are chosen, what is read is dense. After: the same, up to rounding: b is made
    of codes, whole numbers or f16, so that no sum overflows that s would have kept small. Scales of
    scaled formats take this way in `lower-formats`; here are those of other formats, and those that
    a kernel multiplies by itself.
    """
    factoring = _Factoring(func)
    body = rebuild(func.body, {}, factoring.change)
    return func.replaced(body, *factoring.remarks)


def group(op: reduce.Dot, made: Mapping[Value, Op]) -> int:
    """How many k's have a factor of a product in common, where it changes along k; 0 if none."""
    found = _factor(op, made)
    return found.group if found is not None and found.group >= LEAST else 0


@dataclass(frozen=True)
class _Factor:
    """A second operand as (rest * s).T; s is read at the coordinates of a span divided by `group`,
    or the same for all k's."""

    rest: Value
    s: Value
    span: Value | None = None
    group: int = 0


def _factor(op: reduce.Dot, made: Mapping[Value, Op]) -> _Factor | None:
    """The factor of a product's second operand, if it has one that suits."""
    turned = made.get(op.b)
    times = made.get(turned.a) if isinstance(turned, shape.Transpose) else None
    left = tile(op.a).dtype
    plain = op.scale is None and tile(op.acc).dtype == f32 and left.is_float and left.bits <= 32
    if not plain or not isinstance(times, arith.Mul) or tile(times.result).dtype != f32:
        return None
    for rest, s in ((times.a, times.b), (times.b, times.a)):
        if not _small(rest, made):
            continue
        column = _column(s, made)
        if column is not None:
            return _Factor(rest, column)
        load = _load(s, made)
        group = None if load is None else _group(load, made)
        if group is not None:
            return _Factor(rest, s, *group)
    return None


def _small(v: Value, made: Mapping[Value, Op]) -> bool:
    """Whether a tile is sums and products of small numbers, whose own sums do not overflow."""
    waiting, seen = [v], {v}
    while waiting:
        v = waiting.pop()
        op = made.get(v)
        if abs(tile(v).dtype.high) <= SMALL:
            continue
        if isinstance(op, shape.Full):
            if abs(op.value) > SMALL:
                return False
        elif isinstance(op, KEEPING):
            waiting += [o for o in op.operands if o not in seen]
            seen.update(op.operands)
        else:
            return False
    return True


def _column(s: Value, made: Mapping[Value, Op]) -> Value | None:
    """A number for each row, if that is what a tile is made of."""
    wide = made.get(s)
    if not isinstance(wide, shape.Broadcast):
        return None
    rows, one = tile(wide.result).shape[0], made.get(wide.a)
    if isinstance(one, shape.Reshape) and tile(one.a).shape == (rows,):
        return one.a if tile(one.result).shape == (rows, 1) else None
    return None


def _load(s: Value, made: Mapping[Value, Op]) -> memory.Load | None:
    op = made.get(s)
    if isinstance(op, Cast):
        op = made.get(op.a)
    return op if isinstance(op, memory.Load) else None


def _group(load: memory.Load, made: Mapping[Value, Op]) -> tuple[Value, int] | None:
    """The span of k and how many of its elements share one of what is read, a row a row."""
    *rows, last = load.indices
    by = made.get(last)
    if not isinstance(by, arith.FloorDiv) or not all(isinstance(i.type, Span) for i in rows):
        return None
    k, n = made.get(by.a), made.get(by.b)
    if isinstance(n, shape.Broadcast):
        n = made.get(n.a)
    if len(rows) != 1 or not isinstance(k, shape.Coordinates) or not isinstance(n, shape.Full):
        return None
    return k.span, int(n.value)


class _Factoring:
    """The rewriting of one function; `change` is the rule for `rebuild`."""

    def __init__(self, func: Func) -> None:
        loops = (op for op in func.walk() if isinstance(op, control.For))
        self.steps = {op.body.params[0]: op.tile for op in loops}
        self.made: dict[Value, Op] = {}
        self.remarks: list[Remark] = []

    def change(self, op: Op, to: dict[Value, Value], b: Builder) -> bool:
        """Write a product whose factor is one for a step of k."""
        self.made.update(dict.fromkeys(op.results, op))
        found = _factor(op, self.made) if isinstance(op, reduce.Dot) else None
        if found is None or not self._steady(found):
            return False
        assert isinstance(op, reduce.Dot)
        message = "a factor of the second operand multiplies the sums, not each element"
        self.remarks.append(Remark("factor-scales", message, op.loc))
        scale = self._scale(found, b)
        turned = b(shape.Transpose(found.rest, (1, 0)))
        to[op.result] = b(op.rebuilt({}, a=as_f32(b, op.a), b=turned, scale=scale))
        return True

    def _steady(self, factor: _Factor) -> bool:
        step = None if factor.span is None else self.steps.get(factor.span)
        return factor.span is None or (step is not None and factor.group % step == 0)

    def _scale(self, factor: _Factor, b: Builder) -> Value:
        """The factor of each row, as f32."""
        if factor.span is None:
            return as_f32(b, factor.s)
        load = _load(factor.s, self.made)
        assert load is not None
        number = b(
            arith.FloorDiv(b(shape.Start(factor.span)), b(shape.Full((), factor.group, i32)))
        )
        return as_f32(b, b(memory.Load(load.mem, (*load.indices[:-1], number))))
