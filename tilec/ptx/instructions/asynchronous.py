"""cp.async: copies from global to shared memory by thread (PTX ISA, 'non-bulk copy').

The bytes are read at once and land when the thread waits for them: the latest legal moment.
"""

from __future__ import annotations

import numpy as np

from tilec.ptx.bytes import scatter
from tilec.ptx.formats import Array
from tilec.ptx.instructions.memory import CACHES
from tilec.ptx.operand import Operand, Register
from tilec.ptx.registry import instruction
from tilec.ptx.shadow import Span
from tilec.ptx.step import Step

OPTIONS = ("shared", "shared::cta", "global", *CACHES)


@instruction("cp.async", OPTIONS, operands=(3, 4, 5))
def cp_async(x: Step) -> None:
    """Copy 4, 8 or 16 bytes; those beyond the source size are zeros."""
    size = x.constant(2)
    rows = _source(x, size)
    shared = x.m.spaces.shared
    address = x.address(0)
    if shared.statistics is not None:
        shared.statistics.shared(x.t, x.i, address, size)
    offsets, good = shared.check(x.t, x.i, address, size, "writes")
    t = x.t
    if good is not None:
        t, offsets, rows = t.subset(good), offsets[good], rows[good]
    shadow = shared.shadow
    span: Span | None = None
    if shadow is not None and t.count:
        span = shadow.span(t, offsets, size)
        shadow.write(span, x.i, None)
        shadow.arriving[span.granules] = x.i.pc + 1
        shadow.flights += t.count

    def land(done: Array) -> None:
        scatter(shared.memory, offsets[done], rows[done])
        if shadow is not None and span is not None:
            landed = Span(t.subset(done), span.granules[done])
            shadow.arriving[landed.granules] = 0
            shadow.flights -= landed.threads.count
            shadow.wrote(landed, x.i, None)

    x.m.copies.issue(x.i, t.ids, land)


def _optional(x: Step) -> tuple[Operand | None, Operand | None]:
    """The source size and the predicate that ignores the source, where they are given."""
    extra = list(x.i.operands[3:])
    if "L2::cache_hint" in x.i.modifiers:
        extra.pop()
    size = ignore = None
    for o in extra:
        if isinstance(o, Register) and o.width == 1:
            ignore = o
        else:
            size = o
    return size, ignore


def _source(x: Step, size: int) -> Array:
    """The bytes to copy, one row per thread."""
    given, ignore = _optional(x)
    many = np.full(x.t.count, size, np.int64)
    if given is not None:
        many = np.minimum(np.broadcast_to(given.bits(x.t, 32), x.t.count).astype(np.int64), size)
    if ignore is not None:
        many = np.where(ignore.bits(x.t, 1), 0, many)
    memory = x.m.spaces.global_
    address = x.address(1)
    if (many == size).all():
        return memory.load(x.t, x.i, address, size)
    rows = np.zeros((x.t.count, size), np.uint8)
    for part in np.unique(many).tolist():
        mask = many == part
        if part:
            rows[mask, :part] = memory.load(x.t.subset(mask), x.i, address[mask], part)
    return rows


@instruction("cp.async.commit_group", operands=0)
def commit_group(x: Step) -> None:
    """Close the group of the copies so far."""
    x.m.copies.commit(x.t.ids)


@instruction("cp.async.wait_group", operands=1)
def wait_group(x: Step) -> None:
    """Wait for all groups but the newest n."""
    x.m.copies.wait(x.t.ids, x.constant(0))


@instruction("cp.async.wait_all", operands=0)
def wait_all(x: Step) -> None:
    """Wait for all copies."""
    x.m.copies.wait(x.t.ids, 0, uncommitted=True)
