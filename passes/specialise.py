"""Dimensions become numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tilec.ir.core import Block, Builder, Func, Op, Value
from tilec.ir.errors import TileError
from tilec.ir.extent import Extent, Sym, substitute
from tilec.ir.types import specialise as specialised
from tilec.passes.pipeline import register


@register("specialise")
def specialise(func: Func, **dims: int) -> Func:
    """Replace named dimensions by numbers in every type and attribute. Raises TileError below 0."""
    for name, n in dims.items():
        if n < 0:
            raise TileError(f"specialise: {name} is {n}; an extent is at least 0")
    return func.replaced(_block(func.body, dict(dims), {}))


def _block(block: Block, known: Mapping[str, Extent], to: dict[Value, Value]) -> Block:
    for p in block.params:
        to[p] = Value(specialised(p.type, known), p.hint)
    b = Builder()
    for op in block.ops:
        b.add(_op(op, known, to))
    return Block(
        tuple(to[p] for p in block.params), tuple(b.ops), tuple(to.get(v, v) for v in block.results)
    )


def renamed(op: Op, known: Mapping[str, Extent]) -> Op:
    """The same op, with symbols replaced in it and in the blocks inside."""
    return _op(op, known, {})


def _op(op: Op, known: Mapping[str, Extent], to: dict[Value, Value]) -> Op:
    changed: dict[str, Any] = {}
    for name in op.fields("block"):
        inner = getattr(op, name)
        if inner is not None:
            changed[name] = _block(inner, known, to)
    for name, value in op.attributes.items():
        changed[name] = attribute(value, known)
    new = op.rebuilt(to, **changed)
    to.update(zip(op.results, new.results, strict=True))
    return new


def attribute(value: Any, known: Mapping[str, Extent]) -> Any:
    """An attribute with symbols replaced by what is known of them."""
    if isinstance(value, Sym):
        return substitute(value, known)
    if isinstance(value, tuple):
        return tuple(attribute(v, known) for v in cast(tuple[Any, ...], value))
    return value
