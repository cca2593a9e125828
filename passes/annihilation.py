"""Whether a step of a loop does nothing where an operand is 0.

What is not stored takes no part, so numbers beside it are taken to be finite: 0 times x is 0, and
x - x is 0.
"""

from __future__ import annotations

import math
from collections.abc import Set

import numpy as np

from tilec.ir.core import Block, Op, Trait, Value
from tilec.ir.ops import arith, control, reduce, shape
from tilec.ir.ops.cast import Cast
from tilec.ir.types import Memory

Found = Value | float  # another value that it equals, or the number that every element is
Key = tuple[object, ...]
ALIKE = (shape.Transpose, shape.Reshape, shape.Broadcast, shape.Slice, Cast, reduce.Max, reduce.Min)


def change(loop: control.For | control.Count, zero: Set[Value]) -> Op | None:
    """The op by which a step changes something although these values are all 0; None if none does.

    The results of the step are then what it was given.
    """
    return _Meaning(zero).step(loop.body, loop.body.params[1:])


class _Meaning:
    """What values of a step are if some are 0."""

    def __init__(self, zero: Set[Value]) -> None:
        self.of: dict[Value, Found] = dict.fromkeys(zero, 0.0)
        self.made: dict[Value, Op] = {}
        self.same: dict[Key, Value] = {}  # what ops with equal operands gave first

    def step(self, body: Block, carried: tuple[Value, ...]) -> Op | None:
        """The op that makes a step change what it carries, or memory."""
        for op in body.ops:
            self.made.update(dict.fromkeys(op.results, op))
            culprit = self._op(op)
            if culprit is not None:
                return culprit
        for result, param in zip(body.results, carried, strict=True):
            found = self.value(result)
            if found != self.value(param):
                maker = self.made.get(found) if isinstance(found, Value) else None
                return maker or self.made.get(result, body.ops[-1])
        return None

    def value(self, v: Value) -> Found:
        """The value that another one equals, or a number."""
        found = self.of.get(v, v)
        return found if not isinstance(found, Value) or found is v else self.value(found)

    def _op(self, op: Op) -> Op | None:
        """Note what an op gives; the op itself if it writes memory."""
        if isinstance(op, control.For | control.Count | control.While):
            params = op.body.params if isinstance(op, control.While) else op.body.params[1:]
            if self.step(op.body, params) is None:
                self.of.update(zip(op.results, op.init, strict=True))
                return None
            return _writing(op)
        if Trait.WRITES in op.traits:
            return _writing(op)
        found = [self.value(v) for v in op.operands]
        result = self._result(op, found)
        if result is None and op.traits.pure and not op.blocks:
            result = self.same.setdefault(_key(op, found), op.result)
        if result is not None and result is not op.result:
            self.of[op.result] = result
        return None

    def _result(self, op: Op, found: list[Found]) -> Found | None:
        """What is known of an op's result, given what is known of its operands."""
        if isinstance(op, shape.Full):
            return float(op.value)
        if isinstance(op.operands[0].type if op.operands else None, Memory):
            return None
        if isinstance(op, ALIKE) and isinstance(found[0], float):
            whole = isinstance(op, Cast) and op.dtype.is_integer and math.isinf(found[0])
            return None if whole else found[0]
        if isinstance(op, reduce.Sum) and found[0] == 0.0:
            return 0.0
        if isinstance(op, reduce.Dot):
            return found[2] if 0.0 in found[:2] else None
        if Trait.ELEMENTWISE in op.traits and found:
            return _evaluated(op, found) if all(isinstance(x, float) for x in found) else (
                _simplified(op, found))  # fmt: skip
        return None


def _writing(op: Op) -> Op | None:
    """The op in another that changes memory, if there is one."""
    inside = [op, *(o for b in op.blocks for o in b.walk())]
    writes = [o for o in inside if Trait.WRITES in o.traits and not o.blocks]
    return writes[0] if writes else None


def _key(op: Op, found: list[Found]) -> Key:
    """Equal for ops with equal results."""
    return (type(op), op.result.type, *found, *map(str, op.attributes.values()))


def _evaluated(op: Op, found: list[Found]) -> float | None:
    """An op on numbers; None where it gives none."""
    with np.errstate(all="ignore"):
        types = [v.type for v in op.operands]
        operands = [np.asarray(x, t.dtype.carrier) for x, t in zip(found, types, strict=True)]  # type: ignore[union-attr]
        out = float(op.evaluate(*operands))
    return None if math.isnan(out) else out


def _simplified(op: Op, found: list[Found]) -> Found | None:
    """An op of which some operands are numbers, or two are equal."""
    match op, found:
        case (arith.Mul() | arith.And(), [_, _]) if 0.0 in found:
            return 0.0
        case (arith.Div() | arith.FloorDiv() | arith.Mod() | arith.Shl() | arith.Shr(), [0.0, _]):
            return 0.0
        case (arith.Add() | arith.Or() | arith.Xor(), [0.0, x] | [x, 0.0]):
            return x
        case (arith.Sub() | arith.Shl() | arith.Shr(), [x, 0.0]):
            return x
        case (arith.Mul(), [1.0, x] | [x, 1.0]) | (arith.Div(), [x, 1.0]):
            return x
        case (arith.Sub(), [a, b]) if a == b:
            return 0.0
        case (arith.Add() | arith.Sub(), [float(a), _]) if math.isinf(a):
            return a
        case (arith.Fma(), [a, b, c]) if 0.0 in (a, b):
            return c
        case (arith.Comparison(), [_, _]):
            return _compared(op, found)
        case _:
            return _selected(op, found)


def _compared(op: Op, found: list[Found]) -> Found | None:
    """A comparison with an infinity, for numbers are finite."""
    if not any(isinstance(x, float) and math.isinf(x) for x in found):
        return None
    return _evaluated(op, [x if isinstance(x, float) else 0.0 for x in found])


def _selected(op: Op, found: list[Found]) -> Found | None:
    """An op that picks one of its operands."""
    match op, found:
        case (arith.Where(), [float(condition), a, b]):
            return a if condition else b
        case (arith.Where(), [_, a, b]) if a == b:
            return a
        case (arith.Maximum(), [x, float(a)] | [float(a), x]) if a == -math.inf:
            return x
        case (arith.Minimum(), [x, float(a)] | [float(a), x]) if a == math.inf:
            return x
        case (arith.Maximum() | arith.Minimum(), [a, b]) if a == b:
            return a
        case _:
            return None
