"""How often values are read, and whether only a product reads one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tilec.ir.core import Block, Op, Trait, Value
from tilec.ir.ops import shape
from tilec.ir.ops.reduce import Dot


def often(block: Block) -> Counter[Value]:
    """How many times each value is read; reading it from an inner region counts as often."""
    uses: Counter[Value] = Counter(block.results)
    for op in block.ops:
        uses.update(op.operands)
        for inner in op.blocks:
            own = {v for o in inner.walk() for v in o.results} | {
                p for b in _blocks(inner) for p in b.params
            }
            for v, n in often(inner).items():
                uses[v] += n if v in own else 2
    return uses


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for op in block.walk():
        yield from op.blocks


def rows_again(block: Block) -> dict[Value, list[Dot]]:
    """Tiles that only products in regions inside read, as their first operand, and these."""
    found: dict[Value, list[Dot]] = {}
    others: set[Value] = set()
    for b in _blocks(block):
        own = {v for op in b.ops for v in op.results}
        others.update(b.results)
        for op in b.ops:
            rest = op.operands
            if isinstance(op, Dot) and op.a not in own:
                found.setdefault(op.a, []).append(op)
                rest = rest[1:]
            others.update(rest)
    return {v: products for v, products in found.items() if v not in others}


def multiplied(v: Value, users: Mapping[Value, Op], uses: Counter[Value]) -> bool:
    """Whether a tile, or what elementwise ops make of it alone, is nothing but the turned second
    operand of a product."""
    turned = users.get(v)
    while (
        turned is not None
        and Trait.ELEMENTWISE in turned.traits
        and len(turned.operands) == uses[v] == 1
    ):
        v = turned.result
        turned = users.get(v)
    if not isinstance(turned, shape.Transpose) or uses[v] > 1:
        return False
    product = users.get(turned.result)
    alone = isinstance(product, Dot) and product.b is turned.result
    return alone and uses[turned.result] == 1
