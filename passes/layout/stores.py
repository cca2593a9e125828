"""Stores of whole tiles, whose layout is free."""

from __future__ import annotations

from tilec.ir.layout.runs import Row
from tilec.ir.ops.memory import Store, Write
from tilec.ir.types import Memory, Span


def row_of(op: Write) -> Row | None:
    """The rows that whole tiles are stored to; None where elements are left out, picked, added."""
    t, spans = op.mem.type, [i.type for i in op.indices if isinstance(i.type, Span)]
    whole = op.mask is None and len(spans) == len(op.indices)
    if not isinstance(op, Store) or not whole or len(spans) < 2:
        return None
    size, dim = spans[-1].size, spans[-1].dim
    if not (isinstance(t, Memory) and isinstance(size, int) and isinstance(dim, int)):
        return None
    return Row(8 if t.dtype.kind == "bool" else t.dtype.bits, dim, size, dim % size == 0, False)
