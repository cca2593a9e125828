"""Kernels of which some warps only copy: what these do, and what the others do."""

from __future__ import annotations

from dataclasses import replace

from tilec.codegen.cuda.control import Walker
from tilec.ir.core import Block, Op, Value
from tilec.ir.errors import TileError
from tilec.ir.ops import control
from tilec.ir.ops.machine import Alone

WARP, WARPGROUP = 32, 128  # threads
REGISTERS, LEFT, MOST = 1 << 16, 32, 240  # of a multiprocessor; of threads that copy, and others


def warps_apart(op: Op) -> int:
    """How many warps copy for an op's others, and do nothing else."""
    inside = (o for b in op.blocks for o in b.walk())
    return max((o.warps for o in inside if isinstance(o, Alone)), default=0)


def registers(threads: int, apart: int) -> tuple[int, int] | None:
    """Registers of a thread that copies and of another, where warpgroups can pass them on and all
    would have fewer than they can use (PTX ISA, setmaxnreg)."""
    if threads % WARPGROUP or apart % WARPGROUP or not apart:
        return None
    start = REGISTERS // (threads + apart) // 8 * 8
    if start > MOST:
        return None
    rest = (start * (threads + apart) - LEFT * apart) // threads
    return LEFT, min(MOST, rest // 8 * 8)


class Roles(Walker):
    """Prints ops; of a task the warps that only copy come first, and are not heard of again."""

    def task(self, block: Block) -> None:
        p = self.p
        if p.apart:
            given = registers(p.threads, p.apart)
            p.line(f"if (thread >= {p.threads}) {{")
            p.depth += 1
            if given:
                p.line(f"registers_fewer<{given[0]}>();")
            p.line(f"if (thread != {p.threads}) return;")
            _Ahead(self, _needed(block)).block(block)
            p.line("return;")
            p.close()
            p.at_loc = None
            if given:
                p.line(f"registers_more<{given[1]}>();")
        super().task(block)

    def alone(self, op: Alone) -> None:
        if not op.warps:
            super().alone(op)


class _Ahead(Walker):
    """Prints some ops, for one thread of the warps that copy."""

    def __init__(self, whole: Walker, ops: set[Op]) -> None:
        super().__init__(whole.p, whole.values.layouts, whole.values.orders, {})
        self.values = replace(whole.values, names=dict(whole.values.names))
        self.ops = ops

    def op(self, op: Op) -> None:
        if op in self.ops:
            super().op(op)

    def alone(self, op: Alone) -> None:
        self.block(op.body)

    def loop(self, op: control.For) -> None:
        self.head(op)
        self.block(op.body)
        self.p.close()


def _needed(block: Block) -> set[Op]:
    """What warps of their own go through: what is `alone`, loops around it, and the numbers that
    these need."""
    wanted, found = set[Value](), set[Op]()
    _need(block, wanted, found)
    return found


def _need(block: Block, wanted: set[Value], found: set[Op]) -> None:
    for op in reversed(block.ops):
        if isinstance(op, Alone):
            found.update(op.body.walk())
            wanted.update(v for o in op.body.walk() for v in o.operands)
        elif isinstance(op, control.For) and warps_apart(op):
            _need(op.body, wanted, found)
            wanted.update(v for v in (op.stop, op.first) if v is not None)
        elif wanted.isdisjoint(op.results):
            continue
        elif op.blocks:
            raise TileError(f"cuda: warps that only copy do not know what {op.name} gives", op.loc)
        else:
            wanted.update(op.operands)
        found.add(op)
