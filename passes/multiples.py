"""What numbers are multiples of, as far as loops over tiles and constants say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tilec.ir.core import Op, Value
from tilec.ir.dtype import i32
from tilec.ir.ops import arith, shape
from tilec.passes.parts import tile

WRAPS = 1 << 32  # sums and products of i32 keep what they are modulo this


def multiple(v: Value, made: Mapping[Value, Op], steps: Mapping[Value, int]) -> int:
    """The greatest power of two up to 2^32 that an i32 is known to be a multiple of; 1 for others.

    `steps` are the distances of the tiles of spans. Other factors are lost where sums wrap around.
    """
    if tile(v).dtype != i32:
        return 1
    constant, terms = _sum(v, made)
    found = constant % WRAPS or WRAPS
    for leaf, by in terms.items():
        found |= (by % WRAPS or WRAPS) * _leaf(leaf, made, steps)
    return found & -found


def _sum(v: Value, made: Mapping[Value, Op]) -> tuple[int, Counter[Value]]:
    """A number as a constant and a factor for each of what is no sum of others."""
    op = made.get(v)
    match op:
        case shape.Full():
            return int(op.value), Counter()
        case arith.Add() | arith.Sub():
            (first, left), (second, right) = _sum(op.a, made), _sum(op.b, made)
            sign = 1 if isinstance(op, arith.Add) else -1
            for leaf, by in right.items():
                left[leaf] += sign * by
            return first + sign * second, left
        case arith.Mul():
            (first, left), (second, right) = _sum(op.a, made), _sum(op.b, made)
            if left and right:
                return 0, Counter({v: 1})
            terms = {x: by * (second if left else first) for x, by in (left or right).items()}
            return first * second, Counter(terms)
        case _:
            return 0, Counter({v: 1})


def _leaf(v: Value, made: Mapping[Value, Op], steps: Mapping[Value, int]) -> int:
    """The same of what is no sum."""
    match made.get(v):
        case shape.Start() as op:
            step = steps.get(op.span, 1)
            return step & -step
        case arith.Minimum() | arith.Maximum() as op:
            return min(multiple(x, made, steps) for x in (op.a, op.b))
        case _:
            return 1
