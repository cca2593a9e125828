"""Copies of whole tiles that one thread starts (TMA), and barriers in shared memory.

Bytes of a row are a piece of the swizzle's width each in shared memory, so one copy fills one
panel of a slot; a tile in fragment order is one run of bytes and needs no tensor map.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tilec.codegen.cuda.parameters import said
from tilec.codegen.cuda.printer import plus
from tilec.codegen.cuda.ring import FragmentRing, Ring, policy
from tilec.codegen.cuda.tiles import Values, dims, memory_type, storage
from tilec.ir.errors import TileError
from tilec.ir.extent import ceil_div
from tilec.ir.ops.machine import Arrive, Await, Barriers, Copy, Expect
from tilec.ir.source import TensorBoxes
from tilec.ir.types import Span

BARRIER = 8  # bytes
WARP = 32  # threads


@dataclass(frozen=True)
class Gates:
    """Barriers under a name for the shared address of the first."""

    name: str

    def at(self, slot: str) -> str:
        """The shared address of a barrier."""
        return f"{self.name} + u32({slot}) * {BARRIER}"


def declare(values: Values, op: Barriers) -> None:
    """A name for barriers; they are made before all else."""
    p = values.p
    hint = "empty" if op.all else "full"
    found = Gates(p.ring(op.result, op.count * BARRIER, BARRIER, hint))
    values.rings[op.result] = found
    arrivals = p.threads // WARP if op.all else 1
    if op.all and p.threads % WARP:
        raise TileError(f"cuda: {p.threads} threads are no whole warps that arrive at a barrier")
    p.made.append(f"for (u32 i = 0; i < {op.count}; i++) "
                  f"mbarrier_init({found.name} + i * {BARRIER}, {arrivals});")  # fmt: skip


def signal(values: Values, op: Arrive | Expect | Await) -> None:
    """Print what threads do at a barrier: a lane arrives when its whole warp is done."""
    p = values.p
    at = values.rings[op.barriers].at(values.scalar(op.slot))
    match op:
        case Arrive():
            p.line("warp_sync();")
            p.line(f"if (thread % {WARP} == 0) mbarrier_arrive({at});")
        case Expect():
            p.line(f"mbarrier_arrive_expect({at}, {op.bytes});")
        case Await():
            p.line(f"mbarrier_wait({at}, u32({values.scalar(op.parity)}));")


def copy(values: Values, op: Copy) -> None:
    """Print the copies of a tile that count on a barrier, by the thread that comes here."""
    assert op.full is not None
    p, ring, slot = values.p, values.rings[op.to], f"u32({values.scalar(op.slot)})"
    full = values.rings[op.full].at(values.scalar(op.slot))
    to = f"{ring.name} + {slot} * {ring.slot}"
    starts = [values.spans[v].start if isinstance(v.type, Span) else values.coordinate(v)
              for v in op.indices]  # fmt: skip
    starts[op.axis] = plus(starts[op.axis], str(op.ahead)) if op.ahead else starts[op.axis]
    if isinstance(ring, FragmentRing):
        rows, columns = ring.order.layout.shape
        across = ceil_div(dims(op.mem)[1], columns)
        number = f"u64({starts[0]}) / {rows} * {across} + ({starts[1]}) / {columns}"
        source = f"{values.names[op.mem]} + ({number}) * {ring.slot}"
        p.line(f"bulk_load({to}, {source}, {ring.slot}, {full}{policy(values, op)});")
        return
    boxes = _boxes(values, op, ring)
    *outer, column = starts
    if ring.bits < 8:
        column = f"({column}) * {ring.bits} / 8"
    panels, step = ring.row // boxes.row, boxes.row // boxes.element
    if panels > 1:
        p.unrolled("i", panels)
        to, column = f"{to} + i * {ring.panel}", plus(column, f"i * {step}")
    at = ", ".join(reversed([*outer, column]))
    load, kept = "tensor_load" + "_kept" * (op.cache is not None), policy(values, op)
    p.line(f"{load}({to}, &{boxes.name}, {full}{kept}, {at});")
    if panels > 1:
        p.close()


def _boxes(values: Values, op: Copy, ring: Ring) -> TensorBoxes:
    """The tensor map of a parameter for the panels of a ring, 1 wide where an index is a number;
    elements of less than a byte are bytes to it."""
    p, mem, (first, *inner) = values.p, op.mem, dims(op.mem)
    known = [d for d in inner if isinstance(d, int)]
    element, row = max(1, ring.bits // 8), known[-1] * storage(memory_type(mem).dtype) // 8
    if ring.pitch != (ring.swizzle or ring.row):
        raise TileError(f"cuda: no copy of a box fills rows of {ring.row} bytes {ring.pitch} apart")
    pitches = tuple(row * prod(known[i:-1]) for i in range(len(known)))
    sizes = iter((*ring.sizes[:-1], ring.pitch // element))
    box = tuple(next(sizes) if isinstance(v.type, Span) else 1 for v in op.indices)
    shape, name = (first, *known[:-1], row // element), said(mem)
    found = TensorBoxes("", name, shape, pitches, box, ring.swizzle, element)
    for known in p.maps:
        if known.same(found):
            return known
    p.maps.append(found.named(p.fresh(f"{name}_boxes")))
    return p.maps[-1]
