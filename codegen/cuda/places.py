"""What products read where it lies in shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilec.ir.core import Op, Value
from tilec.ir.ops.machine import InPlace
from tilec.ir.ops.shape import Transpose


@dataclass(frozen=True)
class Place:
    """A slot of a ring, or `turned` the transpose of what lies there."""

    ring: Value
    slot: Value
    turned: bool


def place(v: Value, made: Mapping[Value, Op]) -> Place | None:
    """Where a value lies, if that is in shared memory."""
    op, turned = made.get(v), False
    if isinstance(op, Transpose):
        op, turned = made.get(op.a), True
    return Place(op.mem, op.slot, turned) if isinstance(op, InPlace) else None
