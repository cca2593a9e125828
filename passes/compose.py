"""Composed operands become their parts: sums of products for sums, grids for rows and experts."""

from __future__ import annotations

from tilec.ir.composed import Experts, LowRank, Mixed, Outliers, Permuted, Plus
from tilec.ir.core import Block, Func, Value
from tilec.ir.format import Dense
from tilec.ir.types import Memory
from tilec.passes.experts import split_experts
from tilec.passes.pipeline import register
from tilec.passes.rows import split_rows
from tilec.passes.sums import Sums

SUMS = (Plus, Permuted, LowRank, Outliers)


@register("compose")
def compose(func: Func) -> Func:
    """Replace each parameter of a composed format by the parameters of its parts.

    Before: extents are numbers, tile sizes may be open. After: every format is dense or scaled.
    A product with a sum is a sum of products, exact but for where it is rounded; one with factors
    of low rank is two thin products, of which the first moves to a grid of its own and the second
    behind the loop, where the loop only adds to its accumulator. There, too, the columns of the
    first operand are put into the order of a permuted weight once, in a grid of its own.
    """
    while experts := [p for p in func.params if isinstance(_format(p), Experts)]:
        func = split_experts(func, experts[0])
    while mixed := [p for p in func.params if isinstance(_format(p), Mixed)]:
        func = split_rows(func, mixed[0])
    while sums := [p for p in func.params if isinstance(_format(p), SUMS)]:
        func = _without(func, sums)
    return func


def _without(func: Func, sums: list[Value]) -> Func:
    """The function with the parts of these parameters in their place."""
    lowering = Sums(func, sums)
    body = lowering.body()
    params: list[Value] = []
    for p in func.params:
        params += lowering.parameters[p].all() if p in sums else [p]
    whole = Block((*params, *lowering.scratch), body.ops)
    return func.replaced(whole, *lowering.remarks)


def _format(p: Value) -> object:
    return p.type.format if isinstance(p.type, Memory) else Dense
