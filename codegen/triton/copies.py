"""What keeps copies in loops from moving 16 bytes at a time, which is the most they can."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd

from tilec.ir.core import Func
from tilec.ir.ops import control, memory
from tilec.ir.remark import Remark
from tilec.ir.types import Memory, Span

WIDE = 16  # bytes


def remarks(func: Func) -> tuple[Remark, ...]:
    """A remark for each load of a loop whose rows are known to begin anywhere."""
    loads = (op for loop in func.walk() if isinstance(loop, control.For) for op in loop.body.ops)
    return tuple(dict.fromkeys(_narrow(op for op in loads if isinstance(op, memory.Load))))


def _narrow(loads: Iterator[memory.Load]) -> Iterator[Remark]:
    for op in loads:
        assert isinstance(op.mem.type, Memory)
        *rows, k = op.mem.type.shape or (1,)
        size = op.mem.type.dtype.bits // 8
        if not rows or not size or not isinstance(k, int) or not isinstance(
                op.indices[-1].type, Span):  # fmt: skip
            continue
        step = gcd(k * size, WIDE)
        if step < WIDE:
            message = f"`{op.mem.hint}` is copied {step} bytes at a time: its rows have {k * size}"
            yield Remark("triton", message, op.loc, f"rows of a multiple of {WIDE} bytes")
