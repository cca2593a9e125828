"""One form for programs that mean the same: constants known, equal ops merged, dead ones gone."""

from __future__ import annotations

from collections import ChainMap
from typing import Any

from tilec.ir.core import Block, Builder, Func, Op, Trait, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import mentioned, names
from tilec.ir.ops import control
from tilec.ir.text import attribute, show
from tilec.passes.identities import RULES
from tilec.passes.pipeline import register
from tilec.passes.rewrite import sweep


@register("canonicalize")
def canonicalize(func: Func, *, rounds: int = 32) -> Func:
    """Apply exact identities, merge equal ops, hoist invariants, drop dead ops: until all is still.

    The meaning stays the same to the bit. Raises TileError if it is not still after `rounds`.
    """
    text = show(func)
    for _ in range(rounds):
        func = sweep(func, RULES)
        func = func.replaced(_merge(func.body, {}, ChainMap[Any, Op]()))
        func = func.replaced(_hoist(func.body, {}))
        func = func.replaced(_prune(func.body))
        before, text = text, show(func)
        if text == before:
            return func
    raise TileError(f"canonicalize: {func.name} still changes after {rounds} rounds")


def _merge(block: Block, to: dict[Value, Value], seen: ChainMap[Any, Op]) -> Block:
    """Equal pure ops become the first of them, where that is defined in this block or around it."""
    b = Builder()
    for op in block.ops:
        inner: dict[str, Any] = {}
        for name in op.fields("block"):
            # A task of a grid computes its own values: none are passed between threads.
            scope = ChainMap[Any, Op]() if isinstance(op, control.Grid) else seen.new_child()
            child = getattr(op, name)
            inner[name] = child and _merge(child, to, scope)
        new = op.rebuilt(to, **inner)
        first = seen.setdefault(_key(new), new) if op.traits.pure else new
        if first is new:
            b.add(new)
        to.update(zip(op.results, first.results, strict=True))
    return _ended(block, b, to)


def _key(op: Op) -> tuple[object, ...]:
    """Equal for ops that compute the same; attributes by their text, where 0.0 is not -0.0."""
    operands = [id(v) for v in op.operands]
    if Trait.COMMUTATIVE in op.traits:
        operands.sort()
    return type(op), tuple(operands), *map(attribute, op.attributes.values())


def _ended(block: Block, b: Builder, to: dict[Value, Value]) -> Block:
    return Block(block.params, tuple(b.ops), tuple(to.get(v, v) for v in block.results))


def _hoist(block: Block, to: dict[Value, Value]) -> Block:
    """Pure ops of a loop's body that depend on nothing of an iteration move before the loop."""
    b = Builder()
    for op in block.ops:
        inner = {n: getattr(op, n) for n in op.fields("block")}
        inner = {n: child and _hoist(child, to) for n, child in inner.items()}
        if isinstance(op, control.For | control.Count):
            sizes = names(op.size) if isinstance(op, control.For) else frozenset[str]()
            moved, inner["body"] = _split(inner["body"], sizes)
            b.ops += moved
        new = b.add(op.rebuilt(to, **inner))
        to.update(zip(op.results, new.results, strict=True))
    return _ended(block, b, to)


def _split(body: Block, sizes: frozenset[str]) -> tuple[list[Op], Block]:
    """The ops that do not depend on the iteration, and the body without them.

    A tile whose extent is the loop's size symbol depends on it: at the edge it is clipped.
    """
    moved: list[Op] = []
    kept: list[Op] = []
    varying = set(body.params)
    for op in body.ops:
        extents = mentioned(tuple(op.attributes.values()))
        if op.traits.pure and varying.isdisjoint(op.operands) and sizes.isdisjoint(extents):
            moved.append(op)
        else:
            kept.append(op)
            varying.update(op.results)
    return moved, Block(body.params, tuple(kept), body.results)


def _prune(body: Block) -> Block:
    """Without the ops whose results nobody uses and that change nothing."""
    needed: set[Op] = set()
    _need(body, set(), needed)
    return _kept(body, {}, needed)


def _need(block: Block, used: set[Value], needed: set[Op]) -> None:
    used.update(block.results)
    for op in reversed(block.ops):
        if _acts(op) or not used.isdisjoint(op.results):
            needed.add(op)
            used.update(op.operands)
            for inner in op.blocks:
                _need(inner, used, needed)


def _acts(op: Op) -> bool:
    """Whether running the op is seen from outside: it writes, or it may never end."""
    if op.blocks:
        inside = (o for b in op.blocks for o in b.walk())
        return isinstance(op, control.While) or any(_acts(o) for o in inside)
    return Trait.WRITES in op.traits


def _kept(block: Block, to: dict[Value, Value], needed: set[Op]) -> Block:
    b = Builder()
    for op in block.ops:
        if op in needed:
            b.copy(op, to, lambda inner: _kept(inner, to, needed))
    return _ended(block, b, to)
