"""A product over all of k becomes one for each group of its second operand's scales."""

from __future__ import annotations

from tilec.ir.core import Func, Value
from tilec.ir.ops import memory, reduce, shape
from tilec.ir.scaled import Scaled
from tilec.ir.types import Memory
from tilec.passes.pipeline import register
from tilec.passes.rewrite import Context, Rules, sweep

MOST = 32  # products that one becomes: each has code of its own

_RULES = Rules()


@register("split-groups")
def split_groups(func: Func) -> Func:
    """Make a product whose k is all of a dimension one for each group of the scales along it.

    Before: a product that a loop goes through in steps of k is as it should be, since `tile` takes
    steps that divide groups. After: the scale of a group is one number a row for a whole product,
    which `lower-formats` moves to the accumulator. The sum over k is in another order.
    """
    return sweep(func, _RULES)


@_RULES.pattern(reduce.Dot)
def _by_groups(op: reduce.Dot, c: Context) -> Value | None:
    turned = c.made.get(op.b)
    load = c.made.get(turned.a) if isinstance(turned, shape.Transpose) else None
    if op.scale is not None or op.row_scale is not None or not isinstance(load, memory.Load):
        return None
    every, group = c.made.get(load.indices[-1]), _group(load)
    if not isinstance(every, memory.Whole) or every.size is not None or not group:
        return None
    k = every.dim
    if not isinstance(k, int) or k % group or not 1 < k // group <= MOST:
        return None
    total = op.acc
    for start in range(0, k, group):
        part = c(memory.Whole(k, group, start))
        codes = c(memory.Load(load.mem, (*load.indices[:-1], part), load.cache))
        beside = c(shape.Slice(op.a, 1, start, start + group))
        total = c(reduce.Dot(beside, c(shape.Transpose(codes, (1, 0))), total))
    return total


def _group(load: memory.Load) -> int:
    """How many columns share a scale, 0 where that is none of its traits."""
    assert isinstance(load.mem.type, Memory)
    format = load.mem.type.format
    return (format.group or 0) if isinstance(format, Scaled) else 0
