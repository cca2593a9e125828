"""Bytes that kernels need not move because several ops are one."""

from __future__ import annotations

from tilec.ir.core import Value
from tilec.ir.types import Memory, Tile
from tilec.passes.cascade import loads, reductions
from tilec.passes.fuse_groups import Group


def bytes_saved(group: Group) -> int:
    """The bytes that a kernel saves, as far as they are known: its sums and products that no memory
    holds, written and read once, and what several of its results are made of, read once.

    Ops on each element count nothing: they would be computed beside a sum or product anyway.
    """
    stored = {r.value for r in group.roots}
    sums = {n.op.result for v in group.values for n in reductions(v) if n.op is not None} - stored
    shared = sum((_readers(m, group) - 1) * (size_of(m) or 0) for m in group.read)
    return sum(2 * (size_of(v) or 0) for v in sums) + shared


def _readers(mem: Value, group: Group) -> int:
    """How many values of a kernel are made of a memory."""
    return sum(any(n.mem is mem for n in loads(v)) for v in group.values)


def size_of(v: Value) -> int | None:
    """The bytes of a value, or of a memory as it is stored, if they are known."""
    if isinstance(v.type, Memory):
        parts = [(c.dtype.bits, c.shape) for c in v.type.format.components(v.type.shape)]
    else:
        assert isinstance(v.type, Tile)
        parts = [(max(v.type.dtype.bits, 8), v.type.shape)]
    total = 0
    for bits, shape in parts:
        n = bits
        for e in shape:
            if not isinstance(e, int):
                return None
            n *= e
        total += -(-n // 8)
    return total
