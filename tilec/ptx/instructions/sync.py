"""Barriers of blocks and warps, and fences (PTX ISA, `barrier`, `bar.warp.sync`, `fence`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilec.ir.errors import TileError
from tilec.ptx.barriers import CLUSTER
from tilec.ptx.instructions.memory import SCOPES
from tilec.ptx.registry import instruction
from tilec.ptx.step import Jump, Outcome, Parts, Step, Wait
from tilec.ptx.threads import WARP, Threads
from tilec.ptx.types import PRED, U32


@dataclass(frozen=True)
class Arrival:
    """The threads that name one barrier, its number and how many threads open it (0: all)."""

    threads: Threads
    number: int
    count: int


def _arrivals(x: Step, first: int, last: int) -> list[Arrival]:
    """The barriers that the threads name by the operands from `first` to `last`."""
    none = np.zeros(x.t.count, np.uint32)
    numbers = x.row(first, 32) if last > first else none
    counts = x.row(first + 1, 32) if last > first + 1 else none
    found: list[Arrival] = []
    for number, count in np.unique(np.stack([numbers, counts]), axis=1).T.tolist():
        mask = (numbers == number) & (counts == count)
        if number >= CLUSTER:
            raise TileError(f"ptx: {x.i.place}: there are 16 barriers, and no {number}: {x.i.text}")
        if count % WARP:
            x.m.findings.add("barrier", x.i, f"{count} threads are no whole number of warps")
        found.append(Arrival(x.t if mask.all() else x.t.subset(mask), number, count))
    return found


def _arrive(x: Step, first: int, last: int, waits: bool) -> Outcome:
    found = _arrivals(x, first, last)
    for a in found:
        x.m.barriers.arrive(a.threads, x.i, a.number, a.count, waits)
    return Parts(tuple((a.threads, Wait("barrier", a.number)) for a in found)) if waits else None


@instruction("bar.sync bar.cta.sync barrier.sync.aligned barrier.cta.sync.aligned",
             operands=(1, 2), sync="warp")  # fmt: skip
@instruction("barrier.sync barrier.cta.sync", operands=(1, 2))
def bar_sync(x: Step) -> Outcome:
    """Wait until all threads, or the given number of them, have arrived."""
    return _arrive(x, 0, len(x.i.operands), waits=True)


@instruction("bar.arrive bar.cta.arrive barrier.arrive.aligned barrier.cta.arrive.aligned",
             operands=2, sync="warp")  # fmt: skip
@instruction("barrier.arrive barrier.cta.arrive", operands=2)
def bar_arrive(x: Step) -> Outcome:
    """Arrive without waiting."""
    _arrive(x, 0, len(x.i.operands), waits=False)
    return _opened(x)


def _opened(x: Step) -> Outcome:
    """Go on; through the scheduler, so that it wakes whom a barrier let go."""
    return Jump(x.i.pc + 1) if x.m.barriers.opened else None


@instruction("bar.red.popc bar.cta.red.popc barrier.red.popc.aligned barrier.cta.red.popc.aligned",
             types=((U32,),), operands=(3, 4), sync="warp")  # fmt: skip
@instruction("bar.red bar.cta.red barrier.red.aligned barrier.cta.red.aligned", "and or",
             types=((PRED,),), operands=(3, 4), sync="warp")  # fmt: skip
@instruction("barrier.red.popc barrier.cta.red.popc", types=((U32,),), operands=(3, 4))
@instruction("barrier.red barrier.cta.red", "and or", types=((PRED,),), operands=(3, 4))
def bar_red(x: Step) -> Outcome:
    """A barrier that also counts a predicate over its threads, or combines it."""
    last = len(x.i.operands) - 1
    flags = x.row(last, 1)
    found = _arrivals(x, 1, last)
    for a in found:
        x.m.barriers.vote(a.threads, a.number, flags[np.isin(x.t.ids, a.threads.ids)])
        x.m.barriers.arrive(a.threads, x.i, a.number, a.count, waits=True)
    return Parts(
        tuple((a.threads, Wait("barrier", a.number, then=_result(x, a.number))) for a in found)
    )


def _result(x: Step, number: int) -> Callable[[Threads], None]:
    """What sets the result of a reduction for the threads that a barrier lets go."""

    def then(t: Threads) -> None:
        true, votes = x.m.barriers.tally(t, number)
        match x.i.one_of("and", "or"):
            case "and":
                x.operand(0).put(t, true == votes)
            case "or":
                x.operand(0).put(t, true > 0)
            case _:
                x.operand(0).put(t, true.astype(np.uint32))

    return then


@instruction("bar.warp.sync", operands=1, sync="mask")
def warp_sync(x: Step) -> None:
    """Order the lanes of a warp."""
    if x.m.clocks is not None:
        x.m.clocks.synchronise(x.t.warps)


@instruction("barrier.cluster.arrive", "release relaxed acquire aligned", operands=0)
def cluster_arrive(x: Step) -> Outcome:
    """Arrive at the barrier of the cluster, which is that of its one block."""
    x.m.barriers.take_tickets(x.t)
    x.m.barriers.arrive(x.t, x.i, CLUSTER, 0, waits=False)
    return _opened(x)


@instruction("barrier.cluster.wait", "acquire aligned", operands=0)
def cluster_wait(x: Step) -> Outcome:
    """Wait until all threads of the cluster have arrived."""
    waits = x.m.barriers.ticket_waits(x.t)
    if not waits.any():
        return None
    sleep = Wait("barrier", CLUSTER, retry=True)
    if waits.all():
        return sleep
    return Parts(((x.t.subset(waits), sleep), (x.t.subset(~waits), None)))


PROXIES = ("proxy", "alias", "async", "async::generic", "async.global", "tensormap::generic",
           "shared::cta", "shared::cluster", "global", "mbarrier_init",
           "sync_restrict::shared::cta", "sync_restrict::shared::cluster",
           "unidirectional", "to_proxy::async", "from_proxy::generic")  # fmt: skip


@instruction("fence membar", [*PROXIES, *SCOPES, "sc", "acq_rel", "acquire", "release", "gl"],
             operands=(0, 1, 2))  # fmt: skip
def fence(x: Step) -> None:
    """Memory is sequential here; a fence of the asynchronous proxy is noted."""
    if "async" in x.i.modifiers and x.m.clocks is not None:
        x.m.clocks.fence(x.t.warps)
