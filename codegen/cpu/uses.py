"""How often values are read, and whether only a product reads one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tilec.ir.core import Block, Op, Trait, Value
from tilec.ir.ops import arith, shape
from tilec.ir.ops.memory import Load
from tilec.ir.ops.reduce import Dot
from tilec.ir.types import Shape, Tile


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


def meeting(block: Block) -> set[Value]:
    """Tiles of which all that element-wise ops make of them meets in one other op of the block: it
    asks for each of their elements at one time."""
    users: dict[Value, list[Op | None]] = {v: [None] for v in block.results}
    for op in block.ops:
        for v in op.operands:
            users.setdefault(v, []).append(op)
        for inner in op.blocks:
            for v in often(inner):
                users.setdefault(v, []).append(None)
    made = {v: op for op in block.ops for v in op.results}
    ends: dict[Value, Op | None] = {}  # None: there is no one op
    for op in reversed(block.ops):
        for v in op.results:
            found = {None if _decides(u, made) else _end(v, u, ends, users)
                     for u in users.get(v, ())}  # fmt: skip
            ends[v] = found.pop() if len(found) == 1 else None
    return {v for v, end in ends.items() if end is not None}


def _end(v: Value, user: Op | None, ends: Mapping[Value, Op | None],
         users: Mapping[Value, list[Op | None]]) -> Op | None:  # fmt: skip
    """Where what a user makes of a tile ends; None where it is asked for at several times."""
    if user is None or user.blocks:
        return None
    picks = isinstance(user, Load) and user.result.type.shape == _shape(v)  # type: ignore[union-attr]
    if Trait.ELEMENTWISE in user.traits or picks:
        again = len(users.get(user.result, ())) > 1
        return (ends[user.result] or user) if again else ends[user.result]
    if isinstance(user, shape.Transpose):
        product = users.get(user.result, [])
        return user if len(product) == 1 and isinstance(product[0], Dot) else None
    return None if isinstance(user, (shape.Broadcast, shape.Slice, shape.Reshape)) else user


def _decides(user: Op | None, made: Mapping[Value, Op]) -> bool:
    """Whether an op may compute one of its operands only, in code of its own for each (as
    `consecutive.where` does)."""
    if not isinstance(user, arith.Where):
        return False
    condition = made.get(user.operands[0])
    while isinstance(condition, shape.Broadcast):
        condition = made.get(condition.a)
    return condition is None or isinstance(condition, arith.Lt)


def _shape(v: Value) -> Shape | None:
    return v.type.shape if isinstance(v.type, Tile) else None


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
