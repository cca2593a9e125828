"""Ops on shared memory that threads, or the copy unit, use together: rings, copies, barriers."""

from __future__ import annotations

from tilec.codegen.cuda import bulk, ring
from tilec.codegen.cuda.tiles import Values
from tilec.ir.core import Op
from tilec.ir.errors import TileError
from tilec.ir.ops import machine

SIGNALS = (machine.Arrive, machine.Expect, machine.Await)
SHARED = (machine.Shared, machine.Copy, machine.Commit, machine.Wait, machine.Barriers, *SIGNALS)


def emit(values: Values, op: Op) -> None:
    """Print an op of SHARED."""
    p = values.p
    match op:
        case machine.Shared() | machine.Barriers() if op.result in values.rings:
            pass  # the warps that copy have it already
        case machine.Shared():
            ring.declare(values, op)
        case machine.Barriers():
            bulk.declare(values, op)
        case machine.Copy():
            p.at(op)
            (ring if op.full is None else bulk).copy(values, op)
        case machine.Arrive() | machine.Expect() | machine.Await():
            bulk.signal(values, op)
        case machine.Wait():
            p.line(f"copy_async_wait<{op.pending}>();")
            if values.in_place:
                p.line("fence_async();")
            p.barrier()
        case machine.Commit():
            p.line("copy_async_commit();")
        case _:
            raise TileError(f"cuda: {op.name} has nothing to do with shared memory", op.loc)
