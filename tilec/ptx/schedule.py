"""Running threads: those at one instruction go together, the rest wait for their turn.

The group furthest behind runs: the one that has gone round loops least (in steps of 32, so that a
spinning group can't keep others from what it waits for), then the one at the lowest instruction.
So groups meet again where their paths do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tilec.ptx.formats import Array
from tilec.ptx.instruction import Instruction
from tilec.ptx.machine import Machine
from tilec.ptx.registry import Form
from tilec.ptx.specials import CLOCKS
from tilec.ptx.step import Exit, Jump, Outcome, Parts, Step, Wait
from tilec.ptx.threads import WARP, Threads

LANES = Wait("lanes", retry=True)
WARPGROUP = 4
TRIPS = 5  # bits of the number of loop trips that do not count in choosing a group


@dataclass
class Group:
    """Threads at one instruction; `version` is that of the mbarriers when it fell asleep."""

    threads: Threads
    pc: int
    trips: int = 0
    wait: Wait | None = None
    version: int = 0

    @property
    def joins(self) -> bool:
        """Whether others that come here may join."""
        return self.wait is None or self.wait.what == "lanes"


class Scheduler:
    """Runs a wave of blocks to its end, to a deadlock or to the limit of steps."""

    def __init__(self, m: Machine, code: list[tuple[Instruction, Form]], limit: int) -> None:
        self.m, self.code, self.limit = m, code, limit
        self.alive = m.alive()
        self.groups: list[Group] = []
        self.steps = 0
        self.stopped = False
        self.seen = -1  # the progress at the last time that everybody slept
        self.clock = any(name in i.text for i, _ in code for name in CLOCKS)

    def run(self) -> bool:
        """Run; whether every thread came to its end."""
        everyone = Threads(self.m.shape, self.m.registers, self.m.shape.everyone())
        self.groups = [Group(everyone, 0)]
        while self.groups and not self.stopped:
            g = self._next()
            if g is not None:
                self._advance(g)
            elif not self._rouse():
                self._deadlock()
                return False
        return not self.stopped

    def _next(self) -> Group | None:
        """Merge groups at one place, and take the one that is furthest behind."""
        if len(self.groups) > 1:
            self._merge()
        best: Group | None = None
        for g in self.groups:
            if g.wait and g.wait.what == "mbarrier" and g.version != self.m.mbarriers.version:
                g.wait = None
            if g.wait is None and (best is None or _order(g) < _order(best)):
                best = g
        if best is not None:
            self.groups.remove(best)
        return best

    def _merge(self) -> None:
        places: dict[int, Group] = {}
        kept: list[Group] = []
        for g in self.groups:
            if g.joins and g.pc in places:
                first = places[g.pc]
                first.threads = first.threads.joined(g.threads)
                first.trips = max(first.trips, g.trips)
                first.wait = None
                continue
            if g.joins:
                places[g.pc] = g
            kept.append(g)
        self.groups = kept

    def _advance(self, g: Group) -> None:
        """Execute until the threads part, wait, end, or come to where others are."""
        others = {h.pc for h in self.groups if h.joins}
        while True:
            i, form = self.code[g.pc]
            self.steps += 1
            if self.steps > self.limit:
                self._exhausted(g, i)
                return
            active, rest = self._active(g, i)
            if active is not None and form.sync:
                active = self._together(g, active, i, form.sync)
            if active is None:
                if not g.threads.count:
                    return
                g.pc += 1
            else:
                outcome = self._execute(active, i, form)
                if outcome is not None:
                    self._part(g, active, rest, outcome)
                    return
                g.pc += 1
            if g.pc in others:
                self.groups.append(g)
                return

    def _active(self, g: Group, i: Instruction) -> tuple[Threads | None, Threads | None]:
        """The threads that a guard lets execute, and the others."""
        if i.guard is None:
            return g.threads, None
        mask = i.guard.bits(g.threads, 1)
        if i.negated:
            mask = ~mask
        many = np.count_nonzero(mask)
        if many == len(mask):
            return g.threads, None
        if many == 0:
            return None, g.threads
        return g.threads.subset(mask), g.threads.subset(~mask)

    def _together(self, g: Group, active: Threads, i: Instruction, sync: str) -> Threads | None:
        """Those whose fellows are all here; the others wait for them, and leave the group."""
        ready = self._complete(active, i, sync)
        if ready is None:
            return active
        lacking = active.subset(~ready)
        self.groups.append(Group(lacking, g.pc, g.trips, LANES))
        stay = ~np.isin(g.threads.ids, lacking.ids)
        g.threads = g.threads.subset(stay)
        return active.subset(ready) if ready.any() else None

    def _complete(self, t: Threads, i: Instruction, sync: str) -> Array | None:
        """Which threads have all those with them that must execute with them (None: all)."""
        if sync != "warpgroup" and t.whole:
            return None
        missing = ~t.active
        if sync in ("mask", "warp"):
            missing = missing & self.alive.reshape(-1, WARP)[t.warps]
        good: Array = ~np.any(missing, axis=1, keepdims=True)
        if sync == "mask":
            rows = t.by_warp(i.operands[-1].bits(t, 32))[:, :, None]
            named = (rows >> np.arange(WARP, dtype=np.uint32) & np.uint32(1)) == 1
            good = ~np.any(named & missing[:, None, :], axis=2)
        elif sync == "warpgroup":
            local = t.warps % t.shape.warps
            group = t.warps // t.shape.warps * t.shape.warps + local // WARPGROUP
            many = np.bincount(group, good[:, 0], minlength=int(group.max()) + 1)
            good = np.equal(many[group], WARPGROUP)[:, None]
        ready = t.by_thread(good)
        return None if ready.all() else ready

    def _execute(self, t: Threads, i: Instruction, form: Form) -> Outcome:
        if self.m.statistics is not None:
            self.m.statistics.executed[i.pc] += len(t.warps)
        if self.clock:
            for name in CLOCKS:
                self.m.registers.specials[name][:] = self.steps
        outcome = form.run(Step(self.m, t, i))
        if self.m.registers.touched:
            self._touched(t, i)
        return outcome

    def _touched(self, t: Threads, i: Instruction) -> None:
        """Report registers that were read before the wgmma that writes them was waited for."""
        message = "uses a register that an asynchronous wgmma has yet to write: nothing waited"
        self.m.findings.add("in-flight", i, message, threads=[t.named(0)])
        self.m.registers.touched.clear()

    def _part(self, g: Group, active: Threads, rest: Threads | None, outcome: Outcome) -> None:
        """Put the threads where an instruction sent them, the rest behind it."""
        if rest is not None:
            self.groups.append(Group(rest, g.pc + 1, g.trips))
        parts = outcome.parts if isinstance(outcome, Parts) else ((active, outcome),)
        for threads, one in parts:
            self._send(g, threads, one)
        self._release()

    def _send(self, g: Group, active: Threads, outcome: Jump | Exit | Wait | None) -> None:
        match outcome:
            case None:
                self.groups.append(Group(active, g.pc + 1, g.trips))
            case Jump(int() as target):
                self.groups.append(Group(active, target, g.trips + (target <= g.pc)))
            case Jump(targets):
                for target in np.unique(targets).tolist():
                    part = active.subset(np.equal(targets, target))
                    self.groups.append(Group(part, target, g.trips + (target <= g.pc)))
            case Exit():
                self._end(active)
            case Wait("stop"):
                self.stopped = True
            case Wait(retry=retry):
                at = g.pc if retry else g.pc + 1
                version = self.m.mbarriers.version
                self.groups.append(Group(active, at, g.trips, outcome, version))
            case _:
                raise TypeError(f"{outcome} is no outcome of an instruction")

    def _end(self, t: Threads) -> None:
        self.alive[t.ids] = False
        self.m.progress += 1
        if self.m.clocks is not None:
            gone = ~self.alive.reshape(-1, WARP)[t.warps].any(axis=1)
            self.m.clocks.depart(t.warps[gone])
        self.m.barriers.depart(t)
        for g in self.groups:
            if g.wait is LANES:
                g.wait = None

    def _release(self) -> None:
        """Wake the threads of the barriers that have opened."""
        for number, blocks in self.m.barriers.opened:
            self.m.progress += 1
            for g in list(self.groups):
                if g.wait and g.wait.what == "barrier" and g.wait.key == number:
                    self._wake(g, np.isin(g.threads.block, blocks))
        self.m.barriers.opened.clear()

    def _wake(self, g: Group, mask: Array) -> None:
        if not mask.any():
            return
        woken = g.threads if mask.all() else g.threads.subset(mask)
        if g.wait is not None and g.wait.then is not None:
            g.wait.then(woken)
        if woken is g.threads:
            g.wait = None
        else:
            self.groups.append(Group(woken, g.pc, g.trips))
            g.threads = g.threads.subset(~mask)

    def _rouse(self) -> bool:
        """Everybody sleeps: let copies come, or try_wait lose patience, where that helps."""
        if self.m.mbarriers.deliver_all():
            return True
        waiting = [g for g in self.groups if g.wait and g.wait.what == "mbarrier"]
        if self.m.progress == self.seen or not waiting:
            return False
        self.seen = self.m.progress
        for g in waiting:
            g.wait = None
        return True

    def _exhausted(self, g: Group, i: Instruction) -> None:
        self.stopped = True
        message = f"{g.threads.count} threads are here after {self.limit} steps, the limit"
        self.m.findings.add("limit", i, message, threads=[g.threads.named(0)])

    def _deadlock(self) -> None:
        """Report every group that waits, and for what."""
        for g in self.groups:
            assert g.wait is not None
            i = self.code[g.pc if g.wait.retry else g.pc - 1][0]
            who = _counted(g.threads)
            block, thread = int(g.threads.block[0]), g.threads.named(0)
            if g.wait is LANES:
                message = f"{who} for other lanes of their warps that never come here"
                self.m.findings.add("divergence", i, message, threads=[thread])
                continue
            if g.wait.what == "barrier":
                here, all_ = self.m.barriers.lacking(g.wait.key, block)
                what = f"barrier {g.wait.key}, where {here} of {all_} threads have arrived"
            else:
                what = self.m.mbarriers.waits(g.wait.key, block)
            self.m.findings.add("deadlock", i, f"{who} at {what}", threads=[thread])


def _counted(t: Threads) -> str:
    return f"{t.count} threads wait" if t.count > 1 else "1 thread waits"


def _order(g: Group) -> tuple[int, int]:
    return g.trips >> TRIPS, g.pc
